//! A guest in memory, opened.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use virtuozo_disk::{BlockRange, BlockSource, DiskError, RangeKind};

use super::world::{Act, ChangeTracking, Disks, FakeGuest, FakeSnapshot, When, World, not_there};
use crate::{
    ByteRange, ChangeId, ChangeIds, ChangedRanges, DiskChanges, DiskFacts, DiskProperties,
    ErrorClass, ErrorKind, FreezeRequest, Guest, GuestFacts, GuestImage, HypervisorError, Image,
    ImageFile, ImageFormat, Instant, PowerOff, PowerState, Problem, Result, SmallFile,
    snapshot_name,
};

/// Changes are reported in pieces of this size.
const PIECE_BYTES: usize = 4096;

pub(super) struct Handle {
    pub(super) world: Arc<World>,
    /// The directories that datastores are mapped to, where they are not all mounted.
    pub(super) missing: Option<BTreeMap<String, PathBuf>>,
    pub(super) path: String,
}

impl Handle {
    fn with<T>(&self, look: impl FnOnce(&mut FakeGuest) -> T) -> Result<T> {
        match self.world.lock().get_mut(&self.path) {
            Some(guest) => Ok(look(guest)),
            None => Err(not_there("the guest is gone")),
        }
    }

    /// Why a guest in a datastore cannot be seen from here.
    fn problem(&self, datastore: Option<&String>) -> Option<Problem> {
        let location = self
            .missing
            .as_ref()?
            .get(datastore.map_or("", |name| name));
        if location.is_some_and(|location| location.is_dir()) {
            return None;
        }
        Some(Problem {
            class: ErrorClass::Elsewhere,
            message: "its datastore is not mounted here".to_owned(),
            location: location.cloned(),
        })
    }

    async fn pass(&self, operation: &'static str, when: When) -> Result<()> {
        self.world.pass(operation, &self.path, when).await
    }
}

#[async_trait]
impl Guest for Handle {
    async fn facts(&self) -> Result<GuestFacts> {
        self.pass("facts", When::Before).await?;
        let name = self.path.rsplit('/').next().unwrap_or_default().to_owned();
        let keeps_marks = self.world.change_tracking() == ChangeTracking::WhenFrozen;
        self.with(|guest| GuestFacts {
            name,
            power: guest.power,
            tools_running: true,
            disks: guest
                .disks
                .iter()
                .map(|(device, bytes)| DiskFacts {
                    device: device.clone(),
                    file_name: device.clone(),
                    datastore: None,
                    capacity_bytes: Some(bytes.len() as u64),
                    snapshots: !guest.independent,
                    problem: guest.problem.clone(),
                })
                .collect(),
            snapshots: guest.snapshot_names(),
            node: guest.node.clone(),
            datastore: guest.datastore.clone(),
            change_ids: guest
                .marks
                .keys()
                .filter(|_| keeps_marks)
                .cloned()
                .collect(),
            notes: Vec::new(),
            problem: self.problem(guest.datastore.as_ref()),
        })
    }

    async fn power_state(&self) -> Result<PowerState> {
        self.pass("power_state", When::Before).await?;
        self.with(|guest| guest.power)
    }

    async fn power_on(&self, _: Duration) -> Result<()> {
        self.pass("power_on", When::Before).await?;
        self.with(|guest| guest.power = PowerState::On)?;
        self.pass("power_on", When::After).await
    }

    async fn power_off(&self, _: PowerOff) -> Result<()> {
        self.pass("power_off", When::Before).await?;
        self.with(|guest| guest.power = PowerState::Off)?;
        self.pass("power_off", When::After).await
    }

    async fn snapshots(&self) -> Result<Vec<String>> {
        self.pass("snapshots", When::Before).await?;
        self.with(|guest| guest.snapshot_names())
    }

