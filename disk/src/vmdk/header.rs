//! The header of a sparse extent, and where a new one's tables lie.
//!
//! Field offsets: VMware's "Virtual Disk Format 5.0" technical note, checked against images of
//! VMware's products and qemu.

use std::path::Path;

use super::{GRAIN_BYTES, malformed};
use crate::{DiskError, SECTOR_BYTES};

/// How an error names this format.
pub(super) const FORMAT: &str = "sparse VMDK extent";
/// First bytes of the file.
pub(super) const MAGIC: [u8; 4] = *b"KDMV";
/// Entries in one grain table; nothing writes any other number.
pub(super) const TABLE_ENTRIES: u64 = 512;
/// Sectors of one grain table.
pub(super) const TABLE_SECTORS: u64 = TABLE_ENTRIES * 4 / SECTOR_BYTES;
/// Table entry of a grain that is zeros without being stored ([`FLAG_ZERO_GRAINS`]).
pub(super) const ENTRY_ZERO: u32 = 1;
/// Sectors kept for an embedded descriptor.
pub(super) const DESCRIPTOR_SECTORS: u64 = 20;
/// The largest disk any VMware product makes, 62 TiB.
pub(super) const MAX_CAPACITY_SECTORS: u64 = 62 << 31;
/// Grain and table addresses are 32-bit sectors, so a file ends before 2 TiB.
pub(super) const MAX_FILE_SECTORS: u64 = 1 << 32;

const FLAG_NEWLINE_TEST: u32 = 0x1;
const FLAG_REDUNDANT: u32 = 0x2;
const FLAG_ZERO_GRAINS: u32 = 0x4;
const FLAGS_STREAM: u32 = 0x3_0000;
const NEWLINE_TEST: [u8; 4] = [0x0a, 0x20, 0x0d, 0x0a];
const DIRECTORY_AT_END: u64 = u64::MAX;
const GRAIN_SECTORS: u64 = GRAIN_BYTES / SECTOR_BYTES;
/// 8 MiB; usual is 64 KiB. A whole grain is held in memory when one is added.
const MAX_GRAIN_SECTORS: u64 = 16384;

/// The first sector of a sparse extent. Addresses and sizes are in sectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SparseHeader {
    version: u32,
    flags: u32,
    pub(super) capacity: u64,
    pub(super) grain: u64,
    pub(super) descriptor: u64,
    pub(super) descriptor_len: u64,
    redundant_directory: u64,
    pub(super) directory: u64,
    pub(super) overhead: u64,
}

impl SparseHeader {
    /// Reads a header and refuses what cannot be read by the rest of this module.
    pub(super) fn parse(path: &Path, sector: &[u8; 512]) -> Result<Self, DiskError> {
        let bad = |reason: String| malformed(path, FORMAT, reason);
        if field::<4>(sector, 0) != MAGIC {
            return Err(bad("it does not begin with KDMV".to_owned()));
        }
        let u32_at = |at| u32::from_le_bytes(field(sector, at));
        let u64_at = |at| u64::from_le_bytes(field(sector, at));
        let header = Self {
            version: u32_at(4),
            flags: u32_at(8),
            capacity: u64_at(12),
            grain: u64_at(20),
            descriptor: u64_at(28),
            descriptor_len: u64_at(36),
            redundant_directory: u64_at(48),
            directory: u64_at(56),
            overhead: u64_at(64),
        };
        if header.flags & FLAG_NEWLINE_TEST != 0 && field::<4>(sector, 73) != NEWLINE_TEST {
            return Err(bad(
                "line ends in it were changed; it was once copied as a text file".to_owned(),
            ));
        }
        let compression = u16::from_le_bytes(field(sector, 77));
        if compression != 0
            || header.flags & FLAGS_STREAM != 0
            || header.directory == DIRECTORY_AT_END
        {
            return Err(DiskError::Unsupported {
                path: path.to_owned(),
                reason: "it is a streamOptimized disk, which no guest can run from; convert it \
                         (vmware-vdiskmanager -r, or qemu-img convert)"
                    .to_owned(),
            });
        }
        if !(1..=3).contains(&header.version) {
            return Err(DiskError::Unsupported {
                path: path.to_owned(),
                reason: format!("version {} of sparse extents is not known", header.version),
            });
        }
        if !header.grain.is_power_of_two() || header.grain > MAX_GRAIN_SECTORS {
            return Err(bad(format!("its grain size is {} sectors", header.grain)));
        }
        let entries = u64::from(u32_at(44));
        if entries != TABLE_ENTRIES {
            return Err(bad(format!("its grain tables have {entries} entries")));
        }
        if header.capacity > MAX_CAPACITY_SECTORS {
            return Err(bad(format!("its capacity is {} sectors", header.capacity)));
        }
        Ok(header)
    }

