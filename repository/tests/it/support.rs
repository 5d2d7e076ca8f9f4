//! What the tests of the repository share: sources in memory, points to begin, and whole-disk reads.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use chrono::DateTime;
use uuid::Uuid;
use virtuozo_disk::{BlockRange, BlockSource, DiskError, RangeKind, vmdk::Chain};
use virtuozo_repository::{
    CopyObserver, DiskProperties, FileFormat, FileSpec, MANIFEST_NAME, NewPoint, PointMode,
    Repository, SealedPoint, Stopped, Unobserved,
};

/// The unit in which [`Memory`] knows what it holds: smaller than a stored grain.
pub(crate) const UNIT: usize = 4096;

/// A source in memory whose ranges are told apart in units of 4 KiB.
pub(crate) struct Memory {
    pub(crate) bytes: Vec<u8>,
    pub(crate) kinds: Vec<RangeKind>,
}

impl Memory {
    /// `units`: what each unit holds and the byte it is filled with if that is data. The last may be
    /// cut to `size_bytes`.
    pub(crate) fn new(size_bytes: usize, units: &[(RangeKind, u8)]) -> Self {
        let mut bytes = Vec::new();
        for (number, (kind, fill)) in units.iter().enumerate() {
            let fill = if *kind == RangeKind::Data { *fill } else { 0 };
            let unit = (0..UNIT).map(|at| fill.wrapping_mul((at ^ number) as u8 | 1));
            bytes.extend(unit);
        }
        bytes.truncate(size_bytes);
        assert_eq!(bytes.len(), size_bytes);
        Self {
            bytes,
            kinds: units.iter().map(|unit| unit.0).collect(),
        }
    }

    /// All data, different at every place.
    pub(crate) fn data(size_bytes: usize) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let bytes = (0..size_bytes)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        Self {
            bytes,
            kinds: vec![RangeKind::Data; size_bytes.div_ceil(UNIT)],
        }
    }
}

impl BlockSource for Memory {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn range_at(&self, offset_bytes: u64) -> Result<BlockRange, DiskError> {
        let unit = offset_bytes as usize / UNIT;
        let end = ((unit + 1) * UNIT).min(self.bytes.len()) as u64;
        Ok(BlockRange {
            offset_bytes,
            len_bytes: end - offset_bytes,
            kind: self.kinds[unit],
        })
    }

    fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let start = offset_bytes as usize;
        for (at, byte) in (start..).zip(buf) {
            *byte = match self.kinds[at / UNIT] {
                RangeKind::Data => self.bytes[at],
                _ => 0,
            };
        }
        Ok(())
    }
}

pub(crate) fn new_point(number: u128) -> NewPoint {
    NewPoint {
        point_id: Uuid::from_u128(1000 + number),
        guest_run_id: Uuid::from_u128(2000 + number),
        fence: 3,
        host: "alpha.lab".to_owned(),
        guest: "web/1".to_owned(),
        locator: "[standard] web/web.vmx".to_owned(),
        guest_uuid: None,
        mode: PointMode::Hot,
        taken_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        foreign_snapshots: vec!["before update".to_owned()],
        software_version: "0.1.0".to_owned(),
    }
}

pub(crate) fn vmdk(name: &str, parent: Option<&str>) -> FileSpec {
    FileSpec {
        name: name.to_owned(),
        device: Some("scsi0:0".to_owned()),
        format: FileFormat::Disk {
            parent: parent.map(str::to_owned),
            properties: DiskProperties {
                adapter: Some("lsilogic".to_owned()),
                back_end: [("virtualHWVersion".to_owned(), "7".to_owned())].into(),
                ..DiskProperties::default()
            },
        },
    }
}

pub(crate) fn raw(name: &str) -> FileSpec {
    FileSpec {
        name: name.to_owned(),
        device: None,
        format: FileFormat::Raw,
    }
}

/// A sealed point of a configuration, one disk of `disk_bytes` and a delta on it, and a raw file.
pub(crate) fn sealed_guest(repo: &Repository, number: u128, disk_bytes: usize) -> SealedPoint {
    let mut writer = repo.begin(new_point(number)).unwrap();
    writer
        .add_small("web.vmx", b"displayName = \"web\"\n")
        .unwrap();
    let base = Memory::data(disk_bytes);
    writer
        .add_file(&vmdk("web.vmdk", None), &base, &Unobserved)
        .unwrap();
    let mut delta = Memory::data(disk_bytes);
    delta.kinds.fill(RangeKind::Absent);
    delta.kinds[..16].fill(RangeKind::Data);
    writer
        .add_file(
            &vmdk("web-000001.vmdk", Some("web.vmdk")),
            &delta,
            &Unobserved,
        )
        .unwrap();
    writer
        .add_file(&raw("web.vmem"), &Memory::data(300_000), &Unobserved)
        .unwrap();
    writer.seal().unwrap()
}

/// All bytes of a disk as the guest sees it.
pub(crate) fn read_chain(path: &Path) -> Vec<u8> {
    let chain = Chain::open(path, &[]).unwrap();
    let mut bytes = vec![0; chain.size_bytes() as usize];
    chain.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Everything below a directory: path and content, sorted.
pub(crate) fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_owned();
                files.push((name, std::fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// Lets an operation take this many chunks, then stops it.
pub(crate) struct StopAfter(AtomicU64);

impl StopAfter {
    pub(crate) fn new(chunks: u64) -> Self {
        Self(AtomicU64::new(chunks))
    }
}

impl CopyObserver for StopAfter {
    fn progress(&self, _: &str, copied_bytes: u64, total_bytes: u64) {
        assert!(copied_bytes <= total_bytes);
    }

    fn wait_allowed(&self) -> Result<(), Stopped> {
        let left = self
            .0
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        left.map(drop).map_err(|_| Stopped {
            reason: "by the test".to_owned(),
        })
    }
}

/// Writes a manifest whose own hash is right, whatever it says.
pub(crate) fn forge(dir: &Path, change: impl Fn(&mut serde_json::Value)) {
    let path = dir.join(MANIFEST_NAME);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut envelope: serde_json::Value = serde_json::from_str(&text).unwrap();
    change(&mut envelope["manifest"]);
    let manifest = envelope["manifest"].to_string();
    let hash = blake3::hash(manifest.as_bytes()).to_hex();
    let forged = format!("{{\"format_version\":1,\"blake3\":\"{hash}\",\"manifest\":{manifest}}}");
    std::fs::write(path, forged).unwrap();
}
