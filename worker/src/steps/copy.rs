//! Step `copy`: has the guest's disks and files copied into the repository, under a temporary name, by a process of its own.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use uuid::Uuid;
use virtuozo_hypervisor::{ChangeIds, Image, Instant, PowerState};
use virtuozo_model::human;
use virtuozo_repository::{ManifestKey, ManifestKeys, NewPoint, SealedPoint};
use virtuozo_runtime::LIMITS;
use virtuozo_secrets::{Key, SecretError};
use virtuozo_store::{
    guest_runs::{self, DeviceProgress},
    space::{self, Reservation},
};
use virtuozo_telemetry::metrics::Metrics;

use super::{Frozen, GuestRun, Validated, file_job::Follower, permission::Permission};
use crate::{
    error::StepError,
    file_server,
    file_work::{CopyOrder, FileNews, FileWork, SpaceNeeded, StopPlace},
    files,
    trace::BlockGroups,
};

/// Copies the frozen guest. The progress since the last report is recorded with the end of the step.
pub(super) async fn run(
    run: &GuestRun,
    validated: &Validated,
    frozen: &Frozen,
) -> Result<(SealedPoint, Vec<DeviceProgress>), StepError> {
    let watch = Watch::new(run, validated);
    let copied = run
        .unless_stopped(copy(run, validated, frozen, &watch))
        .await;
    if copied.is_err() {
        watch.report().await;
    }
    let sealed = copied?;
    if sealed.resumed_bytes > 0 {
        tracing::info!(
            resumed_bytes = sealed.resumed_bytes,
            "copy resumed from an earlier attempt"
        );
    }
    still_frozen(run, frozen).await?;
    Ok((sealed, watch.progress_since_last().unwrap_or_default()))
}

