//! Step `snapshot`: freezes the disks of a running guest.

use virtuozo_hypervisor::{ChangeIds, FreezeRequest, PowerState, snapshot_name};
use virtuozo_model::StepName;
use virtuozo_store::obligations;
use virtuozo_telemetry::metrics::SnapshotCall;

use super::{Frozen, GuestRun, Validated, late_change::Change};
use crate::{
    error::{StepError, Stop},
    failpoints::Place,
    undo,
};

/// Takes our snapshot, after the obligation to remove it is recorded: with the record of `validate`, or here.
pub(super) async fn run(run: &GuestRun, validated: &Validated) -> Result<Frozen, StepError> {
    let guest = run.open().await?;
    let pool = &run.context.pool;
    // The snapshot of an earlier fence may exist if the run was taken over after `validate`, and that of this step if the
    // step is repeated.
    let listed = guest.snapshots().await?;
    if run.row.fence > run.row.attempt_fence || listed.iter().any(|one| snapshot_name::is_ours(one))
    {
        undo::clear_leftovers(run, guest.as_ref(), &listed).await?;
        run.forget_snapshot_obligation().await;
    }
    let name = snapshot_name::make(run.row.guest_run_id, run.row.fence);
    let taken_at = match run.now_if_obligation_is_recorded().await {
        Some(now) => now,
        None => {
            let owing = || obligations::record_snapshot(pool, &run.row, &name);
            let owed_at = run
                .context
                .while_unavailable("the obligation to remove the snapshot", owing)
                .await?;
            owed_at.ok_or(Stop::Fenced)?
        }
    };
    run.lease.allowed().await?;
    run.changes(Change::Snapshot).await;
    let place = Place::Change(StepName::Snapshot);
    run.context.failpoints.at(place).await?;
    let request = FreezeRequest {
        name: name.clone(),
        description: format!(
            "taken by Virtuozo to back up {}; it removes it again",
            validated.guest_name
        ),
        since: ChangeIds::new(),
        limit: run.snapshot_limit(),
    };
    let began = tokio::time::Instant::now();
    let created = guest.freeze(&request).await;
    let metrics = &run.context.telemetry.metrics;
    metrics.snapshot_called(SnapshotCall::Create, began.elapsed());
    // The new owner of the lease may have checked the guest before the snapshot appeared.
    run.lease.held().await?;
    created?;
    if !guest.snapshots().await?.contains(&name) {
        return Err(StepError::retry(format!(
            "the host took the snapshot {name} without an error, but does not list it"
        )));
    }
    Ok(Frozen {
        taken_at,
        snapshot: Some(name),
        power: PowerState::On,
    })
}
