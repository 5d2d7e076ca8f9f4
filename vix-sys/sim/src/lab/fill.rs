//! Content for simulated disks and state files: the same for the same seed, half of it compressible.

use std::path::Path;

use virtuozo_disk::vmdk::{GRAIN_BYTES, WritableDisk};

use crate::{
    core::error::{Result, SimError},
    stamps::mix,
};

/// Bytes that do not compress.
pub(crate) fn pseudo_random(seed: u64, len_bytes: usize) -> Vec<u8> {
    let mut state = mix(seed);
    let mut bytes: Vec<u8> = std::iter::from_fn(|| {
        state = mix(state);
        Some(state.to_le_bytes())
    })
    .take(len_bytes.div_ceil(8))
    .flatten()
    .collect();
    bytes.truncate(len_bytes);
    bytes
}

/// Lines of text.
fn text(seed: u64, len_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len_bytes + 80);
    let mut number = seed % 10_000;
    while bytes.len() < len_bytes {
        let line = format!("{number:08} the guest wrote this line of its log and went on\n");
        bytes.extend_from_slice(line.as_bytes());
        number += 1;
    }
    bytes.truncate(len_bytes);
    bytes
}

/// Writes `fill_bytes` (in whole grains) over a disk, evenly spread.
pub(super) fn fill_disk(path: &Path, seed: u64, fill_bytes: u64) -> Result<()> {
    let mut disk = WritableDisk::open(path)?;
    let grains = disk.size_bytes() / GRAIN_BYTES;
    let wanted = (fill_bytes / GRAIN_BYTES).min(grains);
    let len_bytes = usize::try_from(GRAIN_BYTES)
        .map_err(|error| SimError::new(vix_sys::VIX_E_INVALID_ARG, error.to_string()))?;
    for number in 0..wanted {
        let seed = mix(seed ^ number);
        let data = if number % 2 == 0 {
            pseudo_random(seed, len_bytes)
        } else {
            text(seed, len_bytes)
        };
        disk.write_at(number * grains / wanted * GRAIN_BYTES, &data)?;
    }
    Ok(disk.sync()?)
}