/// Has the copy made. It may be dropped at any time, which ends it.
async fn copy(
    run: &GuestRun,
    validated: &Validated,
    frozen: &Frozen,
    watch: &Watch<'_>,
) -> Result<SealedPoint, StepError> {
    let guest = run.open().await?;
    let at = match &frozen.snapshot {
        Some(name) => Instant::Frozen(name.clone()),
        None => Instant::PoweredOff,
    };
    let image = guest
        .image(&at, &ChangeIds::new(), &validated.ignored_disks)
        .await?;
    // Another worker may have done the step before, or the repository may be unmounted now.
    run.enter(&validated.destination).await?;
    sweep_partials(run, validated).await?;
    // Only an earlier attempt can have left a partial copy.
    if run.row.fence > 1 {
        let pool = &run.context.pool;
        run.context
            .while_unavailable("the copy's progress", || {
                guest_runs::clear_progress(pool, &run.row)
            })
            .await?;
    }
    let point = NewPoint {
        point_id: Uuid::now_v7(),
        guest_run_id: run.row.guest_run_id,
        fence: run.row.fence,
        host: run.guest.host_name.clone(),
        guest: validated.guest_name.clone(),
        locator: run.guest.locator.clone(),
        guest_uuid: run.guest.uuid,
        mode: validated.mode,
        taken_at: frozen.taken_at,
        foreign_snapshots: Vec::new(),
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let order = CopyOrder {
        repository: validated.destination.clone(),
        point,
        access: run.access(),
        keys: manifest_keys(&run.context.key_file)?,
        stops: run.stops(&[StopPlace::CopyMiddle, StopPlace::CopyDurable]),
    };
    let processes = &run.context.files;
    let allowed = Some(LIMITS.files.allowed);
    let work = match image {
        Image::Files(image) => {
            let order = Box::new(order);
            let work = FileWork::Copy { image, order };
            files::begin(processes, &work, run.file_silence(), allowed)?
        }
        Image::Open(image) => processes.begin_here(
            move |line| {
                let copied = file_server::copy(image, order, line);
                file_server::answer(copied.and_then(|sealed| file_server::value(&sealed)))
            },
            allowed,
        )?,
    };
    run.follow(work, Some(&watch.permission), watch).await
}

/// The keys that authenticate the manifests of this machine's copies; none where it has no key file.
fn manifest_keys(key_file: &Path) -> Result<ManifestKeys, StepError> {
    match Key::load(key_file) {
        Ok(key) => Ok(ManifestKeys::new(
            key.manifest_secrets().map(ManifestKey::new),
        )),
        Err(SecretError::KeyMissing(_)) => {
            tracing::warn!(
                key_file = %key_file.display(),
                "restore points of this machine are not authenticated, as it has no key"
            );
            Ok(ManifestKeys::default())
        }
        Err(error) => Err(StepError::elsewhere(error.to_string())),
    }
}

/// Checks on the host that the guest's disks stayed frozen during the copy. An error of the host fails no copy: the files
/// themselves were checked before, and the next step needs the host anyway.
async fn still_frozen(run: &GuestRun, frozen: &Frozen) -> Result<(), StepError> {
    let mut freed = who_freed(run, frozen).await;
    // The connection was idle during the copy, and may be lost.
    if freed.as_ref().is_err_and(StepError::is_lost) {
        run.reconnect().await;
        freed = who_freed(run, frozen).await;
    }
    match freed {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(StepError::retry(why)),
        Err(error) => {
            tracing::warn!(
                guest = run.guest.full_name(),
                %error,
                "host did not confirm that the disks stayed frozen; their files have not changed"
            );
            Ok(())
        }
    }
}

/// Why the disks are no longer frozen; `None` if they are.
async fn who_freed(run: &GuestRun, frozen: &Frozen) -> Result<Option<String>, StepError> {
    let guest = run.open().await?;
    Ok(match &frozen.snapshot {
        Some(name) => (!guest.snapshots().await?.contains(name)).then(|| {
            format!(
                "somebody removed the snapshot {name} while the guest was copied from it, so the copy was \
                 not used: see who removes snapshots on this host, perhaps another Virtuozo site that \
                 backs up the same guest"
            )
        }),
        None => (guest.power_state().await? != frozen.power).then(|| match frozen.power {
            PowerState::Suspended => "the guest was resumed while it was copied".to_owned(),
            _ => "the guest was powered on while it was copied".to_owned(),
        }),
    })
}

/// Has the copy's space promised to it, beside the copies that are under way there.
async fn reserve(
    run: &GuestRun,
    validated: &Validated,
    space: &SpaceNeeded,
) -> Result<(), StepError> {
    let repository = validated.destination.to_string_lossy();
    let wanted = Reservation {
        repository: &repository,
        device: space.device,
        needed_bytes: space.needed_bytes,
        free_bytes: space.free_bytes,
    };
    let pool = &run.context.pool;
    let asking = || space::reserve(pool, &run.row, &wanted);
    let others = run
        .context
        .while_unavailable("space for the copy", asking)
        .await?;
    match space.free_bytes {
        Some(free) if free < others.saturating_add(space.needed_bytes) => {
            Err(StepError::retry(format!(
                "{repository} has {} free, of which the guests that are being copied there still take {}, and this one needs \
                 {}: free space there, or have fewer guests copied there at once (`virtuozo repository edit --help`)",
                human::size(free),
                human::size(others),
                human::size(space.needed_bytes)
            )))
        }
        _ => Ok(()),
    }
}

/// Removes partial copies of ended attempts from the guest's directory in the repository.
async fn sweep_partials(run: &GuestRun, validated: &Validated) -> Result<(), StepError> {
    let root = &validated.destination;
    let found: Vec<Uuid> = run
        .ask(&FileWork::FindPartials {
            root: root.clone(),
            host: run.guest.host_name.clone(),
            guest: validated.guest_name.clone(),
        })
        .await?;
    if found.is_empty() {
        return Ok(());
    }
    let pool = &run.context.pool;
    let needed_from = run
        .context
        .while_unavailable("attempts that are over", || {
            guest_runs::needed_from(pool, &found)
        })
        .await?;
    run.ask(&FileWork::SweepPartials {
        root: root.clone(),
        host: run.guest.host_name.clone(),
        guest: validated.guest_name.clone(),
        // The copy itself decides which of this run's own partial copies it resumes.
        keep: run.row.guest_run_id,
        needed_from: needed_from.into_iter().collect(),
    })
    .await
}

#[derive(Debug, Default)]
struct Device {
    total_bytes: u64,
    /// Bytes of the complete files of this device.
    done_bytes: u64,
    /// Bytes of its current file.
    current_bytes: u64,
}

/// Counts copied bytes, and knows whether the copy may go on.
struct Watch<'a> {
    run: &'a GuestRun,
    validated: &'a Validated,
    permission: Permission,
    devices: Mutex<Vec<(String, Device)>>,
    moved: AtomicBool,
    counted_bytes: AtomicU64,
    /// The size of all files together.
    all_bytes: AtomicU64,
    groups: BlockGroups,
    metrics: Metrics,
}

