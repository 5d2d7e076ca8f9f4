//! Operations on a repository that take long: verify and restore, with progress on stderr, stopped by a signal.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Result;
use parking_lot::Mutex;
use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_repository::{
    CopyObserver, ManifestKey, ManifestKeys, ReadBack, Recorded, RecordedSource, Repository,
    RepositoryError, Stopped, VerifyReport,
};
use virtuozo_runtime::LIMITS;
use virtuozo_secrets::{Key, SecretError};
use virtuozo_services::points::{self, PointLine, Verification};

use crate::{
    context::Context,
    error::{Interrupted, usage},
    output,
    progress::{ProgressDisplay, ProgressLine},
    text,
};

/// The problems that a verification found, in one line; `None` if there are none.
pub(crate) fn damage(report: &VerifyReport) -> Option<String> {
    (!report.ok).then(|| {
        let problems = report
            .problems
            .iter()
            .map(|problem| match problem.offset_bytes {
                Some(at) => format!("{} at {at}: {}", problem.file, problem.what),
                None => format!("{}: {}", problem.file, problem.what),
            });
        problems.collect::<Vec<_>>().join("; ")
    })
}

/// Notes in the catalogue what a verification has found. Returns the damage in one line; `None` if there is none.
///
/// # Errors
/// The database does not answer.
pub(crate) async fn record(
    pool: &PgPool,
    point: Uuid,
    report: &VerifyReport,
) -> Result<Option<String>> {
    let damage = damage(report);
    let manifest_blake3 = report.manifest_blake3.map(|digest| digest.to_string());
    let found = match &damage {
        Some(damage) => Verification::Damaged(damage),
        None => Verification::Good {
            read_back: report.read_back.map(ReadBack::as_str),
            manifest_blake3: manifest_blake3.as_deref(),
        },
    };
    points::record_verification(pool, point, found).await?;
    Ok(damage)
}

/// What the catalogue has recorded of a restore point.
pub(crate) fn recorded(line: &PointLine) -> Recorded {
    Recorded {
        point_id: line.id,
        source: Some(RecordedSource {
            host: line.host_name.clone(),
            guest: line.guest_name.clone(),
            taken_at: line.taken_at,
        }),
        manifest_blake3: line.manifest_blake3.clone(),
    }
}

/// The keys in a key file that authenticate manifests; none where there is no such file.
///
/// # Errors
/// The key file cannot be used.
pub(crate) fn manifest_keys(key_file: &Path) -> Result<ManifestKeys> {
    match Key::load(key_file) {
        Ok(key) => Ok(ManifestKeys::new(
            key.manifest_secrets().map(ManifestKey::new),
        )),
        Err(SecretError::KeyMissing(_)) => Ok(ManifestKeys::default()),
        Err(error) => Err(error.into()),
    }
}

/// Verifies the restore point in a directory, which the catalogue has `recorded` so, with the `keys` of
/// this machine. `name` stands for it in the progress
/// shown.
///
/// # Errors
/// The directory is in no repository or cannot be read, or a signal stopped the verification.
pub(crate) async fn verify(
    context: &Context,
    dir: &Path,
    keys: ManifestKeys,
    recorded: Option<Recorded>,
    name: &str,
) -> Result<VerifyReport> {
    // The path of a restore point below its repository is HOST/GUEST/POINT.
    let root = dir
        .ancestors()
        .nth(3)
        .ok_or_else(|| usage(format!("{} is not in a repository", dir.display())))?
        .to_owned();
    let below = dir.strip_prefix(&root)?.to_owned();
    run(context, &format!("verify {name}"), move |observer| {
        Repository::open(root)?
            .with_keys(keys)
            .verify(&below, recorded.as_ref(), observer)
    })
    .await
}

/// Runs an operation on a repository in a thread of its own, shows its progress on stderr, and stops it on a signal.
/// `what` stands before each line of progress.
///
/// # Errors
/// [`Interrupted`] after a signal; otherwise the operation's own error.
pub(crate) async fn run<T: Send + 'static>(
    context: &Context,
    what: &str,
    work: impl FnOnce(&Observer) -> virtuozo_repository::Result<T> + Send + 'static,
) -> Result<T> {
    let stop = context.catch_signals()?;
    let observer = Arc::new(Observer::default());
    let of_work = observer.clone();
    let mut task = tokio::task::spawn_blocking(move || work(&of_work));
    let mut display = ProgressDisplay::on_stderr();
    let done = loop {
        tokio::select! {
            done = &mut task => break done,
            () = stop.cancelled(), if !observer.stop.load(Ordering::Relaxed) => observer.stop.store(true, Ordering::Relaxed),
            () = tokio::time::sleep(LIMITS.console.redraw_every) => display.draw(&observer.lines(what)),
        }
    };
    display.clear();
    match done? {
        Err(RepositoryError::Stopped(_)) => Err(Interrupted.into()),
        done => Ok(done?),
    }
}

/// Collects the progress of an operation, and stops it on request.
#[derive(Default)]
pub(crate) struct Observer {
    stop: AtomicBool,
    /// Bytes done and bytes in all, by file.
    files: Mutex<BTreeMap<String, (u64, u64)>>,
}

impl CopyObserver for Observer {
    fn progress(&self, device_or_file: &str, copied_bytes: u64, total_bytes: u64) {
        let mut files = self.files.lock();
        files.insert(device_or_file.to_owned(), (copied_bytes, total_bytes));
    }

    fn wait_allowed(&self) -> Result<(), Stopped> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Stopped {
                reason: "Ctrl-C, SIGTERM or SIGHUP".to_owned(),
            });
        }
        Ok(())
    }
}

impl Observer {
    fn lines(&self, what: &str) -> Vec<ProgressLine> {
        let files = self.files.lock();
        files
            .iter()
            .map(|(file, (done, total))| ProgressLine {
                subject: format!("{what} {file}"),
                text: format!(
                    "{what}  {file}  {}  {} of {}",
                    text::bar(*done, *total),
                    output::size(*done),
                    output::size(*total)
                ),
                summary: String::new(),
            })
            .collect()
    }
}