    async fn freeze(&self, request: &FreezeRequest) -> Result<()> {
        self.pass("freeze", When::Before).await?;
        let tracks = self.world.change_tracking() != ChangeTracking::None;
        self.with(|guest| {
            let name = &request.name;
            if guest.snapshots.iter().any(|one| one.name == *name) {
                return Err(HypervisorError::new(
                    ErrorKind::Other,
                    ErrorClass::Permanent,
                    format!("there is a snapshot {name} already"),
                ));
            }
            let mut change_ids = ChangeIds::new();
            for (device, bytes) in guest.disks.iter().filter(|_| tracks) {
                if let Ok(id) = ChangeId::new(format!("{name}/{device}")) {
                    change_ids.insert(device.clone(), id.clone());
                    guest.marks.insert(id, (device.clone(), Arc::clone(bytes)));
                }
            }
            guest.snapshots.push(FakeSnapshot {
                name: name.clone(),
                disks: guest.disks.clone(),
                since: request.since.clone(),
                change_ids,
            });
            Ok(())
        })??;
        self.pass("freeze", When::After).await
    }

    async fn release(&self, name: &str, _: Duration) -> Result<bool> {
        self.pass("release", When::Before).await?;
        let released = self.with(|guest| {
            let before = guest.snapshots.len();
            guest.snapshots.retain(|one| one.name != name);
            before != guest.snapshots.len()
        })?;
        self.pass("release", When::After).await?;
        Ok(released)
    }

    async fn image(&self, at: &Instant, since: &ChangeIds, ignored: &[String]) -> Result<Image> {
        self.pass("image", When::Before).await?;
        let tracking = self.world.change_tracking();
        let (mut disks, changes, foreign_snapshots) = self.with(|guest| {
            let foreign = guest
                .snapshot_names()
                .into_iter()
                .filter(|name| !snapshot_name::is_ours(name))
                .collect();
            let disks = frozen_disks(guest, at)?;
            Ok::<_, HypervisorError>((disks, changes(tracking, guest, at, since), foreign))
        })??;
        disks.retain(|device, _| !ignored.contains(device));
        if disks.is_empty() {
            return Err(HypervisorError::new(
                ErrorKind::GuestInvalid,
                ErrorClass::Permanent,
                "the guest has no disk that is not ignored",
            ));
        }
        let changes: BTreeMap<String, DiskChanges> = changes
            .into_iter()
            .filter(|(device, _)| disks.contains_key(device))
            .collect();
        let files = disks
            .into_iter()
            .map(|(device, bytes)| self.file(at, device, bytes))
            .collect();
        Ok(Image::Open(GuestImage {
            small: vec![SmallFile {
                name: "guest.config".to_owned(),
                bytes: b"displayName = \"x\"\n".to_vec(),
            }],
            files,
            foreign_snapshots,
            changes,
        }))
    }

    async fn forget(&self, change_id: &ChangeId) -> Result<bool> {
        self.pass("forget", When::Before).await?;
        if self.world.change_tracking() != ChangeTracking::WhenFrozen {
            return Ok(false);
        }
        self.with(|guest| guest.marks.remove(change_id).is_some())
    }
}

impl Handle {
    fn file(&self, at: &Instant, device: String, bytes: Arc<Vec<u8>>) -> ImageFile {
        let now = self.world.copying.fetch_add(1, Ordering::SeqCst) + 1;
        self.world.most_copying.fetch_max(now, Ordering::SeqCst);
        ImageFile {
            name: format!("{device}.disk"),
            device: Some(device.clone()),
            datastore: None,
            format: ImageFormat::Disk {
                parent: None,
                properties: DiskProperties {
                    adapter: Some("lsilogic".to_owned()),
                    ..DiskProperties::default()
                },
            },
            source: Box::new(Memory {
                world: Arc::clone(&self.world),
                path: self.path.clone(),
                device,
                frozen: matches!(at, Instant::Frozen(_)),
                bytes,
            }),
        }
    }
}

fn frozen_disks(guest: &FakeGuest, at: &Instant) -> Result<Disks> {
    match at {
        Instant::PoweredOff if guest.power == PowerState::On => Err(HypervisorError::new(
            ErrorKind::PowerState,
            ErrorClass::Retry,
            "the guest has to be off",
        )),
        Instant::PoweredOff => Ok(guest.disks.clone()),
        Instant::Frozen(name) => match guest.snapshots.iter().find(|one| one.name == *name) {
            Some(snapshot) => Ok(snapshot.disks.clone()),
            None => Err(HypervisorError::new(
                ErrorKind::SnapshotNotFound,
                ErrorClass::Retry,
                "there is no such snapshot",
            )),
        },
    }
}

