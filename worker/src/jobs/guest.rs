//! Guest jobs: back up one guest that has a slot.

use std::sync::Arc;

use opentelemetry::trace::FutureExt;
use sqlx::PgPool;
use tracing::Instrument as _;
use virtuozo_model::Severity;
use virtuozo_postgres::StoreError;
use virtuozo_queue::{GuestJob, HandlerError};
use virtuozo_store::{
    events::{self, NewEvent},
    guest_runs::{self, Ending, FailureClass},
    leases::Fence,
    steps::{self, StepFailure},
};
use virtuozo_telemetry::{
    metrics::{self, Outcome},
    tree,
};

use super::{HAND_BACK_SECS, delay_secs, outside, seat};
use crate::{
    context::{Context, Hand},
    error::{StepError, Stop},
    fitness,
    lease::{Held, LeaseKeeper, Moment},
    patience::patiently,
    retention,
    steps::{GuestRun, Spec},
    undo,
};

/// Takes the guest run's lease and starts the work. From then on the lease, not the job, sees to it that
/// the run comes to its end.
pub(crate) async fn deliver(context: Arc<Context>, job: GuestJob) -> Result<(), HandlerError> {
    let hand = context.in_hand.take(job.guest_run_id).map(Arc::new);
    outside(
        &context,
        "the taking of a guest run",
        move |context, again| {
            let hand = hand.clone();
            async move { begin(&context, job, hand, again).await }
        },
    );
    Ok(())
}

async fn begin(
    context: &Arc<Context>,
    job: GuestJob,
    hand: Option<Arc<Hand>>,
    again: bool,
) -> Result<(), StoreError> {
    let pool = &context.pool;
    if again && hand.is_some() {
        // An earlier attempt may have been carried out, and its answer lost.
        guest_runs::put_back(pool, job.guest_run_id, context.incarnation).await?;
    }
    let Some(brief) = guest_runs::brief(pool, job.guest_run_id).await? else {
        return Ok(());
    };
    let Some(hand) = hand else {
        // Work of this process on it, under a lease that it lost, has not ended yet.
        return guest_runs::hand_back(pool, job.guest_run_id, HAND_BACK_SECS).await;
    };
    let Some(seat) = seat(context, brief.guest.host_id, &brief.settings).await? else {
        return guest_runs::hand_back(pool, job.guest_run_id, HAND_BACK_SECS).await;
    };
    let taken_at = Moment::now();
    let Some(row) = guest_runs::take(pool, job.guest_run_id, context.incarnation).await? else {
        return Ok(());
    };
    if row.attempt_fence != row.fence {
        metrics::taken_over();
    }
    let keeper = LeaseKeeper::start(PgPool::clone(pool), Held::Guest(row.clone()), taken_at);
    let context_of_work = Arc::clone(context);
    context.work.spawn(async move {
        // A panic ends this task and with it the keeper: the lease runs out, and the sweep counts a crash.
        let span = tracing::info_span!("guest_run", trace_id = tree::hex(row.trace_id));
        work(GuestRun::new(
            context_of_work,
            row,
            keeper.lease(),
            brief,
            seat,
        ))
        .instrument(span)
        .await;
        drop((keeper, hand));
    });
    Ok(())
}

async fn work(run: GuestRun) {
    let name = run.guest.full_name();
    tracing::info!(guest = name, fence = run.row.fence, "guest run begins");
    match run.attempt().await {
        Ok(points) => {
            metrics::attempt_ended(Outcome::Succeeded);
            tracing::info!(guest = name, "restore point published");
            retention::apply(&run, &points).await;
        }
        Err((_, StepError::Stop(Stop::Fenced))) => fenced(&run).await,
        Err((spec, error)) => {
            if !matches!(error, StepError::Stop(_) | StepError::HostDown(_)) {
                run.trace.went_wrong();
            }
            if error.is_lost() {
                run.reconnect().await;
            }
            let concluding = conclude(&run, spec, &error).with_context(run.trace.whole());
            match concluding.await {
                Ok(()) => {}
                Err(StepError::Stop(Stop::Fenced)) => fenced(&run).await,
                Err(problem) => {
                    tracing::warn!(guest = name, error = %problem, "an attempt could not be concluded");
                }
            }
        }
    }
}

/// The lease is lost: nothing more is done, but for what this worker may have changed too late.
async fn fenced(run: &GuestRun) {
    let name = run.guest.full_name();
    tracing::warn!(guest = name, "another worker acts for this guest run now");
    if let Err(error) = run.owe_late().await {
        tracing::error!(guest = name, %error, "a change that came too late could not be written down");
    }
}

