//! Reads one sparse extent: header, grain directories, grain tables (as they are needed, a bounded
//! number in memory), grains.

mod directories;

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    directory::{Directory, overlapping, words},
    header::{ENTRY_ZERO, FORMAT, SparseHeader, TABLE_ENTRIES, TABLE_SECTORS},
    malformed,
};
use crate::{
    BlockRange, DiskError, OpenFile, RangeKind, SECTOR_BYTES, open_file::Access,
    source::check_bounds,
};

/// Grain tables held in memory per extent: 8 KiB, for 128 MiB of disk. Disks are read from front to back, and one may
/// have thousands of extents.
const CACHED_TABLES: usize = 4;

/// One sparse extent.
#[derive(Debug)]
pub(super) struct SparseExtent {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) header: SparseHeader,
    /// The primary one, then the redundant one. When only reading a damaged one is left out; for
    /// writing both must be good.
    pub(super) directories: Vec<Directory>,
    pub(super) access: Access,
    size_bytes: u64,
    /// The file's size when last looked at; another process may make it grow.
    file_bytes: AtomicU64,
    tables: Mutex<Vec<Option<CachedTable>>>,
}

/// A grain table in memory, cut to the grains the disk has.
#[derive(Debug)]
struct CachedTable {
    index: u64,
    entries: Arc<Vec<u32>>,
}

/// Where a grain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grain {
    Absent,
    Zero,
    /// Stored, at this byte of the file.
    At(u64),
}

impl Grain {
    fn kind(self) -> RangeKind {
        match self {
            Self::Absent => RangeKind::Absent,
            Self::Zero => RangeKind::Zero,
            Self::At(_) => RangeKind::Data,
        }
    }
}

impl SparseExtent {
    /// Opens the extent that the descriptor says has `sectors` sectors.
    pub(super) fn open(opened: OpenFile, sectors: u64, access: Access) -> Result<Self, DiskError> {
        let (path, file_bytes) = (opened.path().to_owned(), opened.size_bytes());
        let file = opened.into_file();
        let header = read_header(&file, &path, file_bytes)?;
        // A capacity rounded up to whole grains is the same disk. Any other has sectors that the guest, or the
        // backup, does not see.
        if header.capacity != sectors && header.capacity != sectors.next_multiple_of(header.grain) {
            return Err(malformed(
                &path,
                FORMAT,
                format!(
                    "it has {} sectors, but the descriptor says {sectors}",
                    header.capacity
                ),
            ));
        }
        let mut extent = Self {
            file,
            path,
            directories: Vec::new(),
            access,
            size_bytes: sectors * SECTOR_BYTES,
            file_bytes: AtomicU64::new(file_bytes),
            tables: Mutex::new(Vec::new()),
            header,
        };
        extent.read_directories()?;
        Ok(extent)
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(super) fn grain_bytes(&self) -> u64 {
        self.header.grain * SECTOR_BYTES
    }

    pub(super) fn range_at(&self, offset_bytes: u64) -> Result<BlockRange, DiskError> {
        check_bounds(offset_bytes, 1, self.size_bytes)?;
        let first = offset_bytes / self.grain_bytes();
        let (kind, end_grain) = match self.missing_tables_end(first) {
            Some(end_grain) => (RangeKind::Absent, end_grain),
            None => {
                let table_index = first / TABLE_ENTRIES;
                let table = self.table(table_index)?;
                let in_table = (first % TABLE_ENTRIES) as usize;
                let mut kinds = table
                    .iter()
                    .skip(in_table)
                    .map(|e| self.grain_of(*e).kind());
                let kind = kinds.next().unwrap_or(RangeKind::Absent);
                let run = 1 + kinds.take_while(|next| *next == kind).count() as u64;
                (kind, first + run)
            }
        };
        let end_bytes = end_grain
            .saturating_mul(self.grain_bytes())
            .min(self.size_bytes);
        Ok(BlockRange {
            offset_bytes,
            len_bytes: end_bytes - offset_bytes,
            kind,
        })
    }

    /// Fills `buf`; grains that are not stored read as zeros.
    pub(super) fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        check_bounds(offset_bytes, buf.len() as u64, self.size_bytes)?;
        let grain_bytes = self.grain_bytes();
        let mut at = offset_bytes;
        let mut rest = buf;
        while !rest.is_empty() {
            let index = at / grain_bytes;
            let start = self.grain(index)?;
            let in_grain = at % grain_bytes;
            let mut len = grain_bytes - in_grain;
            // Grains that follow each other in the file are read at once.
            while len < rest.len() as u64 {
                let expected = match start {
                    Grain::At(byte) => Grain::At(byte + in_grain + len),
                    other => other,
                };
                if self.grain((at + len) / grain_bytes)? != expected {
                    break;
                }
                len += grain_bytes;
            }
            let len = len.min(rest.len() as u64);
            let (piece, tail) = rest.split_at_mut(len as usize);
            match start {
                Grain::At(byte) => self
                    .file
                    .read_exact_at(piece, byte + in_grain)
                    .map_err(DiskError::io("read", &self.path))?,
                Grain::Absent | Grain::Zero => piece.fill(0),
            }
            rest = tail;
            at += len;
        }
        Ok(())
    }

