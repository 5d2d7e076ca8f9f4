//! Undo jobs: obligations of guest runs that no longer meet them themselves.

use std::time::Duration;

use opentelemetry::trace::FutureExt;
use uuid::Uuid;
use virtuozo_model::{Guest, Settings, Severity};
use virtuozo_postgres::StoreError;
use virtuozo_queue::UndoJob;
use virtuozo_store::{
    events::{self, NewEvent},
    guest_runs::Ending,
    guests, leases, notices,
    obligations::{self, Obligation, UndoAction, UndoClaim},
    settings,
};

use super::{
    Job, OnHost, Work,
    decide::{Attempt, Decision, LOUD_FROM, Subject, decide},
};
use crate::{context::Context, error::StepError, retry::delay_secs, steps::secs, trace, undo};

/// The pause after the first failure, in seconds.
const FIRST_DELAY_SECS: i32 = 5;

impl Job for UndoJob {
    type Lease = UndoClaim;
    type Assignment = OnHost;

    const TAKING: &'static str = "the taking of an undo job";

    fn run_id(self) -> Option<Uuid> {
        None
    }

    /// A claim whose answer was lost runs out.
    async fn put_back(self, _: &Context) -> Result<(), StoreError> {
        Ok(())
    }

    async fn assignment(self, context: &Context) -> Result<Option<OnHost>, StoreError> {
        let pool = &context.pool;
        let Some(host_id) = obligations::host_of_obligations(pool, self.guest_id).await? else {
            return Ok(None);
        };
        let settings = settings::get(pool).await?;
        Ok(Some(OnHost { host_id, settings }))
    }

    fn on_host(assignment: &OnHost) -> (Uuid, &Settings) {
        (assignment.host_id, &assignment.settings)
    }

    async fn take(
        self,
        context: &Context,
        assignment: &OnHost,
    ) -> Result<Option<UndoClaim>, StoreError> {
        obligations::claim(&context.pool, assignment.host_id, self.guest_id).await
    }

    async fn work(work: Work<Self>) {
        if let Err(error) = meet_all(&work).await {
            let guest = work.row.guest_id;
            tracing::warn!(%guest, %error, "undo job was not completed");
        }
    }

    async fn release(context: &Context, claim: &UndoClaim) -> Result<(), StoreError> {
        leases::release(&*context.pool, claim)
            .await
            .map(|_fence| ())
    }
}

async fn meet_all(work: &Work<UndoJob>) -> Result<(), StepError> {
    let (pool, claim) = (&work.context.pool, &work.row);
    let snapshot_limit = secs(work.assignment.settings.snapshot_limit_secs);
    let reading = work
        .context
        .while_unavailable("the obligations to the guest", || async {
            Ok((
                guests::by_id(pool, claim.guest_id).await?,
                obligations::of_guest(pool, claim.guest_id).await?,
            ))
        });
    let (guest, unmet) = reading.await?;
    for obligation in &unmet {
        work.lease.held().await?;
        let meeting = meet(work, &guest, obligation, snapshot_limit);
        let (_unit, below) = trace::of_undo(&work.context.telemetry.traces, obligation);
        match meeting.with_context(below).await {
            Ok(()) => is_met(&work.context, claim, obligation, &guest).await?,
            Err(error) => {
                let ending = conclude(work, obligation, &guest, &error).await?;
                // The circuit breaker knows when it is time to try again, for all obligations to its guests.
                if ending == Ending::WaitsForHost {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

async fn meet(
    work: &Work<UndoJob>,
    guest: &Guest,
    obligation: &Obligation,
    snapshot_limit: Duration,
) -> Result<(), StepError> {
    let (host, opened) = work.permit.guest(guest).await?;
    let met = undo::meet(
        opened.as_ref(),
        &work.context.telemetry.metrics,
        obligation,
        snapshot_limit,
    )
    .await;
    if met.as_ref().is_err_and(StepError::is_lost) {
        work.permit.discard(&host).await;
    }
    met
}

async fn is_met(
    context: &Context,
    claim: &UndoClaim,
    obligation: &Obligation,
    guest: &Guest,
) -> Result<(), StepError> {
    tracing::info!(guest = guest.full_name(), action = ?obligation.action(), "obligation met");
    let recording = || async {
        let mut tx = context.pool.begin().await?;
        obligations::met(&mut *tx, obligation).await?;
        if obligation.attempts >= LOUD_FROM {
            let event = NewEvent::user(Severity::Info, met_at_last(guest, obligation));
            events::record(&mut *tx, &about(claim, obligation, event)).await?;
        }
        Ok(tx.commit().await?)
    };
    Ok(context
        .while_unavailable("an obligation that is met", recording)
        .await?)
}

/// Records what becomes of an obligation that was not met.
async fn conclude(
    work: &Work<UndoJob>,
    obligation: &Obligation,
    guest: &Guest,
    error: &StepError,
) -> Result<Ending, StepError> {
    let mut message = error.to_string();
    let context = work.context.as_ref();
    let job = UndoJob {
        guest_id: work.row.guest_id,
    };
    let leaves_to_others = context
        .missing_capabilities
        .note(job, None, error, &mut message)
        .await?;
    let name = guest.full_name();
    let attempt = Attempt {
        subject: Subject::Obligation(&name, obligation.action()),
        step: None,
        number: obligation.attempts + 1,
        limit: i32::MAX,
        keeps_steps: false,
        is_cancelled: false,
        leaves_to_others,
        bad_copies_before: 0,
        delay_secs: delay_secs(FIRST_DELAY_SECS, obligation.attempts),
        message: &message,
    };
    let decision = decide(error, &attempt);
    if let Ending::Retry { delay_secs, .. } = decision.ending {
        context
            .while_unavailable("an obligation that is not met", || {
                record_failure(
                    context, &work.row, obligation, &decision, &message, delay_secs,
                )
            })
            .await?;
    }
    decision.log(&attempt);
    Ok(decision.ending)
}

async fn record_failure(
    context: &Context,
    claim: &UndoClaim,
    obligation: &Obligation,
    decision: &Decision,
    why: &str,
    delay_secs: f64,
) -> Result<(), StoreError> {
    let mut tx = context.pool.begin().await?;
    let attempts = obligations::failed(&mut tx, obligation, why, delay_secs).await?;
    if let Some(event) = &decision.event {
        let event = about(claim, obligation, event.clone());
        events::record(&mut *tx, &event).await?;
    }
    // Events go on; mail and webhook tell it once, and then the daily digest.
    if attempts == LOUD_FROM {
        notices::of_obligation(&mut tx, obligation.guest_run_id).await?;
    }
    tx.commit().await?;
    Ok(())
}

fn met_at_last(guest: &Guest, obligation: &Obligation) -> String {
    let name = guest.full_name();
    match obligation.action() {
        UndoAction::RemoveSnapshot(snapshot) => {
            format!("guest {name}: the snapshot {snapshot} is removed at last")
        }
        UndoAction::PowerOn => format!("guest {name}: runs again at last"),
    }
}

fn about(claim: &UndoClaim, obligation: &Obligation, event: NewEvent) -> NewEvent {
    event
        .host(claim.host_id)
        .guest(claim.guest_id)
        .guest_run(obligation.guest_run_id)
}
