//! Step `verify`: reads the complete copy back and compares it with its hashes, before it is published.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use virtuozo_repository::{
    CopyObserver, Recorded, RepositoryError, SealedPoint, Stopped, VerifyReport,
};
use virtuozo_runtime::LIMITS;
use virtuozo_store::steps;

use super::{GuestRun, Validated, Verified, permission::Permission, reporting};
use crate::{
    blocking::blocking,
    error::{BadCopy, RepositoryFailureKind, StepError},
    failpoints::{self, Place},
    trace::BlockGroups,
};

/// Reads the copy back, unless the settings omit that.
///
/// # Errors
/// [`StepError::BadCopy`] if the copy differs from what was written.
pub(super) async fn run(
    run: &GuestRun,
    validated: &Validated,
    sealed: &SealedPoint,
) -> Result<Verified, StepError> {
    if !run.settings.verify_after_backup {
        return Ok(Verified::default());
    }
    let open = || run.repository(&validated.destination);
    let repository = open().await?;
    let watch = Arc::new(Watch::new(run, sealed.size_bytes));
    let reading = {
        let (watch, sealed) = (Arc::clone(&watch), sealed.clone());
        blocking(move || {
            let at = match repository.locate(&sealed) {
                // The verification reports a bad manifest.
                Err(RepositoryError::Damaged { .. }) => sealed.partial_path.clone(),
                located => located?,
            };
            let recorded = Recorded {
                point_id: sealed.point_id,
                source: None,
                manifest_blake3: sealed.manifest_blake3,
            };
            Ok(repository.verify(&at, Some(&recorded), watch.as_ref())?)
        })
    };
    let report: VerifyReport = match reporting(reading, || report(run, &watch)).await {
        Ok(report) => report,
        Err(error) => {
            return Err(match (error, watch.permission.stop()) {
                (StepError::Repository(failure), Some(stop))
                    if failure.kind == RepositoryFailureKind::Stopped =>
                {
                    stop.into()
                }
                (error, _) => error,
            });
        }
    };
    let Some(first) = report.problems.first() else {
        return Ok(Verified {
            read_back: true,
            files: report.files_checked,
            bytes_read: report.bytes,
            read_from: report.read_back,
        });
    };
    // If the repository was unmounted meanwhile, all files are missing, which is no fault of the storage.
    open().await?;
    Err(StepError::BadCopy(Box::new(BadCopy {
        repository: validated.destination.clone(),
        file: first.file.clone(),
        what: match first.offset_bytes {
            Some(at) => format!("{} (at byte {at})", first.what),
            None => first.what.clone(),
        },
        problems: report.problems.len(),
        sealed: sealed.clone(),
    })))
}

/// Deletes a bad copy after that is recorded. If this fails, the guest's next attempt removes it.
pub(crate) async fn discard(run: &GuestRun, bad: &BadCopy) {
    let name = run.guest.full_name();
    let opening = run.repository(&bad.repository);
    let discarded = async {
        let repository = opening.await?;
        let sealed = bad.sealed.clone();
        blocking(move || Ok(repository.discard(&sealed)?)).await
    };
    match discarded.await {
        Ok(_) => tracing::info!(guest = name, "bad copy deleted"),
        Err(error) => {
            tracing::warn!(guest = name, %error, "bad copy could not be deleted; the next attempt removes it");
        }
    }
}

/// Records the progress of the verification. An error is only logged, since nothing depends on the record.
async fn report(run: &GuestRun, watch: &Watch) {
    let Some(bytes_read) = watch.progress_since_last() else {
        return;
    };
    let recording = steps::verifying(&run.context.pool, &run.row, bytes_read, watch.total_bytes);
    match tokio::time::timeout(LIMITS.worker.progress, recording).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::debug!(%error, "progress of the verification could not be recorded")
        }
        Err(_) => tracing::debug!("progress of the verification could not be recorded in time"),
    }
}

/// Counts read bytes, and blocks the verification while it is uncertain whether the lease holds.
struct Watch {
    permission: Permission,
    total_bytes: u64,
    /// Bytes of the files that are complete.
    done_bytes: AtomicU64,
    /// Bytes of the current file.
    current_bytes: AtomicU64,
    reported_bytes: AtomicU64,
    began: AtomicBool,
    groups: BlockGroups,
    failpoints: failpoints::ActiveFailpoints,
}

impl Watch {
    fn new(run: &GuestRun, total_bytes: u64) -> Self {
        Self {
            permission: Permission::of(run),
            failpoints: run.context.failpoints.clone(),
            total_bytes,
            done_bytes: AtomicU64::new(0),
            current_bytes: AtomicU64::new(0),
            reported_bytes: AtomicU64::new(0),
            began: AtomicBool::new(false),
            groups: BlockGroups::named("verify blocks", &run.context.telemetry.traces),
        }
    }

    /// The bytes read so far, if they have changed since the last call.
    fn progress_since_last(&self) -> Option<u64> {
        let read =
            self.done_bytes.load(Ordering::Relaxed) + self.current_bytes.load(Ordering::Relaxed);
        let read = read.min(self.total_bytes);
        (self.reported_bytes.swap(read, Ordering::Relaxed) < read).then_some(read)
    }
}

impl CopyObserver for Watch {
    fn progress(&self, device_or_file: &str, done_bytes: u64, total_bytes: u64) {
        // Each file begins with a call of its own, before several threads read parts of it.
        if done_bytes == 0 {
            let before = self.current_bytes.swap(0, Ordering::Relaxed);
            self.done_bytes.fetch_add(before, Ordering::Relaxed);
        } else {
            self.current_bytes.fetch_max(done_bytes, Ordering::Relaxed);
            if !self.began.swap(true, Ordering::Relaxed) {
                self.failpoints.at_blocking(Place::VerifyMiddle);
            }
        }
        self.groups
            .progress(device_or_file, done_bytes, self.total_bytes);
        if done_bytes == total_bytes {
            self.groups.file_done(device_or_file);
        }
    }

    fn wait_allowed(&self) -> Result<(), Stopped> {
        self.permission.wait()
    }
}