    /// The header as it is stored.
    pub(super) fn to_bytes(&self) -> [u8; 512] {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend(MAGIC);
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(self.capacity.to_le_bytes());
        bytes.extend(self.grain.to_le_bytes());
        bytes.extend(self.descriptor.to_le_bytes());
        bytes.extend(self.descriptor_len.to_le_bytes());
        bytes.extend((TABLE_ENTRIES as u32).to_le_bytes());
        bytes.extend(self.redundant_directory.to_le_bytes());
        bytes.extend(self.directory.to_le_bytes());
        bytes.extend(self.overhead.to_le_bytes());
        bytes.push(0); // closed cleanly
        bytes.extend(NEWLINE_TEST);
        let mut sector = [0; 512];
        sector
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = from);
        sector
    }

    /// Whether [`ENTRY_ZERO`] means a grain of zeros.
    pub(super) fn has_zero_grains(&self) -> bool {
        self.flags & FLAG_ZERO_GRAINS != 0
    }

    /// Where the second set of tables begins, if there is one.
    pub(super) fn redundant_directory(&self) -> Option<u64> {
        (self.flags & FLAG_REDUNDANT != 0 && self.redundant_directory != 0)
            .then_some(self.redundant_directory)
    }

    /// Grains the disk is cut into; the last may be shorter.
    pub(super) fn grains(&self) -> u64 {
        self.capacity.div_ceil(self.grain)
    }

    /// Entries of a grain directory.
    pub(super) fn tables(&self) -> u64 {
        self.grains().div_ceil(TABLE_ENTRIES)
    }
}

/// Where everything lies in a new sparse extent, in sectors, as VMware's products lay it: header,
/// descriptor, redundant directory and tables, primary directory and tables, then grains.
#[derive(Debug, Clone)]
pub(super) struct SparseLayout {
    header: SparseHeader,
    pub(super) redundant_tables: u64,
    pub(super) primary_tables: u64,
}

impl SparseLayout {
    /// The layout for a disk or part of `capacity` sectors, or the reason why there can be none.
    pub(super) fn new(capacity: u64, with_descriptor: bool) -> Result<Self, String> {
        if capacity == 0 || capacity > MAX_CAPACITY_SECTORS {
            return Err(format!(
                "a capacity of {capacity} sectors is not between 1 and {MAX_CAPACITY_SECTORS}"
            ));
        }
        let mut header = SparseHeader {
            version: 1,
            flags: FLAG_NEWLINE_TEST | FLAG_REDUNDANT,
            capacity,
            grain: GRAIN_SECTORS,
            descriptor: u64::from(with_descriptor),
            descriptor_len: if with_descriptor {
                DESCRIPTOR_SECTORS
            } else {
                0
            },
            redundant_directory: 0,
            directory: 0,
            overhead: 0,
        };
        let directory_sectors = (header.tables() * 4).div_ceil(SECTOR_BYTES);
        let tables_sectors = header.tables() * TABLE_SECTORS;
        header.redundant_directory = 1 + header.descriptor_len;
        let redundant_tables = header.redundant_directory + directory_sectors;
        header.directory = redundant_tables + tables_sectors;
        let primary_tables = header.directory + directory_sectors;
        header.overhead = (primary_tables + tables_sectors).next_multiple_of(GRAIN_SECTORS);
        Ok(Self {
            header,
            redundant_tables,
            primary_tables,
        })
    }

    pub(super) fn header(&self) -> &SparseHeader {
        &self.header
    }

    /// The header for a file in which some entries are [`ENTRY_ZERO`].
    pub(super) fn header_with_zero_grains(&self) -> SparseHeader {
        SparseHeader {
            version: 2,
            flags: self.header.flags | FLAG_ZERO_GRAINS,
            ..self.header.clone()
        }
    }

    /// Both grain directories as they are stored, redundant first, each with the sector it begins at.
    pub(super) fn directories(&self) -> [(u64, Vec<u8>); 2] {
        let directory = |first_table: u64| {
            (0..self.header.tables())
                .flat_map(|table| ((first_table + table * TABLE_SECTORS) as u32).to_le_bytes())
                .collect()
        };
        [
            (
                self.header.redundant_directory,
                directory(self.redundant_tables),
            ),
            (self.header.directory, directory(self.primary_tables)),
        ]
    }
}

/// `N` bytes of a sector from `at` on.
fn field<const N: usize>(sector: &[u8; 512], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.iter_mut()
        .zip(sector.iter().skip(at))
        .for_each(|(to, from)| *to = *from);
    out
}
