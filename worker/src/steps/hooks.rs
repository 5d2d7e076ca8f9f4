//! The hooks of a guest as part of its guest run: the command before its backup is run here, the command after it is
//! recorded as due.

use virtuozo_hooks::{Ended, Environment, Subject, perform};
use virtuozo_model::{Hook, HookMoment, OnFailure, StepName};
use virtuozo_repository::PointMode;
use virtuozo_store::{events, hooks};
use virtuozo_telemetry::tree;

use super::GuestRun;
use crate::error::{StepError, Stop, check};

impl GuestRun {
    fn hook(&self, moment: HookMoment) -> Option<&Hook> {
        self.guest.hooks.iter().find(|hook| hook.moment == moment)
    }
}

/// Records that the command after the guest's backup is to be run, if there is one. It is run then however the guest run
/// ends.
pub(crate) async fn expect_after(run: &GuestRun) -> Result<(), StepError> {
    if run.hook(HookMoment::After).is_some() {
        let expecting = || hooks::expect_after(&run.context.pool, &run.row);
        check(
            run.context
                .while_unavailable("a hook that is to follow", expecting)
                .await?,
        )?;
    }
    Ok(())
}

/// Runs the command before the guest's backup, if there is one.
pub(crate) async fn before(run: &GuestRun, mode: PointMode) -> Result<(), StepError> {
    let Some(hook) = run.hook(HookMoment::Before) else {
        return Ok(());
    };
    run.lease.allowed().await?;
    let pool = &run.context.pool;
    let schedule = run
        .context
        .while_unavailable("the name of the schedule", || {
            hooks::schedule_of(pool, run.row.run_id)
        })
        .await?;
    let name = run.guest.full_name();
    let subject = Subject::Guest(&name);
    let row = &run.row;
    let span = tree::step(
        row.trace_id,
        row.guest_run_id,
        row.fence,
        StepName::Validate,
    );
    let attempt = i64::from(row.attempts) + 1;
    let kind = subject.kind(hook.moment);
    let mut environment = Environment::new(kind, row.run_id, attempt, row.fence, &span);
    environment.set_if_some("VIRTUOZO_SCHEDULE", schedule);
    environment.set("VIRTUOZO_HOST", &run.guest.host_name);
    environment.set("VIRTUOZO_GUEST", &run.guest.name);
    environment.set("VIRTUOZO_GUEST_LOCATOR", &run.guest.locator);
    environment.set("VIRTUOZO_MODE", mode.as_str());
    let programs = &run.context.hooks;
    tracing::info!(guest = name, "hook before the backup begins");
    let result = perform(hook, subject, &environment, programs, stopped(run)).await;
    let event = run.about(result.event);
    run.context
        .while_unavailable("the result of a hook", || events::record(pool, &event))
        .await?;
    match (result.ended, result.failure) {
        (Ended::Stopped(stop), _) => Err(stop.into()),
        (_, Some(why)) if hook.on_failure == OnFailure::Fail => Err(StepError::operator(why)),
        _ => Ok(()),
    }
}

/// Completes when the lease is lost, the run is cancelled, or this worker drains. An unreachable database does not end
/// a hook, since an interrupted hook could not be continued.
async fn stopped(run: &GuestRun) -> Stop {
    tokio::select! {
        biased;
        end = run.lease.ended() => end.into(),
        () = run.context.drain.cancelled() => Stop::Draining,
    }
}
