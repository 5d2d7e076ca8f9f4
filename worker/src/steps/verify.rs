//! Step `verify`: reads the complete copy back and compares it with its hashes, before it is published.

use std::sync::atomic::{AtomicU64, Ordering};

use virtuozo_repository::{SealedPoint, VerifyReport};
use virtuozo_runtime::LIMITS;
use virtuozo_store::steps;

use super::{GuestRun, Validated, Verified, file_job::Follower, permission::Permission};
use crate::{
    error::{BadCopy, StepError},
    file_work::{FileNews, FileWork, SpaceNeeded, StopPlace},
    files,
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
    let root = &validated.destination;
    let watch = Watch::new(run, sealed.size_bytes);
    let reading = async {
        run.enter(root).await?;
        let work = FileWork::ReadBack {
            root: root.clone(),
            sealed: sealed.clone(),
            stops: run.stops(&[StopPlace::VerifyMiddle]),
        };
        let allowed = Some(LIMITS.files.allowed);
        let work = files::begin(&run.context.files, &work, run.file_silence(), allowed)?;
        run.follow(work, Some(&watch.permission), &watch).await
    };
    let report: VerifyReport = run.unless_stopped(reading).await?;
    let Some(first) = report.problems.first() else {
        return Ok(Verified {
            read_back: true,
            files: report.files_checked,
            bytes_read: report.bytes,
            read_from: report.read_back,
        });
    };
    // If the repository was unmounted meanwhile, all files are missing, which is no fault of the storage.
    run.unless_stopped(run.enter(root)).await?;
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
    let discarded = async {
        run.enter(&bad.repository).await?;
        let work = FileWork::Discard {
            root: bad.repository.clone(),
            sealed: bad.sealed.clone(),
        };
        run.ask::<bool>(&work).await
    };
    match discarded.await {
        Ok(_) => tracing::info!(guest = name, "bad copy deleted"),
        Err(error) => {
            tracing::warn!(guest = name, %error, "bad copy could not be deleted; the next attempt removes it");
        }
    }
}

/// Counts read bytes, and knows whether the verification may go on.
struct Watch<'a> {
    run: &'a GuestRun,
    permission: Permission,
    total_bytes: u64,
    /// Bytes of the files that are complete.
    done_bytes: AtomicU64,
    /// Bytes of the current file.
    current_bytes: AtomicU64,
    reported_bytes: AtomicU64,
    groups: BlockGroups,
}

impl<'a> Watch<'a> {
    fn new(run: &'a GuestRun, total_bytes: u64) -> Self {
        Self {
            run,
            permission: Permission::of(run),
            total_bytes,
            done_bytes: AtomicU64::new(0),
            current_bytes: AtomicU64::new(0),
            reported_bytes: AtomicU64::new(0),
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

impl Follower for Watch<'_> {
    fn heard(&self, news: FileNews) {
        let FileNews::Moved {
            label,
            done_bytes,
            total_bytes,
        } = news
        else {
            return;
        };
        // Each file begins with news of its own, before several threads read parts of it.
        if done_bytes == 0 {
            let before = self.current_bytes.swap(0, Ordering::Relaxed);
            self.done_bytes.fetch_add(before, Ordering::Relaxed);
        } else {
            self.current_bytes.fetch_max(done_bytes, Ordering::Relaxed);
        }
        self.groups.progress(&label, done_bytes, self.total_bytes);
        if done_bytes == total_bytes {
            self.groups.file_done(&label);
        }
    }

    /// An error is only logged, since nothing depends on the record.
    async fn report(&self) {
        let Some(bytes_read) = self.progress_since_last() else {
            return;
        };
        let GuestRun { context, row, .. } = self.run;
        let recording = steps::verifying(&context.pool, row, bytes_read, self.total_bytes);
        match tokio::time::timeout(LIMITS.worker.progress, recording).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "progress of the verification could not be recorded");
            }
            Err(_) => tracing::debug!("progress of the verification could not be recorded in time"),
        }
    }

    async fn reserve(&self, _: &SpaceNeeded) -> Result<(), StepError> {
        Ok(())
    }
}
