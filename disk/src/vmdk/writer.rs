//! Writes a sparse disk of one file from front to back: grains strictly one after the other, the
//! metadata in front of them last, so that a file left half written is no valid disk.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt, path::PathBuf};

use super::{
    GRAIN_BYTES,
    header::{
        DESCRIPTOR_SECTORS, ENTRY_ZERO, MAX_FILE_SECTORS, SparseLayout, TABLE_ENTRIES,
        TABLE_SECTORS,
    },
    template::{ParentLink, Template, TemplateExtent, sectors_of},
};
use crate::{DiskError, SECTOR_BYTES};

/// Tables that are written at once: 512 KiB.
const TABLES_PER_WRITE: usize = 256;

/// Where a writer puts its bytes. What was never written must read as zeros.
pub trait WriteAt {
    /// Writes all of `buf` at `offset_bytes`, growing the file where needed.
    ///
    /// # Errors
    /// What the system says.
    fn write_at(&mut self, offset_bytes: u64, buf: &[u8]) -> io::Result<()>;
}

impl WriteAt for File {
    fn write_at(&mut self, offset_bytes: u64, buf: &[u8]) -> io::Result<()> {
        self.write_all_at(buf, offset_bytes)
    }
}

/// What a new sparse disk of one file is to be.
#[derive(Debug, Clone, Default)]
pub struct SparseOptions {
    /// Name of the file, for the extent line.
    pub file_name: String,
    /// Size of the disk in bytes, whole sectors.
    pub capacity_bytes: u64,
    /// Content id.
    pub content_id: u32,
    /// The parent, for a delta.
    pub parent: Option<ParentLink>,
    /// `ddb.adapterType`, for example `lsilogic`.
    pub adapter_type: String,
    /// `ddb.virtualHWVersion`.
    pub hardware_version: u32,
    /// Further entries of the disk database (keys without `ddb.`), for example `uuid` or
    /// `geometry.cylinders`, perhaps all of another disk's
    /// [`Descriptor::ddb`](super::Descriptor::ddb). They win over the fields above.
    pub ddb: BTreeMap<String, String>,
}

/// Writes a monolithicSparse disk, grains in any order of their indexes, each once.
#[derive(Debug)]
pub struct SparseWriter<W> {
    sink: W,
    path: PathBuf,
    layout: SparseLayout,
    /// None for a part of a split disk.
    descriptor: Option<String>,
    is_delta: bool,
    capacity_bytes: u64,
    /// Tables with at least one entry.
    tables: Vec<Option<Box<[u32]>>>,
    /// Where the next grain goes.
    next_sector: u64,
    has_zero_grains: bool,
}

impl<W: WriteAt> SparseWriter<W> {
    /// Begins a disk in `sink`, which must be empty; nothing is written yet.
    ///
    /// # Errors
    /// [`DiskError::Refused`] for a capacity that is not a whole number of sectors, 0 or too large,
    /// and for names that a descriptor cannot hold.
    pub fn new(
        sink: W,
        path_for_errors: impl Into<PathBuf>,
        options: &SparseOptions,
    ) -> Result<Self, DiskError> {
        let path = path_for_errors.into();
        let sectors = sectors_of(&path, options.capacity_bytes)?;
        let descriptor = Template {
            create_type: "monolithicSparse",
            content_id: options.content_id,
            parent: options.parent.as_ref(),
            extents: vec![TemplateExtent {
                sectors,
                is_flat: false,
                file_name: options.file_name.clone(),
            }],
            adapter_type: &options.adapter_type,
            hardware_version: options.hardware_version,
            ddb: &options.ddb,
        }
        .render(&path)?;
        if descriptor.len() as u64 > DESCRIPTOR_SECTORS * SECTOR_BYTES {
            return Err(DiskError::Refused {
                path,
                reason: format!(
                    "its descriptor has {} bytes, but there is room for {}",
                    descriptor.len(),
                    DESCRIPTOR_SECTORS * SECTOR_BYTES
                ),
            });
        }
        Self::begin(
            sink,
            path,
            sectors,
            Some(descriptor),
            options.parent.is_some(),
        )
    }

