//! Step `publish`: makes the restore point visible, in the repository and in the database.

use virtuozo_model::Severity;
use virtuozo_model::StepName;
use virtuozo_postgres::StoreError;
use virtuozo_repository::{PublishedPoint, ReadBack};
use virtuozo_store::{
    events::NewEvent,
    guest_runs,
    points::{self, NewPoint, Published},
};

use super::{GuestRun, Validated, Verified, outputs::Outputs};
use crate::{
    context::Context,
    error::{StepError, Stop},
    failpoints::Place,
    file_work::FileWork,
};

/// Renames the copy to its final path, and ends the guest run. Returns what follows from that.
pub(super) async fn run(run: &GuestRun, before: &Outputs) -> Result<Published, StepError> {
    let validated = before.validated()?;
    let (sealed, verified) = (before.sealed()?, before.verified()?);
    run.lease.allowed().await?;
    let failpoints = &run.context.failpoints;
    failpoints.at(Place::Change(StepName::Publish)).await?;
    let root = validated.destination.clone();
    let published = match run.ask(&FileWork::Publish { root, sealed }).await {
        Ok(published) => published,
        Err(error) => {
            let Context {
                repositories, pool, ..
            } = run.context.as_ref();
            let explaining =
                repositories.explain(pool, &validated.destination, error, run.file_silence());
            return Err(explaining.await);
        }
    };
    failpoints.at(Place::Effect(StepName::Publish)).await?;
    let record = || record(run, &validated, &published, &verified);
    let entered = run
        .context
        .while_unavailable("the restore point", record)
        .await?
        .ok_or(Stop::Fenced)?;
    if !entered.admitted.contains(&run.row.run_id) {
        run.context
            .while_unavailable("the end of the run", || {
                guest_runs::end_run(&run.context.pool, &run.context.telemetry.metrics, &run.row)
            })
            .await?;
    }
    failpoints.at(Place::Recorded(StepName::Publish)).await?;
    Ok(entered)
}

async fn record(
    run: &GuestRun,
    validated: &Validated,
    published: &PublishedPoint,
    verified: &Verified,
) -> Result<Option<Published>, StoreError> {
    let mode = validated.mode.as_str();
    let (repository, path) = (
        validated.destination.to_string_lossy(),
        published.path.to_string_lossy(),
    );
    let manifest_blake3 = published.manifest_blake3.to_string();
    let read_back = verified.read_from.map(ReadBack::as_str);
    let verified = verified.read_back;
    // As the manifest says it: a host or guest may have another name since it was copied.
    let point = NewPoint {
        id: published.point_id,
        host_name: &published.host,
        guest_name: &published.guest,
        repository: &repository,
        path: &path,
        mode,
        taken_at: published.taken_at,
        size_bytes: published.size_bytes,
        source_bytes: published.source_bytes,
        foreign_snapshots: &published.foreign_snapshots,
        verified,
        read_back,
        manifest_blake3: &manifest_blake3,
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
        "read_back": read_back,
    });
    let event = NewEvent::user(Severity::Info, message).detail(detail);
    points::publish(&run.context.pool, &run.row, &point, &event).await
}
