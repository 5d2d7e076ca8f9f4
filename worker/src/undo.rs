//! Meets obligations: removes our snapshots and powers guests on again. An obligation counts as met only after the host
//! shows it.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;
use virtuozo_hypervisor::{Guest, HypervisorError, PowerState, snapshot_name};
use virtuozo_model::terminal;
use virtuozo_runtime::LIMITS;
use virtuozo_store::{
    guest_runs,
    obligations::{self, Obligation, UndoAction},
};
use virtuozo_telemetry::metrics::{Metrics, SnapshotCall};

use crate::{error::StepError, failpoints::Place, steps::GuestRun};

/// Meets an obligation, unless it is met already, and checks the result on the host.
pub(crate) async fn meet(
    guest: &dyn Guest,
    metrics: &Metrics,
    obligation: &Obligation,
    snapshot_limit: Duration,
) -> Result<(), StepError> {
    match obligation.action() {
        UndoAction::RemoveSnapshot(name) => {
            if !guest.snapshots().await?.iter().any(|s| s == name) {
                return Ok(());
            }
            remove(guest, metrics, name, snapshot_limit).await?;
            if guest.snapshots().await?.iter().any(|s| s == name) {
                return Err(StepError::retry(format!(
                    "the snapshot {name} is still there after the host removed it"
                )));
            }
            Ok(())
        }
        UndoAction::PowerOn => {
            if guest.power_state().await? == PowerState::On {
                return Ok(());
            }
            guest.power_on(LIMITS.worker.power).await?;
            match guest.power_state().await? {
                PowerState::On => Ok(()),
                PowerState::BlockedOnQuestion => Err(StepError::operator(
                    "the guest waits for an answer to a question before it starts: answer it in \
                     its console",
                )),
                PowerState::Off | PowerState::Suspended => Err(StepError::retry(
                    "the guest is still off after it was powered on",
                )),
            }
        }
    }
}

async fn remove(
    guest: &dyn Guest,
    metrics: &Metrics,
    name: &str,
    limit: Duration,
) -> Result<bool, HypervisorError> {
    let began = Instant::now();
    let removed = guest.release(name, limit).await;
    metrics.snapshot_called(SnapshotCall::Remove, began.elapsed());
    removed
}

/// Meets all obligations of this run. Continues after an error and returns the first. The caller records the obligations
/// that were met, unless there was an error.
pub(crate) async fn meet_own(run: &GuestRun) -> Result<Vec<Obligation>, StepError> {
    let unmet = match run.only_obligation().await {
        Some(unmet) => vec![unmet],
        None => {
            let pool = &run.context.pool;
            let asking = || obligations::of_guest(pool, run.row.guest_id);
            run.context
                .while_unavailable("the obligations to the guest", asking)
                .await?
        }
    };
    let mut all_met = Vec::new();
    let mut first = Ok(());
    for obligation in unmet
        .into_iter()
        .filter(|o| o.guest_run_id == run.row.guest_run_id)
    {
        run.lease.held().await?;
        let met = async {
            let guest = run.open().await?;
            run.context.failpoints.at(Place::UndoChange).await?;
            let metrics = &run.context.telemetry.metrics;
            meet(guest.as_ref(), metrics, &obligation, run.snapshot_limit()).await
        };
        match met.await {
            Ok(()) => all_met.push(obligation),
            Err(error) => {
                if error.is_lost() {
                    run.reconnect().await;
                }
                first = first.and(Err(error));
            }
        }
    }
    match first {
        Ok(()) => Ok(all_met),
        Err(error) => {
            forget(run, &all_met).await?;
            Err(error)
        }
    }
}

/// Meets the obligations of an attempt that ends here.
pub(crate) async fn bring_back(run: &GuestRun) -> Result<(), StepError> {
    let met = meet_own(run).await?;
    forget(run, &met).await
}

async fn forget(run: &GuestRun, met: &[Obligation]) -> Result<(), StepError> {
    for obligation in met {
        run.context
            .while_unavailable("an obligation that is met", || {
                obligations::met(&run.context.pool, obligation)
            })
            .await?;
    }
    Ok(())
}

/// Whether the backup of another guest uses the snapshot now: the same virtual machine may be registered twice.
async fn refuse_if_in_use(run: &GuestRun, ours: &[&String]) -> Result<(), StepError> {
    let guest_runs: Vec<Uuid> = ours
        .iter()
        .filter_map(|name| snapshot_name::parse(name))
        .map(|(guest_run_id, _)| guest_run_id)
        .collect();
    let pool = &run.context.pool;
    let asking = || guest_runs::at_work_elsewhere(pool, &guest_runs, run.row.guest_id);
    match run
        .context
        .while_unavailable("whose snapshot it is", asking)
        .await?
    {
        None => Ok(()),
        Some((guest_run_id, other)) => Err(StepError::operator(format!(
            "it has a snapshot that guest run {guest_run_id} of {other} uses now, so both names mean the same \
             virtual machine: leave one of them out (`{}`), or remove the host that is registered twice",
            terminal::command("guest edit --ignored true", &[run.guest.full_name()])
        ))),
    }
}

/// Removes all snapshots of ours that are `listed` on a guest; foreign ones are left alone. Forgets the
/// obligations that turn out to be met. Returns whether something was removed.
///
/// # Errors
/// Also where one is in use: see [`refuse_if_in_use`].
pub(crate) async fn clear_leftovers(
    run: &GuestRun,
    guest: &dyn Guest,
    listed: &[String],
) -> Result<bool, StepError> {
    let mut removed = false;
    let ours: Vec<&String> = listed
        .iter()
        .filter(|name| snapshot_name::is_ours(name))
        .collect();
    if !ours.is_empty() {
        refuse_if_in_use(run, &ours).await?;
    }
    for name in ours {
        run.lease.held().await?;
        tracing::info!(
            guest = run.guest.full_name(),
            snapshot = name,
            "removing a leftover snapshot"
        );
        let metrics = &run.context.telemetry.metrics;
        remove(guest, metrics, name, run.snapshot_limit()).await?;
        removed = true;
    }
    let pool = &run.context.pool;
    let unmet = run
        .context
        .while_unavailable("the obligations to the guest", || {
            obligations::of_guest(pool, run.row.guest_id)
        })
        .await?;
    if unmet.is_empty() {
        return Ok(removed);
    }
    let still = guest.snapshots().await?;
    let power = guest.power_state().await?;
    let met: Vec<Obligation> = unmet
        .into_iter()
        .filter(|obligation| match obligation.action() {
            UndoAction::RemoveSnapshot(name) => !still.iter().any(|s| s == name),
            UndoAction::PowerOn => power == PowerState::On,
        })
        .collect();
    forget(run, &met).await?;
    Ok(removed)
}
