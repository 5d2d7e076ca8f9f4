//! What several tests of disks share.

use std::path::Path;

use virtuozo_disk::{
    BlockSource,
    vmdk::{Chain, CreateOptions, DiskKind, WritableDisk},
};

/// A reproducible source of numbers (splitmix64).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// A whole source, read at once.
pub(crate) fn source_bytes(source: &dyn BlockSource) -> Vec<u8> {
    let mut bytes = vec![0xaa; source.size_bytes() as usize];
    source.read_at(0, &mut bytes).unwrap();
    bytes
}

/// A whole disk with its parents.
pub(crate) fn chain_bytes(path: &Path) -> Vec<u8> {
    source_bytes(&Chain::open(path, &[]).unwrap())
}

/// A small disk; split kinds get parts of whole grains, as qemu can only read those.
pub(crate) fn create_options(kind: DiskKind, capacity_bytes: u64) -> CreateOptions {
    CreateOptions {
        kind,
        capacity_bytes,
        adapter_type: "lsilogic".to_owned(),
        hardware_version: 7,
        content_id: 0x1234_abcd,
        max_extent_sectors: Some(5120),
    }
}

/// Writes runs of random sectors to a disk and to what it should then hold.
pub(crate) fn random_writes(
    rng: &mut Rng,
    disk: &mut WritableDisk,
    model: &mut [u8],
    count: usize,
) {
    let sectors = model.len() as u64 / 512;
    for _ in 0..count {
        let from = rng.below(sectors);
        let len = (1 + rng.below(300)).min(sectors - from);
        let (from, to) = ((from * 512) as usize, ((from + len) * 512) as usize);
        rng.fill(&mut model[from..to]);
        disk.write_at(from as u64, &model[from..to]).unwrap();
    }
}
