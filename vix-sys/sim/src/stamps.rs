//! The stamps that simulated guests write: which sector the k-th write goes to, what it holds, and
//! whether disks hold exactly the writes 1..=K up to one instant.
//!
//! A guest writes k = 1, 2, 3, … for ever, over all its disks. [`place`] says where each goes, so that
//! disks alone tell which instant they show: every place must hold the last write that went there.

use virtuozo_disk::{BlockSource, DiskError, SECTOR_BYTES};

/// Sectors in one area of stamps.
const AREA_SECTORS: u64 = 16;
/// Most areas on one disk: so many grains grow in a delta at most.
const MAX_AREAS: u64 = 64;
/// Sectors of a grain: areas lie in different grains.
const GRAIN_SECTORS: u64 = 128;

const MAGIC: &[u8; 16] = b"virtuozo-stamp-1";
const SECTOR: usize = SECTOR_BYTES as usize;
const CHECKSUM_AT: usize = SECTOR - 8;

/// One write of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the write, from 1.
    pub k: u64,
    /// The guest's seed.
    pub seed: u64,
    /// Number of the disk, in the order of devices.
    pub disk: usize,
    /// Sector on that disk.
    pub sector: u64,
}

/// The places for stamps on one disk.
#[derive(Debug, Clone, Copy)]
struct Areas {
    seed: u64,
    disk: usize,
    count: u64,
    /// Grains from one area to the next.
    stride: u64,
}

impl Areas {
    fn new(seed: u64, disk: usize, size_bytes: u64) -> Self {
        let grains = size_bytes / (GRAIN_SECTORS * SECTOR_BYTES);
        let count = grains.min(MAX_AREAS);
        Self {
            seed,
            disk,
            count,
            stride: grains.checked_div(count).unwrap_or(0),
        }
    }

    fn slots(&self) -> u64 {
        self.count * AREA_SECTORS
    }

    /// First sector of an area: somewhere in a grain somewhere in its part of the disk.
    fn start(&self, area: u64) -> u64 {
        let scatter = mix(self.seed ^ mix(area) ^ mix(self.disk as u64).rotate_left(17));
        let grain = area * self.stride + scatter % self.stride.max(1);
        grain * GRAIN_SECTORS + (scatter >> 32) % (GRAIN_SECTORS - AREA_SECTORS + 1)
    }
}

fn areas(seed: u64, sizes_bytes: &[u64]) -> Vec<Areas> {
    sizes_bytes
        .iter()
        .enumerate()
        .map(|(disk, size)| Areas::new(seed, disk, *size))
        .collect()
}

fn place_in(seed: u64, k: u64, areas: &[Areas]) -> Option<(usize, u64)> {
    let slots: u64 = areas.iter().map(Areas::slots).sum();
    let mut slot = mix(seed.wrapping_add(mix(k))).checked_rem(slots)?;
    for disk in areas {
        if slot < disk.slots() {
            let sector = disk.start(slot / AREA_SECTORS) + slot % AREA_SECTORS;
            return Some((disk.disk, sector));
        }
        slot -= disk.slots();
    }
    None
}

/// Where the `k`-th write of a guest goes: number of the disk and sector. None if no disk has 64 KiB.
pub fn place(seed: u64, k: u64, sizes_bytes: &[u64]) -> Option<(usize, u64)> {
    place_in(seed, k, &areas(seed, sizes_bytes))
}

/// Places all writes of one guest without working out its areas each time.
#[derive(Debug)]
pub struct Placer {
    seed: u64,
    areas: Vec<Areas>,
}

impl Placer {
    /// For a guest with disks of these sizes, in the order of devices.
    pub fn new(seed: u64, sizes_bytes: &[u64]) -> Self {
        Self {
            seed,
            areas: areas(seed, sizes_bytes),
        }
    }

    /// As [`place`].
    pub fn place(&self, k: u64) -> Option<(usize, u64)> {
        place_in(self.seed, k, &self.areas)
    }
}