impl<'a> Watch<'a> {
    fn new(run: &'a GuestRun, validated: &'a Validated) -> Self {
        Self {
            run,
            validated,
            permission: Permission::of(run),
            metrics: run.context.telemetry.metrics.clone(),
            devices: Mutex::default(),
            moved: AtomicBool::new(false),
            counted_bytes: AtomicU64::new(0),
            all_bytes: AtomicU64::new(0),
            groups: BlockGroups::named("copy blocks", &run.context.telemetry.traces),
        }
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Device)) {
        let mut devices = self.devices.lock();
        let at = devices
            .iter()
            .position(|(n, _)| n == name)
            .unwrap_or_else(|| {
                devices.push((name.to_owned(), Device::default()));
                devices.len() - 1
            });
        if let Some((_, device)) = devices.get_mut(at) {
            change(device);
        }
        self.moved.store(true, Ordering::Relaxed);
    }

    fn expect(&self, name: &str, bytes: u64) {
        self.change(name, |d| d.total_bytes += bytes);
        self.all_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn file_done(&self, name: &str, bytes: u64) {
        self.change(name, |d| {
            d.done_bytes += bytes;
            d.current_bytes = 0;
        });
        self.groups.file_done(name);
    }

    /// The progress of the copy, if it has changed since the last call; adds the difference to the metrics.
    fn progress_since_last(&self) -> Option<Vec<DeviceProgress>> {
        if !self.moved.swap(false, Ordering::Relaxed) {
            return None;
        }
        let devices = self.devices.lock();
        let devices: Vec<DeviceProgress> = devices
            .iter()
            .map(|(name, d)| DeviceProgress {
                device: name.clone(),
                bytes_total: d.total_bytes,
                bytes_copied: (d.done_bytes + d.current_bytes).min(d.total_bytes),
            })
            .collect();
        let copied = devices.iter().map(|d| d.bytes_copied).sum();
        let before = self.counted_bytes.swap(copied, Ordering::Relaxed);
        self.metrics.copied(copied.saturating_sub(before));
        Some(devices)
    }
}

impl Follower for Watch<'_> {
    fn heard(&self, news: FileNews) {
        match news {
            FileNews::Expected { label, bytes } => self.expect(&label, bytes),
            FileNews::Moved {
                label, done_bytes, ..
            } => {
                let all_bytes = self.all_bytes.load(Ordering::Relaxed);
                self.groups.progress(&label, done_bytes, all_bytes);
                self.change(&label, |d| d.current_bytes = done_bytes);
            }
            FileNews::FileDone { label, bytes } => self.file_done(&label, bytes),
        }
    }

    /// An error is only logged, since nothing depends on the record.
    async fn report(&self) {
        let Some(devices) = self.progress_since_last() else {
            return;
        };
        let GuestRun { context, row, .. } = self.run;
        let recording = guest_runs::progress(&context.pool, row, &devices);
        match tokio::time::timeout(LIMITS.worker.progress, recording).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "progress of the copy could not be recorded");
            }
            Err(_) => tracing::debug!("progress of the copy could not be recorded in time"),
        }
    }

    async fn reserve(&self, space: &SpaceNeeded) -> Result<(), StepError> {
        reserve(self.run, self.validated, space).await
    }
}
