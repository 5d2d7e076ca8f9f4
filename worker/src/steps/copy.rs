//! Step `copy`: copies the guest's disks and files into the repository, under a temporary name.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use uuid::Uuid;
use virtuozo_disk::BlockSource;
use virtuozo_hypervisor::{ChangeIds, GuestImage, ImageFormat, Instant, PowerState, SmallFile};
use virtuozo_model::{human, text};
use virtuozo_repository::{
    CopyObserver, CopyPlan, DiskProperties, FileFormat, FileSpec, ManifestKey, ManifestKeys,
    NewPoint, PointWriter, Repository, RepositoryError, SealedPoint, Stopped,
};
use virtuozo_runtime::LIMITS;
use virtuozo_secrets::{Key, SecretError};
use virtuozo_store::{
    guest_runs::{self, DeviceProgress},
    space::{self, Reservation},
};
use virtuozo_telemetry::metrics::Metrics;

use super::{Frozen, GuestRun, Validated, permission::Permission, reporting};
use crate::{
    blocking::blocking,
    error::StepError,
    failpoints::{self, Place},
    trace::BlockGroups,
};

/// Copies the frozen guest. The progress since the last report is recorded with the end of the step.
pub(super) async fn run(
    run: &GuestRun,
    validated: &Validated,
    frozen: &Frozen,
) -> Result<(SealedPoint, Vec<DeviceProgress>), StepError> {
    let guest = run.open().await?;
    let at = match &frozen.snapshot {
        Some(name) => Instant::Frozen(name.clone()),
        None => Instant::PoweredOff,
    };
    let image = guest
        .image(&at, &ChangeIds::new(), &validated.ignored_disks)
        .await?;
    // Another worker may have done the step before, or the repository may be unmounted now.
    let repositories = &run.context.repositories;
    let repository = repositories.open(&run.context.pool, &validated.destination, run.access());
    let keys = manifest_keys(&run.context.key_file)?;
    let repository = repository.await?.with_keys(keys);
    sweep_partials(run, validated, &repository).await?;
    // Only an earlier attempt can have left a partial copy.
    if run.row.fence > 1 {
        let pool = &run.context.pool;
        run.context
            .while_unavailable("the copy's progress", || {
                guest_runs::clear_progress(pool, &run.row)
            })
            .await?;
    }

    let watch = Arc::new(Watch::new(run));
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
        foreign_snapshots: image
            .foreign_snapshots
            .iter()
            .map(|name| text::name(name))
            .collect(),
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let prepared = {
        let (watch, repository) = (Arc::clone(&watch), repository.clone());
        blocking(move || Prepared::new(&repository, point, image, &watch)).await?
    };
    if let Err(full) = reserve(run, validated, &prepared).await {
        // What was begun holds nothing yet, and the next attempt begins anew.
        blocking(move || {
            prepared.writer.discard();
            Ok(())
        })
        .await?;
        return Err(full);
    }
    let copying = {
        let watch = Arc::clone(&watch);
        blocking(move || prepared.copy(&watch))
    };
    let copied = reporting(copying, || report(run, &watch)).await;
    let sealed = match (copied, watch.permission.stop()) {
        (Ok(sealed), _) => sealed,
        (Err(error), stop) => {
            report(run, &watch).await;
            return Err(match (error, stop) {
                (StepError::Repository(RepositoryError::Stopped(_)), Some(stop)) => stop.into(),
                (error, _) => error,
            });
        }
    };
    still_frozen(run, frozen).await?;
    Ok((sealed, watch.progress_since_last().unwrap_or_default()))
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

/// A copy whose extent is known, and of which nothing is written yet.
struct Prepared {
    writer: PointWriter,
    small: Vec<SmallFile>,
    files: Vec<PlannedFile>,
    /// How the repository's file system is counted here.
    device: u64,
    needed_bytes: u64,
    free_bytes: Option<u64>,
}

/// A large file, or a link of a disk, that is to be copied.
struct PlannedFile {
    spec: FileSpec,
    source: Box<dyn BlockSource>,
    read_bytes: u64,
    fingerprint: Option<String>,
}

impl Prepared {
    fn new(
        repository: &Repository,
        point: NewPoint,
        image: GuestImage,
        watch: &Watch,
    ) -> Result<Self, StepError> {
        let mut plan = CopyPlan::new();
        for file in &image.small {
            plan.add_small(file.bytes.len() as u64);
        }
        let mut files = Vec::with_capacity(image.files.len());
        for file in image.files {
            let format = match file.format {
                ImageFormat::Raw => FileFormat::Raw,
                ImageFormat::Disk { parent, properties } => FileFormat::Disk {
                    parent,
                    properties: DiskProperties {
                        adapter: properties.adapter,
                        geometry: properties
                            .geometry
                            .map(|g| [g.cylinders, g.heads, g.sectors]),
                        uuid: properties.uuid,
                        back_end: properties.back_end,
                    },
                },
            };
            let spec = FileSpec {
                name: file.name,
                device: file.device,
                format,
            };
            let read_bytes = plan.add_file(&spec, file.source.as_ref())?;
            watch.expect(spec.device.as_deref().unwrap_or(&spec.name), read_bytes);
            let fingerprint = file.source.fingerprint();
            files.push(PlannedFile {
                spec,
                source: file.source,
                read_bytes,
                fingerprint,
            });
        }
        let mut writer = repository.begin(point)?;
        let mut fits = repository.check_capacity(&plan);
        // Of several partial copies one is kept: space for one copy matters more than the time that another one saves.
        if matches!(fits, Err(RepositoryError::NoSpace { .. })) && writer.discard_earlier() {
            fits = repository.check_capacity(&plan);
        }
        if let Err(error) = fits {
            writer.discard();
            return Err(error.into());
        }
        Ok(Self {
            writer,
            small: image.small,
            files,
            device: repository.device()?,
            needed_bytes: plan.needed_bytes(),
            free_bytes: repository.free_bytes()?,
        })
    }

    fn copy(self, watch: &Watch) -> Result<SealedPoint, StepError> {
        let mut writer = self.writer;
        if let Err(error) = fill(&mut writer, &self.small, &self.files, watch) {
            // What cannot be completed must not hold the space that others need.
            if error.is_no_space() {
                writer.discard();
            }
            return Err(error.into());
        }
        // All files are checked together, since together they hold one instant.
        let changed = |file: &&PlannedFile| file.source.fingerprint() != file.fingerprint;
        if let Some(file) = self.files.iter().find(changed) {
            return Err(StepError::retry(format!(
                "somebody wrote to the guest's file {} while it was copied, so the copy was not used: see \
                 whether the guest was started and stopped meanwhile, or a snapshot of it removed",
                file.spec.name
            )));
        }
        let sealed = writer.seal()?;
        if sealed.resumed_bytes > 0 {
            tracing::info!(
                resumed_bytes = sealed.resumed_bytes,
                "copy resumed from an earlier attempt"
            );
        }
        Ok(sealed)
    }
}

fn fill(
    writer: &mut PointWriter,
    small: &[SmallFile],
    files: &[PlannedFile],
    watch: &Watch,
) -> Result<(), RepositoryError> {
    for file in small {
        writer.add_small(&file.name, &file.bytes)?;
    }
    for file in files {
        let spec = &file.spec;
        writer.add_file(spec, file.source.as_ref(), watch)?;
        watch.file_done(
            spec.device.as_deref().unwrap_or(&spec.name),
            file.read_bytes,
        );
    }
    Ok(())
}

/// Has the copy's space promised to it, beside the copies that are under way there.
async fn reserve(
    run: &GuestRun,
    validated: &Validated,
    prepared: &Prepared,
) -> Result<(), StepError> {
    let repository = validated.destination.to_string_lossy();
    let wanted = Reservation {
        repository: &repository,
        device: prepared.device,
        needed_bytes: prepared.needed_bytes,
        free_bytes: prepared.free_bytes,
    };
    let pool = &run.context.pool;
    let asking = || space::reserve(pool, &run.row, &wanted);
    let others = run
        .context
        .while_unavailable("space for the copy", asking)
        .await?;
    match prepared.free_bytes {
        Some(free) if free < others.saturating_add(prepared.needed_bytes) => {
            Err(StepError::retry(format!(
                "{repository} has {} free, of which the guests that are being copied there still take {}, and this one needs \
                 {}: free space there, or have fewer guests copied there at once (`virtuozo repository edit --help`)",
                human::size(free),
                human::size(others),
                human::size(prepared.needed_bytes)
            )))
        }
        _ => Ok(()),
    }
}

/// Removes partial copies of ended attempts from the guest's directory in the repository.
async fn sweep_partials(
    run: &GuestRun,
    validated: &Validated,
    repository: &Repository,
) -> Result<(), StepError> {
    let names = (run.guest.host_name.clone(), validated.guest_name.clone());
    let (repository, repository_again) = (repository.clone(), repository.clone());
    let names_again = names.clone();
    let found = blocking(move || {
        let found = Mutex::new(Vec::new());
        repository.sweep_partials(&names.0, &names.1, &|guest_run_id, _| {
            found.lock().push(guest_run_id);
            true
        })?;
        Ok(found.into_inner())
    })
    .await?;
    if found.is_empty() {
        return Ok(());
    }
    let guest_run_id = run.row.guest_run_id;
    let pool = &run.context.pool;
    let needed_from: HashMap<Uuid, i64> = run
        .context
        .while_unavailable("attempts that are over", || {
            guest_runs::needed_from(pool, &found)
        })
        .await?
        .into_iter()
        .collect();
    blocking(move || {
        // A guest run that this site does not know may belong to another site with the same directory.
        repository_again.sweep_partials(
            &names_again.0,
            &names_again.1,
            // The copy itself decides which of this run's own partial copies it resumes.
            &|id, fence| {
                id == guest_run_id || needed_from.get(&id).is_none_or(|&from| fence >= from)
            },
        )?;
        Ok(())
    })
    .await
}

/// Records the progress of the copy. An error is only logged, since nothing depends on the record.
async fn report(run: &GuestRun, watch: &Watch) {
    let Some(devices) = watch.progress_since_last() else {
        return;
    };
    match tokio::time::timeout(
        LIMITS.worker.progress,
        guest_runs::progress(&run.context.pool, &run.row, &devices),
    )
    .await
    {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "progress of the copy could not be recorded"),
        Err(_) => tracing::debug!("progress of the copy could not be recorded in time"),
    }
}

