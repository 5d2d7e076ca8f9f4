//! Reads the grain directories of a sparse extent, and lists the sectors that hold metadata.

use std::os::unix::fs::FileExt;

use super::{
    super::{
        directory::{Directory, words},
        header::{FORMAT, TABLE_SECTORS},
        malformed,
    },
    SparseExtent,
};
use crate::{DiskError, SECTOR_BYTES, open_file::Access};

/// Entries of the largest directory that is read: 62 TiB in grains of 64 KiB.
const MAX_DIRECTORY_ENTRIES: u64 = 1 << 21;

impl SparseExtent {
    /// Reads the grain directories. When only reading, one good directory of two is enough.
    pub(in crate::vmdk) fn read_directories(&mut self) -> Result<(), DiskError> {
        let primary = self.read_directory(self.header.directory);
        let redundant = self
            .header
            .redundant_directory()
            .map(|sector| self.read_directory(sector));
        self.directories = match (primary, redundant, self.access) {
            (Ok(primary), None, _) => vec![primary],
            (Ok(primary), Some(Ok(redundant)), _) => vec![primary, redundant],
            (Ok(primary), Some(Err(_)), Access::Read) => vec![primary],
            (Err(_), Some(Ok(redundant)), Access::Read) => vec![redundant],
            (Err(error), _, _) | (Ok(_), Some(Err(error)), Access::ReadWrite) => return Err(error),
        };
        Ok(())
    }

    fn read_directory(&self, sector: u64) -> Result<Directory, DiskError> {
        let bad = |reason: String| malformed(&self.path, FORMAT, reason);
        let count = self.header.tables();
        if count > MAX_DIRECTORY_ENTRIES {
            return Err(bad(format!("its grain directory has {count} entries")));
        }
        let start_bytes = sector.saturating_mul(SECTOR_BYTES);
        let cut_off = !self.reaches(start_bytes.saturating_add(count * 4))?;
        if sector == 0 || cut_off {
            return Err(bad(format!(
                "its grain directory at sector {sector} is outside the file"
            )));
        }
        let mut bytes = vec![0; count as usize * 4];
        self.file
            .read_exact_at(&mut bytes, start_bytes)
            .map_err(DiskError::io("read the grain directory of", &self.path))?;
        let tables: Vec<u32> = words(&bytes).collect();
        for (index, table) in tables.iter().enumerate().filter(|(_, table)| **table != 0) {
            let start = u64::from(*table);
            if !self.reaches((start + TABLE_SECTORS) * SECTOR_BYTES)? {
                return Err(bad(format!(
                    "grain table {index} at sector {start} is outside the file"
                )));
            }
            if self.is_metadata(start, TABLE_SECTORS) {
                return Err(bad(format!(
                    "grain table {index} lies on other metadata, at sector {start}"
                )));
            }
        }
        Directory::new(sector, tables)
            .map_err(|table| bad(format!("two grain tables overlap at sector {table}")))
    }

    /// Whether a run of sectors touches header, descriptor, directories or tables.
    pub(in crate::vmdk) fn is_metadata_or_table(&self, sector: u64, sectors: u64) -> bool {
        self.is_metadata(sector, sectors)
            || self
                .directories
                .iter()
                .any(|directory| directory.has_table_in(sector, sectors))
    }

    fn is_metadata(&self, sector: u64, sectors: u64) -> bool {
        let directory_sectors = (self.header.tables() * 4).div_ceil(SECTOR_BYTES);
        let directories = [
            Some(self.header.directory),
            self.header.redundant_directory(),
        ];
        let overlaps = |start: u64, len: u64| {
            sector < start.saturating_add(len) && start < sector.saturating_add(sectors)
        };
        overlaps(0, 1)
            || overlaps(self.header.descriptor, self.header.descriptor_len)
            || directories
                .into_iter()
                .flatten()
                .any(|start| overlaps(start, directory_sectors))
    }
}