/// What has changed on each disk.
fn changes(
    tracking: ChangeTracking,
    guest: &FakeGuest,
    at: &Instant,
    since: &ChangeIds,
) -> BTreeMap<String, DiskChanges> {
    let snapshot = match at {
        Instant::PoweredOff => None,
        Instant::Frozen(name) => guest.snapshots.iter().find(|one| one.name == *name),
    };
    guest
        .disks
        .keys()
        .map(|device| {
            let changes = match (tracking, snapshot) {
                (ChangeTracking::None, _) => DiskChanges::unknown("nobody follows changes"),
                (_, None) => DiskChanges::unknown("the guest is off"),
                (_, Some(snapshot)) => DiskChanges {
                    change_id: snapshot.change_ids.get(device).cloned(),
                    since: changed(tracking, guest, snapshot, device, since.get(device)),
                },
            };
            (device.clone(), changes)
        })
        .collect()
}

fn changed(
    tracking: ChangeTracking,
    guest: &FakeGuest,
    snapshot: &FakeSnapshot,
    device: &str,
    since: Option<&ChangeId>,
) -> ChangedRanges {
    let unknown = |because: &str| ChangedRanges::Unknown {
        because: because.to_owned(),
    };
    let Some(since) = since else {
        return unknown("there is nothing to compare with");
    };
    if tracking == ChangeTracking::WhenFrozen && snapshot.since.get(device) != Some(since) {
        return unknown("it was not frozen for this");
    }
    let (Some((of, old)), Some(new)) = (guest.marks.get(since), snapshot.disks.get(device)) else {
        return unknown("the mark is gone");
    };
    if of != device || old.len() != new.len() {
        return unknown("the mark is of another disk");
    }
    let mut ranges: Vec<ByteRange> = Vec::new();
    for (index, (old, new)) in old
        .chunks(PIECE_BYTES)
        .zip(new.chunks(PIECE_BYTES))
        .enumerate()
    {
        if old == new {
            continue;
        }
        let offset_bytes = (index * PIECE_BYTES) as u64;
        let len_bytes = new.len() as u64;
        match ranges.last_mut() {
            Some(last) if last.offset_bytes + last.len_bytes == offset_bytes => {
                last.len_bytes += len_bytes;
            }
            _ => ranges.push(ByteRange {
                offset_bytes,
                len_bytes,
            }),
        }
    }
    ChangedRanges::Known(ranges)
}

struct Memory {
    world: Arc<World>,
    path: String,
    device: String,
    /// What is written later goes elsewhere.
    frozen: bool,
    bytes: Arc<Vec<u8>>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.world.copying.fetch_sub(1, Ordering::SeqCst);
    }
}

impl BlockSource for Memory {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn range_at(&self, offset_bytes: u64) -> std::result::Result<BlockRange, DiskError> {
        Ok(BlockRange {
            offset_bytes,
            len_bytes: self.size_bytes() - offset_bytes,
            kind: RangeKind::Data,
        })
    }

    fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> std::result::Result<(), DiskError> {
        match self.world.act("read", &self.path, When::Before) {
            Some(Act::Pause(paused)) => paused.wait_blocking(),
            Some(Act::Fail(_, class)) => {
                // EACCES cannot be healed by time, EIO may.
                let code = if class == ErrorClass::Retry { 5 } else { 13 };
                return Err(DiskError::Io {
                    action: "read",
                    path: self.path.clone().into(),
                    source: std::io::Error::from_raw_os_error(code),
                });
            }
            None => {}
        }
        let from = offset_bytes as usize;
        buf.copy_from_slice(&self.bytes[from..from + buf.len()]);
        Ok(())
    }

    fn fingerprint(&self) -> Option<String> {
        let now = match self.frozen {
            true => Arc::clone(&self.bytes),
            false => {
                let guests = self.world.lock();
                Arc::clone(guests.get(&self.path)?.disks.get(&self.device)?)
            }
        };
        let mut hasher = DefaultHasher::new();
        now.hash(&mut hasher);
        Some(hasher.finish().to_string())
    }
}