#[derive(Debug, Default)]
struct Device {
    total_bytes: u64,
    /// Bytes of the complete files of this device.
    done_bytes: u64,
    /// Bytes of its current file.
    current_bytes: u64,
}

/// Counts copied bytes, and blocks the copy while it is uncertain whether the lease holds.
struct Watch {
    permission: Permission,
    devices: Mutex<Vec<(String, Device)>>,
    moved: AtomicBool,
    began: AtomicBool,
    counted_bytes: AtomicU64,
    /// The size of all files together.
    all_bytes: AtomicU64,
    groups: BlockGroups,
    metrics: Metrics,
    failpoints: failpoints::ActiveFailpoints,
}

impl Watch {
    fn new(run: &GuestRun) -> Self {
        Self {
            permission: Permission::of(run),
            failpoints: run.context.failpoints.clone(),
            metrics: run.context.telemetry.metrics.clone(),
            devices: Mutex::default(),
            moved: AtomicBool::new(false),
            began: AtomicBool::new(false),
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

impl CopyObserver for Watch {
    fn progress(&self, device_or_file: &str, copied_bytes: u64, total_bytes: u64) {
        let all_bytes = self.all_bytes.load(Ordering::Relaxed);
        self.groups
            .progress(device_or_file, copied_bytes, all_bytes);
        self.change(device_or_file, |d| d.current_bytes = copied_bytes);
        if copied_bytes > 0 && !self.began.swap(true, Ordering::Relaxed) {
            self.failpoints.at_blocking(Place::CopyMiddle);
        }
        if copied_bytes > total_bytes / 2 {
            self.failpoints.not_past(Place::CopyDurable);
        }
    }

    fn wait_allowed(&self) -> Result<(), Stopped> {
        self.permission.wait()
    }

    fn durable(&self) {
        self.failpoints.at_blocking(Place::CopyDurable);
    }
}
