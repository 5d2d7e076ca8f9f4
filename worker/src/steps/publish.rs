//! Step `publish`: the restore point becomes visible, in the repository and in the database.

use std::{path::PathBuf, sync::Arc};

use tokio::runtime::Handle;
use virtuozo_model::Severity;
use virtuozo_model::StepName;
use virtuozo_postgres::StoreError;
use virtuozo_repository::{
    CopyObserver, PublishedPoint, Repository, SealedPoint, Stopped, VerifyReport,
};
use virtuozo_store::{
    events::NewEvent,
    guest_runs,
    points::{self, GuestPoint, NewPoint, Published},
};

use super::{Frozen, GuestRun, Validated, blocking};
use crate::{
    error::{StepError, Stop},
    failpoints::Place,
    lease::Lease,
    patience::patiently,
};

/// Verifies what was copied, renames it, and ends the guest run. Returns all restore points of the guest.
pub(super) async fn run(
    run: &GuestRun,
    validated: &Validated,
    frozen: &Frozen,
    sealed: &SealedPoint,
) -> Result<Vec<GuestPoint>, StepError> {
    let verified = run.settings.verify_after_backup;
    if verified {
        verify(run, validated.destination.clone(), sealed.clone()).await?;
    }
    run.lease.allowed().await?;
    let failpoints = &run.context.failpoints;
    failpoints.at(Place::Change(StepName::Publish)).await?;
    let (root, to_publish) = (validated.destination.clone(), sealed.clone());
    let published = blocking(move || Ok(Repository::open(root)?.publish(&to_publish)?)).await?;
    failpoints.at(Place::Effect(StepName::Publish)).await?;
    let record = || record(run, validated, frozen, &published, verified);
    let Published { admitted, points } = patiently("the restore point", record)
        .await?
        .ok_or(Stop::Fenced)?;
    if !admitted.contains(&run.row.run_id) {
        patiently("the end of the run", || {
            guest_runs::end_run(&run.context.pool, &run.row)
        })
        .await?;
    }
    failpoints.at(Place::Recorded(StepName::Publish)).await?;
    Ok(points)
}

async fn verify(run: &GuestRun, root: PathBuf, sealed: SealedPoint) -> Result<(), StepError> {
    let under = Arc::new(UnderLease {
        lease: run.lease.clone(),
        runtime: Handle::current(),
    });
    let report: VerifyReport = blocking(move || {
        let repository = Repository::open(root)?;
        let at = repository.locate(&sealed)?;
        Ok(repository.verify(&at, under.as_ref())?)
    })
    .await
    .map_err(|error| match (error, run.lease.now()) {
        (
            StepError::Repository(virtuozo_repository::RepositoryError::Stopped(_)),
            Some(Err(stop)),
        ) => stop.into(),
        (error, _) => error,
    })?;
    match report.problems.first() {
        None => Ok(()),
        Some(first) => Err(StepError::BadCopy(format!(
            "the copy does not read back as it was written ({} problems; the first in {}: {}): look \
             at the destination's storage",
            report.problems.len(),
            first.file,
            first.what
        ))),
    }
}

struct UnderLease {
    lease: Lease,
    runtime: Handle,
}

impl CopyObserver for UnderLease {
    fn progress(&self, _: &str, _: u64, _: u64) {}

    fn wait_allowed(&self) -> Result<(), Stopped> {
        self.runtime
            .block_on(self.lease.allowed())
            .map_err(|stop| Stopped {
                reason: stop.to_string(),
            })
    }
}

async fn record(
    run: &GuestRun,
    validated: &Validated,
    frozen: &Frozen,
    published: &PublishedPoint,
    verified: bool,
) -> Result<Option<Published>, StoreError> {
    let mode = validated.mode.as_str();
    let (repository, path) = (
        validated.destination.to_string_lossy(),
        published.path.to_string_lossy(),
    );
    let point = NewPoint {
        id: published.point_id,
        host_name: &run.guest.host_name,
        guest_name: &validated.guest_name,
        repository: &repository,
        path: &path,
        mode,
        taken_at: frozen.taken_at,
        size_bytes: published.size_bytes,
        source_bytes: published.source_bytes,
        foreign_snapshots: &published.foreign_snapshots,
        verified,
    };
    let message = format!(
        "guest {}: backed up {mode}{}",
        run.guest.full_name(),
        if verified {
            ", read back and verified"
        } else {
            ""
        }
    );
    let detail = serde_json::json!({
        "point_id": published.point_id,
        "size_bytes": published.size_bytes,
        "verified": verified,
    });
    let event = NewEvent::user(Severity::Info, message).detail(detail);
    points::publish(&run.context.pool, &run.row, &point, &event).await
}