/// The sector that a write puts on the disk.
pub fn encode(stamp: &Stamp) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    let fields = [stamp.k, stamp.seed, stamp.disk as u64, stamp.sector];
    let mut state = stamp.k;
    let filler = std::iter::from_fn(|| {
        state = mix(state);
        Some(state)
    });
    let bytes = MAGIC
        .iter()
        .copied()
        .chain(fields.into_iter().chain(filler).flat_map(u64::to_le_bytes));
    for (target, byte) in sector.iter_mut().take(CHECKSUM_AT).zip(bytes) {
        *target = byte;
    }
    let (body, checksum) = sector.split_at_mut(CHECKSUM_AT);
    checksum.copy_from_slice(&fnv1a(body).to_le_bytes());
    sector
}

/// The stamp in a sector; none if it holds something else.
///
/// # Errors
/// A sentence, if the sector begins as a stamp but is not a whole one.
pub fn decode(sector: &[u8]) -> Result<Option<Stamp>, String> {
    if !sector.starts_with(MAGIC) {
        return Ok(None);
    }
    let field = |at: usize| {
        let bytes = sector.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    let stamp = || {
        Some(Stamp {
            k: field(16)?,
            seed: field(24)?,
            disk: usize::try_from(field(32)?).ok()?,
            sector: field(40)?,
        })
    };
    match stamp() {
        Some(stamp) if encode(&stamp) == *sector => Ok(Some(stamp)),
        _ => Err("a stamp is torn: half of it is of another write".to_owned()),
    }
}

/// All stamps on a guest's disks, which are given in the order of devices.
///
/// # Errors
/// A sentence: a disk cannot be read, a stamp is torn or lies where it was not written.
pub fn read(seed: u64, disks: &[&dyn BlockSource]) -> Result<Vec<Stamp>, String> {
    read_with(seed, &sizes(disks), |disk, offset_bytes, buf| {
        disks
            .get(disk)
            .map_or(Ok(()), |source| source.read_at(offset_bytes, buf))
    })
}

fn sizes(disks: &[&dyn BlockSource]) -> Vec<u64> {
    disks.iter().map(|disk| disk.size_bytes()).collect()
}

/// As [`read`], through any way to read a disk.
pub(crate) fn read_with(
    seed: u64,
    sizes_bytes: &[u64],
    read_at: impl Fn(usize, u64, &mut [u8]) -> Result<(), DiskError>,
) -> Result<Vec<Stamp>, String> {
    let mut found = Vec::new();
    let mut buf = [0; AREA_SECTORS as usize * SECTOR];
    for disk in areas(seed, sizes_bytes) {
        for area in 0..disk.count {
            let start = disk.start(area);
            read_at(disk.disk, start * SECTOR_BYTES, &mut buf)
                .map_err(|error| format!("disk {}: {error}", disk.disk))?;
            for (sector, bytes) in (start..).zip(buf.chunks(SECTOR)) {
                let place = || format!("disk {}, sector {sector}", disk.disk);
                let Some(stamp) = decode(bytes).map_err(|why| format!("{}: {why}", place()))?
                else {
                    continue;
                };
                if (stamp.seed, stamp.disk, stamp.sector) != (seed, disk.disk, sector) {
                    return Err(format!(
                        "{}: holds a stamp of another place: {stamp:?}",
                        place()
                    ));
                }
                found.push(stamp);
            }
        }
    }
    Ok(found)
}

/// Checks that a guest's disks (all of them, in the order of devices) hold exactly the writes 1..=K
/// for one K, which is returned: nothing newer, nothing missing, nothing torn. 0 if they hold none.
///
/// # Errors
/// A sentence that says which place holds what instead of what.
pub fn check(seed: u64, disks: &[&dyn BlockSource]) -> Result<u64, String> {
    let sizes = sizes(disks);
    let mut found: std::collections::HashMap<(usize, u64), u64> = read(seed, disks)?
        .into_iter()
        .map(|stamp| ((stamp.disk, stamp.sector), stamp.k))
        .collect();
    let highest = found.values().copied().max().unwrap_or(0);
    let placer = Placer::new(seed, &sizes);
    let slots: u64 = placer.areas.iter().map(Areas::slots).sum();
    let mut seen = std::collections::HashSet::new();
    for k in (1..=highest).rev() {
        if seen.len() as u64 == slots {
            break;
        }
        let Some(place) = placer.place(k) else { break };
        if !seen.insert(place) {
            continue;
        }
        let (disk, sector) = place;
        match found.remove(&place) {
            Some(held) if held == k => {}
            Some(held) => {
                return Err(format!(
                    "disk {disk}, sector {sector} holds write {held}, but the newest is {highest} and write {k} went there"
                ));
            }
            None => {
                return Err(format!(
                    "disk {disk}, sector {sector} holds no write, but the newest is {highest} and write {k} went there"
                ));
            }
        }
    }
    match found.into_iter().next() {
        None => Ok(highest),
        Some(((disk, sector), k)) => Err(format!(
            "disk {disk}, sector {sector} holds write {k}, which does not belong there"
        )),
    }
}

/// A number spread over 64 bits (the finaliser of SplitMix64).
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The 64-bit FNV-1a hash.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use virtuozo_disk::{BlockRange, RangeKind};

    use super::*;

    const MIB: u64 = 1 << 20;

    struct Memory(Mutex<Vec<u8>>);

    impl BlockSource for Memory {
        fn size_bytes(&self) -> u64 {
            self.0.lock().len() as u64
        }
        fn range_at(&self, offset_bytes: u64) -> Result<BlockRange, DiskError> {
            Ok(BlockRange {
                offset_bytes,
                len_bytes: self.size_bytes() - offset_bytes,
                kind: RangeKind::Data,
            })
        }
        fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), DiskError> {
            let at = offset_bytes as usize;
            buf.copy_from_slice(&self.0.lock()[at..at + buf.len()]);
            Ok(())
        }
    }

    fn disks(sizes: &[u64]) -> Vec<Memory> {
        sizes
            .iter()
            .map(|size| Memory(Mutex::new(vec![0; *size as usize])))
            .collect()
    }

    fn write(disks: &[Memory], seed: u64, k: u64) -> (usize, usize) {
        let sizes: Vec<u64> = disks.iter().map(|disk| disk.size_bytes()).collect();
        let (disk, sector) = place(seed, k, &sizes).unwrap();
        let at = sector as usize * SECTOR;
        let stamp = Stamp {
            k,
            seed,
            disk,
            sector,
        };
        disks[disk].0.lock()[at..at + SECTOR].copy_from_slice(&encode(&stamp));
        (disk, at)
    }

    fn verdict(disks: &[Memory], seed: u64) -> Result<u64, String> {
        let sources: Vec<&dyn BlockSource> = disks.iter().map(|disk| disk as _).collect();
        check(seed, &sources)
    }

    #[test]
    fn disks_with_all_writes_up_to_an_instant_pass_at_every_instant() {
        let disks = disks(&[8 * MIB, MIB, 5 * MIB]);
        assert_eq!(verdict(&disks, 7), Ok(0));
        for k in 1..=6000 {
            write(&disks, 7, k);
            if k % 997 == 0 {
                assert_eq!(verdict(&disks, 7), Ok(k));
            }
        }
    }

    #[test]
    fn a_write_that_is_missing_newer_torn_or_misplaced_is_found() {
        let disks = disks(&[4 * MIB, 4 * MIB]);
        for k in 1..=3000 {
            write(&disks, 3, k);
        }
        let (disk, at) = {
            write(&disks, 3, 3002); // 3001 is missing
            write(&disks, 3, 3002)
        };
        let error = verdict(&disks, 3).unwrap_err();
        assert!(error.contains("3001"), "{error}");

        write(&disks, 3, 3001);
        // 3001 may have gone where 3002 went, then the order is wrong; write in order again.
        write(&disks, 3, 3002);
        assert_eq!(verdict(&disks, 3), Ok(3002));

        disks[disk].0.lock()[at + 300] ^= 1;
        assert!(verdict(&disks, 3).unwrap_err().contains("torn"));
        disks[disk].0.lock()[at + 300] ^= 1;

        disks[disk].0.lock()[at..at + SECTOR].fill(0);
        assert!(verdict(&disks, 3).is_err() || verdict(&disks, 3) == Ok(3001));

        assert!(verdict(&disks, 4).is_err(), "stamps of another guest");
    }

    #[test]
    fn tiny_disks_have_no_places_and_no_panics() {
        assert_eq!(place(1, 1, &[512, 0]), None);
        assert_eq!(place(1, 1, &[]), None);
        assert!(place(1, 1, &[65536]).is_some());
    }
}