/// Brings the guest back after an attempt that did not succeed, and decides what becomes of the run.
async fn conclude(
    run: &GuestRun,
    spec: Option<&'static Spec>,
    error: &StepError,
) -> Result<(), StepError> {
    let keeps_copy = spec.is_some_and(|s| s.resumes)
        && !matches!(error, StepError::BadCopy(_) | StepError::Stop(_));
    let is_down = matches!(error, StepError::HostDown(_));
    let mut message = error.to_string();
    // What the next attempt begins with is already the undoing. Without the host nothing can be undone.
    if !keeps_copy
        && !is_down
        && let Err(left) = undo::bring_back(run).await
    {
        if let StepError::Stop(stop) = left {
            return Err(stop.into());
        }
        message = format!("{message}; and the guest could not be brought back yet: {left}");
    }
    let leaves_to_others = fitness::note(
        &run.context,
        run.row.host_id,
        Some(run.row.run_id),
        error.class(),
        &mut message,
    )
    .await?;
    let name = run.guest.full_name();
    let attempt = run.row.attempts + 1;
    let in_step = spec.map_or(String::new(), |s| format!(" in step {}", s.name));
    let (ending, failure, event) = match error {
        StepError::Stop(Stop::Cancelled) => {
            let event = NewEvent::user(
                Severity::Warning,
                format!("guest {name}: cancelled{in_step}"),
            );
            (Ending::Cancelled, None, event)
        }
        StepError::HostDown(_) if run.lease.now() == Some(Err(Stop::Cancelled)) => {
            let event = NewEvent::user(
                Severity::Warning,
                format!("guest {name}: cancelled while its host does not answer"),
            );
            (Ending::Cancelled, None, event)
        }
        StepError::HostDown(down) if !down.is_given_up() => {
            let event = NewEvent::threading(format!(
                "guest {name}: waits until its host answers: {message}"
            ));
            (Ending::WaitsForHost, Some(error.class()), event)
        }
        StepError::Stop(_) => {
            let event = NewEvent::threading(format!(
                "guest {name}: handed over{in_step}, because a worker stops"
            ));
            (Ending::HandedOver { keep_steps: false }, None, event)
        }
        _ if leaves_to_others => {
            let event = NewEvent::user(
                Severity::Warning,
                format!("guest {name}: another worker takes over{in_step}: {message}"),
            );
            let ending = Ending::HandedOver {
                keep_steps: keeps_copy,
            };
            (ending, None, event)
        }
        _ if !is_down
            && matches!(error.class(), FailureClass::Retry | FailureClass::Elsewhere)
            && attempt < run.settings.max_attempts =>
        {
            let delay_secs = delay_secs(run.settings.retry_delay_secs, run.row.attempts);
            let event = NewEvent::user(
                Severity::Warning,
                format!(
                    "guest {name}: attempt {attempt} of {} failed{in_step}, the next begins in about \
                     {delay_secs:.0} s: {message}",
                    run.settings.max_attempts
                ),
            );
            (
                Ending::Retry {
                    delay_secs,
                    keep_steps: keeps_copy,
                },
                Some(error.class()),
                event,
            )
        }
        _ => {
            let event = NewEvent::user(
                Severity::Error,
                format!("guest {name}: backup failed{in_step}: {message}"),
            );
            let ending = if is_down {
                Ending::HostGivenUp
            } else {
                Ending::Failed
            };
            (ending, Some(error.class()), event)
        }
    };
    let pool = &run.context.pool;
    let error_type = error.error_type();
    let fence = patiently("the end of an attempt", || async {
        let mut tx = pool.begin().await?;
        if let Some(spec) = spec {
            let failure = StepFailure {
                message: &message,
                error_type: &error_type,
                code: error.hypervisor_code(),
            };
            steps::failed(&mut tx, &run.row, spec.name, failure).await?;
        }
        let failure = failure.map(|class| (message.as_str(), class));
        let fence = guest_runs::end(&mut tx, &run.row, &ending, failure).await?;
        if fence == Fence::Held {
            events::record(&mut *tx, &run.about(event.clone())).await?;
            tx.commit().await?;
        }
        Ok(fence)
    });
    crate::steps::check(fence.await?)?;
    let step = spec.map(|spec| spec.name.as_str());
    match ending {
        Ending::Failed | Ending::HostGivenUp => {
            tracing::error!(guest = name, step, error = message, "backup failed");
        }
        Ending::Retry { .. } => {
            tracing::warn!(guest = name, step, error = message, "an attempt failed");
        }
        Ending::Cancelled | Ending::HandedOver { .. } | Ending::WaitsForHost => {
            tracing::info!(guest = name, step, reason = message, "the attempt ends");
        }
    }
    metrics::attempt_ended(match ending {
        Ending::Retry { .. } => Outcome::Retried,
        Ending::Failed | Ending::HostGivenUp => Outcome::Failed,
        Ending::Cancelled => Outcome::Cancelled,
        Ending::HandedOver { .. } => Outcome::HandedOver,
        Ending::WaitsForHost => Outcome::WaitsForHost,
    });
    Ok(())
}
