//! A grain directory of a sparse extent: the places of its grain tables.

use super::header::TABLE_SECTORS;

/// A grain directory.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) sector: u64,
    /// The sector of each grain table, 0 where it is missing.
    pub(super) tables: Vec<u32>,
    /// The sectors of the tables that exist, in ascending order.
    sorted: Vec<u32>,
}

impl Directory {
    /// A directory at a sector, with the entries that were read there; or the sector at which two tables overlap.
    pub(super) fn new(sector: u64, tables: Vec<u32>) -> Result<Self, u32> {
        let mut sorted: Vec<u32> = tables.iter().copied().filter(|table| *table != 0).collect();
        sorted.sort_unstable();
        match overlapping(&sorted, TABLE_SECTORS) {
            Some(table) => Err(table),
            None => Ok(Self {
                sector,
                tables,
                sorted,
            }),
        }
    }

    /// Whether a run of sectors touches one of the tables.
    pub(super) fn has_table_in(&self, sector: u64, sectors: u64) -> bool {
        let next = self
            .sorted
            .partition_point(|table| u64::from(*table) + TABLE_SECTORS <= sector);
        self.sorted
            .get(next)
            .is_some_and(|table| u64::from(*table) < sector + sectors)
    }

    /// Enters a table that was added to the file.
    pub(super) fn add(&mut self, index: usize, sector: u32) {
        if let Some(entry) = self.tables.get_mut(index) {
            *entry = sector;
            let place = self.sorted.partition_point(|table| *table < sector);
            self.sorted.insert(place, sector);
        }
    }
}

/// The first of these sectors, in ascending order, that is less than `len` behind the one before.
pub(super) fn overlapping(sorted: &[u32], len: u64) -> Option<u32> {
    let next = sorted.iter().skip(1);
    sorted
        .iter()
        .zip(next)
        .find(|(a, b)| u64::from(**b - **a) < len)
        .map(|(_, b)| *b)
}

/// Little-endian 32-bit numbers, as directories and tables hold them.
pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| u32::from_le_bytes(*word))
}