    /// Begins one part of a split disk.
    pub(super) fn new_part(sink: W, path: PathBuf, sectors: u64) -> Result<Self, DiskError> {
        Self::begin(sink, path, sectors, None, false)
    }

    fn begin(
        sink: W,
        path: PathBuf,
        sectors: u64,
        descriptor: Option<String>,
        is_delta: bool,
    ) -> Result<Self, DiskError> {
        let layout = SparseLayout::new(sectors, descriptor.is_some()).map_err(|reason| {
            DiskError::Refused {
                path: path.clone(),
                reason,
            }
        })?;
        let mut tables = Vec::new();
        tables.resize_with(layout.header().tables() as usize, || None);
        Ok(Self {
            sink,
            path,
            next_sector: layout.header().overhead,
            layout,
            descriptor,
            is_delta,
            capacity_bytes: sectors * SECTOR_BYTES,
            tables,
            has_zero_grains: false,
        })
    }

    /// Appends the grain that begins at byte `grain_index` × [`GRAIN_BYTES`] of the disk. All grains
    /// have [`GRAIN_BYTES`]; the last ends with the disk.
    ///
    /// # Errors
    /// [`DiskError::Refused`] for a grain outside the disk, of another length, or given before, and
    /// where the file would exceed 2 TiB; [`DiskError::Io`], after which the same grain may be given
    /// again.
    pub fn write_grain(&mut self, grain_index: u64, data: &[u8]) -> Result<(), DiskError> {
        self.check_new(grain_index)?;
        let expected = GRAIN_BYTES.min(self.capacity_bytes - grain_index * GRAIN_BYTES);
        if data.len() as u64 != expected {
            return Err(self.refused(format!(
                "grain {grain_index} has {} bytes instead of {expected}",
                data.len()
            )));
        }
        let sectors = GRAIN_BYTES / SECTOR_BYTES;
        let address = match u32::try_from(self.next_sector) {
            Ok(address) if self.next_sector + sectors <= MAX_FILE_SECTORS => address,
            _ => return Err(self.refused("a sparse VMDK file cannot exceed 2 TiB".to_owned())),
        };
        let start_bytes = self.next_sector * SECTOR_BYTES;
        if expected == GRAIN_BYTES {
            self.put(start_bytes, data)?;
        } else {
            // Grains are stored whole, the last as well.
            let mut whole = data.to_vec();
            whole.resize(GRAIN_BYTES as usize, 0);
            self.put(start_bytes, &whole)?;
        }
        self.set_entry(grain_index, address);
        self.next_sector += sectors;
        Ok(())
    }

    /// Marks a grain as zeros, which in a delta hide the parent. In a base a grain that is not
    /// stored reads as zeros anyway, and nothing is marked.
    ///
    /// # Errors
    /// [`DiskError::Refused`] for a grain outside the disk or given before.
    pub fn zero_grain(&mut self, grain_index: u64) -> Result<(), DiskError> {
        self.check_new(grain_index)?;
        if self.is_delta {
            self.has_zero_grains = true;
            self.set_entry(grain_index, ENTRY_ZERO);
        }
        Ok(())
    }

    /// Where the first grain goes, in bytes: all metadata lies before it.
    pub fn data_start_bytes(&self) -> u64 {
        self.layout.header().overhead * SECTOR_BYTES
    }

    /// Writes all metadata, the header last, and gives back the sink. Syncing is the caller's.
    ///
    /// # Errors
    /// [`DiskError::Io`].
    pub fn finish(mut self) -> Result<W, DiskError> {
        let overhead = self.layout.header().overhead;
        if self.next_sector == overhead {
            // Without grains the file would end before its last tables.
            let last = (overhead - 1) * SECTOR_BYTES;
            self.put(last, &[0; SECTOR_BYTES as usize])?;
        }
        self.write_tables(self.layout.redundant_tables)?;
        self.write_tables(self.layout.primary_tables)?;
        for (sector, bytes) in self.layout.directories() {
            self.put(sector * SECTOR_BYTES, &bytes)?;
        }
        if let Some(descriptor) = self.descriptor.take() {
            let at = self.layout.header().descriptor * SECTOR_BYTES;
            self.put(at, descriptor.as_bytes())?;
        }
        let header = if self.has_zero_grains {
            self.layout.header_with_zero_grains().to_bytes()
        } else {
            self.layout.header().to_bytes()
        };
        self.put(0, &header)?;
        Ok(self.sink)
    }

