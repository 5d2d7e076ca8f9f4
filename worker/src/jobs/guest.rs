//! Guest jobs: back up one guest that has a slot.

use opentelemetry::trace::FutureExt;
use tracing::Instrument as _;
use uuid::Uuid;
use virtuozo_model::Settings;
use virtuozo_postgres::StoreError;
use virtuozo_queue::GuestJob;
use virtuozo_store::{
    events,
    guest_runs::{self, Assignment, GuestLease},
    leases::{self, Fence, LeaseEnd},
    steps::{self, StepFailure},
};
use virtuozo_telemetry::{metrics::Outcome, tree};

use super::{
    Job, Work,
    decide::{Attempt, Subject, decide},
};
use crate::{
    context::Context,
    error::{BadCopy, StepError, Stop, check},
    plan::Retry,
    retention,
    retry::delay_secs,
    steps::{FailedAttempt, GuestRun, verify},
    undo,
};

impl Job for GuestJob {
    type Lease = GuestLease;
    type Assignment = Assignment;

    const TAKING: &'static str = "the taking of a guest run";

    fn run_id(self) -> Option<Uuid> {
        Some(self.guest_run_id)
    }

    async fn put_back(self, context: &Context) -> Result<(), StoreError> {
        leases::put_back::<GuestLease>(&*context.pool, self.guest_run_id, context.incarnation).await
    }

    async fn assignment(self, context: &Context) -> Result<Option<Assignment>, StoreError> {
        guest_runs::assignment(&context.pool, self.guest_run_id).await
    }

    fn on_host(assignment: &Assignment) -> (Uuid, &Settings) {
        (assignment.guest.host_id, &assignment.settings)
    }

    async fn take(
        self,
        context: &Context,
        _: &Assignment,
    ) -> Result<Option<GuestLease>, StoreError> {
        let taken =
            leases::take::<GuestLease>(&*context.pool, self.guest_run_id, context.incarnation)
                .await?;
        if taken
            .as_ref()
            .is_some_and(|row| row.attempt_fence != row.fence)
        {
            context.telemetry.metrics.taken_over();
        }
        Ok(taken)
    }

    async fn work(work: Work<Self>) {
        let span = tracing::info_span!("guest_run", trace_id = tree::hex(work.row.trace_id));
        let run = GuestRun::new(
            work.context,
            work.row,
            work.lease,
            work.assignment,
            work.permit,
        );
        back_up(run).instrument(span).await;
    }
}

async fn back_up(run: GuestRun) {
    let name = run.guest.full_name();
    tracing::info!(guest = name, fence = run.row.fence, "guest run begins");
    match run.attempt().await {
        Ok(published) => {
            let metrics = &run.context.telemetry.metrics;
            metrics.attempt_ended(Outcome::Succeeded);
            tracing::info!(guest = name, "restore point published");
            retention::apply(&run, &published).await;
        }
        Err(FailedAttempt {
            error: StepError::Stop(Stop::Fenced),
            ..
        }) => fenced(&run).await,
        Err(failed) => {
            if !matches!(failed.error, StepError::Stop(_) | StepError::HostDown(_)) {
                run.trace.failed();
            }
            if failed.error.is_lost() {
                run.reconnect().await;
            }
            let concluding = conclude(&run, &failed).with_context(run.trace.whole());
            match concluding.await {
                Ok(()) => {}
                Err(StepError::Stop(Stop::Fenced)) => fenced(&run).await,
                Err(problem) => {
                    tracing::warn!(guest = name, error = %problem, "end of the attempt could not be recorded");
                }
            }
        }
    }
}

/// The lease is lost: nothing more is done, but for what this worker may have changed too late.
async fn fenced(run: &GuestRun) {
    let name = run.guest.full_name();
    tracing::warn!(guest = name, "lease lost; another worker has the guest run");
    if let Err(error) = run.record_late_change().await {
        tracing::error!(guest = name, %error, "late change could not be recorded");
    }
}

/// Whether the next attempt can go on after the steps that are done. A worker that stops has brought the guest back.
fn keeps_steps(failed: &FailedAttempt) -> bool {
    let goes_on = failed
        .step
        .is_some_and(|step| step.retry == Retry::FromHere);
    goes_on
        && !matches!(
            failed.error,
            StepError::BadCopy(_) | StepError::Stop(Stop::Cancelled | Stop::Fenced)
        )
}

/// Brings the guest back after an attempt that did not succeed, and records what becomes of the run.
async fn conclude(run: &GuestRun, failed: &FailedAttempt) -> Result<(), StepError> {
    let error = &failed.error;
    let keeps_steps = keeps_steps(failed);
    let mut message = error.to_string();
    // What the next attempt begins with is already the undoing. Without the host nothing can be undone.
    if !keeps_steps
        && !matches!(error, StepError::HostDown(_))
        && let Err(left) = undo::bring_back(run).await
    {
        if let StepError::Stop(stop) = left {
            return Err(stop.into());
        }
        message = format!("{message}; and the guest could not be brought back yet: {left}");
    }
    let leaves_to_others = run
        .context
        .missing_capabilities
        .note(
            GuestJob {
                guest_run_id: run.row.guest_run_id,
            },
            Some(run.row.run_id),
            error,
            &mut message,
        )
        .await?;
    let (pool, metrics) = (&run.context.pool, &run.context.telemetry.metrics);
    let bad_copies_before = match error {
        StepError::BadCopy(_) => {
            let counting = || steps::bad_copies(pool, &run.row, BadCopy::ERROR_TYPE);
            run.context
                .while_unavailable("the bad copies before this one", counting)
                .await?
        }
        _ => 0,
    };
    let name = run.guest.full_name();
    let attempt = Attempt {
        subject: Subject::Guest(&name),
        step: failed.step.map(|step| step.name),
        number: run.row.attempts + 1,
        limit: run.settings.max_attempts,
        keeps_steps,
        is_cancelled: run.lease.now() == Some(Err(LeaseEnd::Cancelled)),
        leaves_to_others,
        bad_copies_before,
        delay_secs: delay_secs(run.settings.retry_delay_secs, run.row.attempts),
        message: &message,
    };
    let decision = decide(error, &attempt);
    let error_type = error.error_type();
    let fence = run
        .context
        .while_unavailable("the end of an attempt", || async {
            let mut tx = pool.begin().await?;
            if let Some(step) = attempt.step {
                let failure = StepFailure {
                    message: &message,
                    error_type: &error_type,
                    code: error.hypervisor_code(),
                };
                steps::failed(&mut tx, &run.row, step, failure).await?;
            }
            let failure = decision.failure.map(|class| (message.as_str(), class));
            let fence =
                guest_runs::end(&mut tx, metrics, &run.row, &decision.ending, failure).await?;
            if fence == Fence::Held {
                if let Some(event) = &decision.event {
                    events::record(&mut *tx, &run.about(event.clone())).await?;
                }
                tx.commit().await?;
            }
            Ok(fence)
        });
    check(fence.await?)?;
    decision.log(&attempt);
    metrics.attempt_ended(decision.outcome);
    // After the record: the fault is told even if this process dies here.
    if let StepError::BadCopy(bad) = error {
        verify::discard(run, bad).await;
    }
    Ok(())
}
