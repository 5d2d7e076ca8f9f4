//! Writes into a sparse extent that a guest uses: new grains go to the end of the file, both sets of
//! tables follow.
//!
//! Order of writes: a grain before the entries that name it, the redundant entry before the primary
//! one. A crash in between leaves a grain that nothing names, never an entry without its grain.

use std::os::unix::fs::FileExt;

use super::{
    header::{ENTRY_ZERO, MAX_FILE_SECTORS, TABLE_ENTRIES, TABLE_SECTORS},
    sparse::{Grain, SparseExtent},
};
use crate::{DiskError, SECTOR_BYTES, source::check_bounds};

/// Fills a buffer with what lies below this extent, from an offset in bytes inside the extent.
pub(super) type Below<'a> = dyn FnMut(u64, &mut [u8]) -> Result<(), DiskError> + 'a;

impl SparseExtent {
    /// Writes whole sectors; the rest of a grain that was absent comes from `below`.
    pub(super) fn write_at(
        &mut self,
        offset_bytes: u64,
        data: &[u8],
        below: &mut Below<'_>,
    ) -> Result<(), DiskError> {
        check_bounds(offset_bytes, data.len() as u64, self.size_bytes())?;
        let mut at = offset_bytes;
        let mut rest = data;
        while !rest.is_empty() {
            let room = self.grain_bytes() - at % self.grain_bytes();
            let (piece, tail) = rest.split_at(rest.len().min(room as usize));
            self.write_in_grain(at, piece, below)?;
            at += piece.len() as u64;
            rest = tail;
        }
        Ok(())
    }

    /// Makes a run of sectors read as zeros, without storing them where the format allows it.
    pub(super) fn write_zeros(
        &mut self,
        offset_bytes: u64,
        len_bytes: u64,
        is_delta: bool,
        below: &mut Below<'_>,
    ) -> Result<(), DiskError> {
        check_bounds(offset_bytes, len_bytes, self.size_bytes())?;
        let end_bytes = offset_bytes + len_bytes;
        let mut at = offset_bytes;
        while at < end_bytes {
            let index = at / self.grain_bytes();
            let grain_start = index * self.grain_bytes();
            let grain_end = (grain_start + self.grain_bytes()).min(self.size_bytes());
            let piece_end = grain_end.min(end_bytes);
            let is_whole = at == grain_start && piece_end == grain_end;
            match self.grain(index)? {
                Grain::Zero => {}
                Grain::Absent if !is_delta => {}
                Grain::Absent if is_whole && self.header.has_zero_grains() => {
                    self.set_entry(index, ENTRY_ZERO)?;
                }
                Grain::Absent | Grain::At(_) => {
                    let zeros = vec![0; (piece_end - at) as usize];
                    self.write_in_grain(at, &zeros, below)?;
                }
            }
            at = piece_end;
        }
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), DiskError> {
        self.file
            .sync_data()
            .map_err(DiskError::io("sync", &self.path))
    }

    fn write_in_grain(
        &mut self,
        at: u64,
        piece: &[u8],
        below: &mut Below<'_>,
    ) -> Result<(), DiskError> {
        let grain_bytes = self.grain_bytes();
        let index = at / grain_bytes;
        let in_grain = at % grain_bytes;
        let grain = self.grain(index)?;
        if let Grain::At(byte) = grain {
            return self.write_file(byte + in_grain, piece);
        }
        let mut whole = vec![0; grain_bytes as usize];
        let in_disk = grain_bytes.min(self.size_bytes() - index * grain_bytes) as usize;
        if grain == Grain::Absent
            && piece.len() < in_disk
            && let Some(shown) = whole.get_mut(..in_disk)
        {
            below(index * grain_bytes, shown)?;
        }
        whole
            .iter_mut()
            .skip(in_grain as usize)
            .zip(piece)
            .for_each(|(to, from)| *to = *from);
        let sector = self.append(&whole, self.header.grain)?;
        self.set_entry(index, sector)
    }

    /// Writes at the end of the file, at a multiple of `align` sectors; gives the sector.
    fn append(&mut self, bytes: &[u8], align: u64) -> Result<u32, DiskError> {
        let file_bytes = self
            .file
            .metadata()
            .map_err(DiskError::io("read the size of", &self.path))?
            .len();
        let sector = file_bytes
            .div_ceil(SECTOR_BYTES)
            .max(self.header.overhead)
            .next_multiple_of(align);
        let end = sector + bytes.len() as u64 / SECTOR_BYTES;
        match u32::try_from(sector) {
            Ok(address) if end <= MAX_FILE_SECTORS => {
                self.write_file(sector * SECTOR_BYTES, bytes)?;
                Ok(address)
            }
            _ => Err(DiskError::Refused {
                path: self.path.clone(),
                reason: "a sparse VMDK file cannot grow beyond 2 TiB".to_owned(),
            }),
        }
    }

    fn set_entry(&mut self, grain: u64, entry: u32) -> Result<(), DiskError> {
        let table_index = grain / TABLE_ENTRIES;
        let in_table = grain % TABLE_ENTRIES;
        for place in (0..self.directories.len()).rev() {
            let table = self.table_for_writing(place, table_index)?;
            let at = u64::from(table) * SECTOR_BYTES + in_table * 4;
            self.write_file(at, &entry.to_le_bytes())?;
        }
        self.change_cached(table_index, in_table as usize, entry);
        Ok(())
    }

    /// The sector of a table in the directory at `place`; a missing one is added, with what the
    /// primary one holds.
    fn table_for_writing(&mut self, place: usize, table_index: u64) -> Result<u32, DiskError> {
        let index = table_index as usize;
        let Some(directory) = self.directories.get(place) else {
            return Ok(0);
        };
        let directory_sector = directory.sector;
        match directory.tables.get(index) {
            Some(sector) if *sector != 0 => return Ok(*sector),
            _ => {}
        }
        let mut table = vec![0; (TABLE_SECTORS * SECTOR_BYTES) as usize];
        if self.has_table(table_index) {
            let entries = self.table(table_index)?;
            let bytes = entries.iter().flat_map(|entry| entry.to_le_bytes());
            table
                .iter_mut()
                .zip(bytes)
                .for_each(|(to, from)| *to = from);
        }
        let sector = self.append(&table, 1)?;
        let at = directory_sector * SECTOR_BYTES + table_index * 4;
        self.write_file(at, &sector.to_le_bytes())?;
        if let Some(directory) = self.directories.get_mut(place) {
            directory.add(index, sector);
        }
        Ok(sector)
    }

    fn write_file(&self, at_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file
            .write_all_at(bytes, at_bytes)
            .map_err(DiskError::io("write", &self.path))
    }
}