    /// Where grain `index` (inside the disk) is.
    pub(super) fn grain(&self, index: u64) -> Result<Grain, DiskError> {
        let table_index = index / TABLE_ENTRIES;
        if !self.has_table(table_index) {
            return Ok(Grain::Absent);
        }
        let table = self.table(table_index)?;
        let entry = table.get((index % TABLE_ENTRIES) as usize).copied();
        Ok(self.grain_of(entry.unwrap_or(0)))
    }

    fn grain_of(&self, entry: u32) -> Grain {
        match entry {
            0 => Grain::Absent,
            ENTRY_ZERO if self.header.has_zero_grains() => Grain::Zero,
            sector => Grain::At(u64::from(sector) * SECTOR_BYTES),
        }
    }

    pub(super) fn has_table(&self, index: u64) -> bool {
        self.directories
            .first()
            .and_then(|directory| directory.tables.get(index as usize))
            .is_some_and(|sector| *sector != 0)
    }

    /// If the table of grain `first` is missing, the first grain after it and all missing tables
    /// that follow.
    fn missing_tables_end(&self, first: u64) -> Option<u64> {
        let table_index = first / TABLE_ENTRIES;
        let missing = self.directories.first().map_or(0, |directory| {
            let from = directory.tables.iter().skip(table_index as usize);
            from.take_while(|sector| **sector == 0).count() as u64
        });
        (missing > 0).then(|| (table_index + missing) * TABLE_ENTRIES)
    }

    /// Reads all grain tables.
    pub(super) fn check_tables(&self) -> Result<(), DiskError> {
        (0..self.header.tables())
            .filter(|index| self.has_table(*index))
            .try_for_each(|index| self.load_table(index).map(drop))
    }

    /// A grain table that is not missing, from memory or the file.
    pub(super) fn table(&self, index: u64) -> Result<Arc<Vec<u32>>, DiskError> {
        let slot = index as usize % CACHED_TABLES;
        let mut tables = self.tables.lock();
        if let Some(Some(cached)) = tables.get(slot)
            && cached.index == index
        {
            return Ok(Arc::clone(&cached.entries));
        }
        let entries = Arc::new(self.load_table(index)?);
        if tables.is_empty() {
            tables.resize_with(CACHED_TABLES, || None);
        }
        if let Some(place) = tables.get_mut(slot) {
            *place = Some(CachedTable {
                index,
                entries: Arc::clone(&entries),
            });
        }
        Ok(entries)
    }

    /// Changes an entry of a table in memory, if it is there.
    pub(super) fn change_cached(&mut self, table_index: u64, in_table: usize, entry: u32) {
        let tables = self.tables.get_mut();
        if let Some(Some(cached)) = tables.get_mut(table_index as usize % CACHED_TABLES)
            && cached.index == table_index
            && let Some(place) = Arc::make_mut(&mut cached.entries).get_mut(in_table)
        {
            *place = entry;
        }
    }