    /// Writes one set of tables; runs of empty ones stay holes.
    fn write_tables(&mut self, first_sector: u64) -> Result<(), DiskError> {
        let mut at = first_sector * SECTOR_BYTES;
        let mut bytes = Vec::new();
        for run in self.tables.chunks(TABLES_PER_WRITE) {
            bytes.clear();
            if run.iter().any(Option::is_some) {
                for table in run {
                    match table {
                        Some(entries) => {
                            bytes.extend(entries.iter().flat_map(|entry| entry.to_le_bytes()));
                        }
                        None => {
                            bytes.resize(bytes.len() + (TABLE_SECTORS * SECTOR_BYTES) as usize, 0);
                        }
                    }
                }
                self.sink
                    .write_at(at, &bytes)
                    .map_err(DiskError::io("write", &self.path))?;
            }
            at += run.len() as u64 * TABLE_SECTORS * SECTOR_BYTES;
        }
        Ok(())
    }

    fn check_new(&self, grain_index: u64) -> Result<(), DiskError> {
        let grains = self.layout.header().grains();
        if grain_index >= grains {
            return Err(self.refused(format!(
                "grain {grain_index} is outside a disk of {grains} grains"
            )));
        }
        let table = self.tables.get((grain_index / TABLE_ENTRIES) as usize);
        let entry = table
            .and_then(Option::as_ref)
            .and_then(|entries| entries.get((grain_index % TABLE_ENTRIES) as usize));
        match entry {
            None | Some(0) => Ok(()),
            Some(_) => Err(self.refused(format!("grain {grain_index} was given twice"))),
        }
    }

    fn set_entry(&mut self, grain_index: u64, entry: u32) {
        if let Some(table) = self.tables.get_mut((grain_index / TABLE_ENTRIES) as usize) {
            let entries = table.get_or_insert_with(|| [0; TABLE_ENTRIES as usize].into());
            if let Some(place) = entries.get_mut((grain_index % TABLE_ENTRIES) as usize) {
                *place = entry;
            }
        }
    }

    fn put(&mut self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.sink
            .write_at(offset_bytes, bytes)
            .map_err(DiskError::io("write", &self.path))
    }

    fn refused(&self, reason: String) -> DiskError {
        DiskError::Refused {
            path: self.path.clone(),
            reason,
        }
    }
}

/// The size in bytes of the file that a [`SparseWriter`] makes of a disk with `data_grains` grains.
pub fn estimate_bytes(capacity_bytes: u64, data_grains: u64) -> u64 {
    let metadata_sectors = SparseLayout::new(capacity_bytes.div_ceil(SECTOR_BYTES), true)
        .map_or(0, |layout| layout.header().overhead);
    (metadata_sectors * SECTOR_BYTES).saturating_add(data_grains.saturating_mul(GRAIN_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps nothing.
    #[derive(Debug)]
    struct Nowhere;

    impl WriteAt for Nowhere {
        fn write_at(&mut self, _offset_bytes: u64, _buf: &[u8]) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_file_ends_before_two_tebibytes() {
        let options = SparseOptions {
            file_name: "a.vmdk".to_owned(),
            capacity_bytes: 3 << 40,
            ..SparseOptions::default()
        };
        let mut writer = SparseWriter::new(Nowhere, "a.vmdk", &options).unwrap();
        let grain = vec![1; GRAIN_BYTES as usize];
        writer.next_sector = MAX_FILE_SECTORS - GRAIN_BYTES / SECTOR_BYTES;
        writer.write_grain(7, &grain).unwrap();
        let error = writer.write_grain(8, &grain).unwrap_err();
        assert!(matches!(error, DiskError::Refused { .. }), "{error}");
    }
}