    /// Reads a table through the first directory in which it is good.
    fn load_table(&self, index: u64) -> Result<Vec<u32>, DiskError> {
        let mut first_error = None;
        // What is written must not rest on a table that only its copy made up for.
        let usable = match self.access {
            Access::Read => self.directories.len(),
            Access::ReadWrite => 1,
        };
        for directory in self.directories.iter().take(usable) {
            let sector = directory.tables.get(index as usize).copied().unwrap_or(0);
            match self.load_table_at(index, sector) {
                Ok(entries) => return Ok(entries),
                Err(error) => _ = first_error.get_or_insert(error),
            }
        }
        Err(first_error.unwrap_or_else(|| {
            malformed(
                &self.path,
                FORMAT,
                format!("grain table {index} is missing"),
            )
        }))
    }

    fn load_table_at(&self, index: u64, sector: u32) -> Result<Vec<u32>, DiskError> {
        if sector == 0 {
            return Err(malformed(
                &self.path,
                FORMAT,
                format!("grain table {index} is missing"),
            ));
        }
        let mut bytes = vec![0; (TABLE_SECTORS * SECTOR_BYTES) as usize];
        self.file
            .read_exact_at(&mut bytes, u64::from(sector) * SECTOR_BYTES)
            .map_err(DiskError::io("read a grain table of", &self.path))?;
        let first_grain = index * TABLE_ENTRIES;
        let grains = (self.header.grains() - first_grain).min(TABLE_ENTRIES);
        let entries: Vec<u32> = words(&bytes).take(grains as usize).collect();
        for (grain, entry) in (first_grain..).zip(&entries) {
            if let Grain::At(byte) = self.grain_of(*entry) {
                self.check_grain(grain, byte)?;
            }
        }
        let mut sorted: Vec<u32> = entries
            .iter()
            .copied()
            .filter(|entry| matches!(self.grain_of(*entry), Grain::At(_)))
            .collect();
        sorted.sort_unstable();
        if let Some(sector) = overlapping(&sorted, self.header.grain) {
            return Err(malformed(
                &self.path,
                FORMAT,
                format!("two grains of table {index} overlap at sector {sector}"),
            ));
        }
        Ok(entries)
    }

    /// A grain must lie inside the file and outside all metadata.
    fn check_grain(&self, grain: u64, byte: u64) -> Result<(), DiskError> {
        let in_disk_bytes = self.size_bytes.saturating_sub(grain * self.grain_bytes());
        let len_bytes = in_disk_bytes.min(self.grain_bytes());
        let end_bytes = byte + len_bytes;
        if !self.reaches(end_bytes)? {
            return Err(malformed(
                &self.path,
                FORMAT,
                format!(
                    "it is cut off: grain {grain} should end at byte {end_bytes}, but the file has \
                     {} bytes",
                    self.file_bytes.load(Ordering::Relaxed)
                ),
            ));
        }
        if self.is_metadata_or_table(byte / SECTOR_BYTES, self.header.grain) {
            return Err(malformed(
                &self.path,
                FORMAT,
                format!("grain {grain} lies on the metadata, at byte {byte}"),
            ));
        }
        Ok(())
    }

    /// Whether the file is at least `end_bytes` long.
    pub(super) fn reaches(&self, end_bytes: u64) -> Result<bool, DiskError> {
        if end_bytes <= self.file_bytes.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let now_bytes = self
            .file
            .metadata()
            .map_err(DiskError::io("read the size of", &self.path))?
            .len();
        self.file_bytes.store(now_bytes, Ordering::Relaxed);
        Ok(end_bytes <= now_bytes)
    }
}

/// Reads the header of the sparse extent in `file`.
pub(super) fn read_header(
    file: &File,
    path: &Path,
    file_bytes: u64,
) -> Result<SparseHeader, DiskError> {
    let mut sector = [0; SECTOR_BYTES as usize];
    if file_bytes < SECTOR_BYTES {
        return Err(malformed(
            path,
            FORMAT,
            format!("it has only {file_bytes} bytes"),
        ));
    }
    file.read_exact_at(&mut sector, 0)
        .map_err(DiskError::io("read", path))?;
    SparseHeader::parse(path, &sector)
}
