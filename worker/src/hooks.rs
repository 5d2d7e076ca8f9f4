//! The hooks of a guest, as far as they belong to its guest run: the command before its backup, and the word
//! that one is to follow.

use virtuozo_hooks::{Ended, Environment, Subject, perform};
use virtuozo_model::StepName;
use virtuozo_model::{Hook, HookMoment, OnFailure};
use virtuozo_repository::PointMode;
use virtuozo_store::{events, hooks};
use virtuozo_telemetry::tree;

use crate::{
    error::{StepError, Stop},
    steps::{GuestRun, check},
};

impl GuestRun {
    fn hook(&self, moment: HookMoment) -> Option<&Hook> {
        self.guest.hooks.iter().find(|hook| hook.moment == moment)
    }
}

/// Says that the command after the guest's backup is to be run, if there is one: from now on it will be,
/// whoever ends the guest run.
pub(crate) async fn expect_after(run: &GuestRun) -> Result<(), StepError> {
    if run.hook(HookMoment::After).is_some() {
        let expecting = || hooks::expect_after(&run.context.pool, &run.row);
        check(
            run.context
                .while_unavailable("the word that a hook is to follow", expecting)
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
    environment.say_if("VIRTUOZO_SCHEDULE", schedule);
    environment.say("VIRTUOZO_HOST", &run.guest.host_name);
    environment.say("VIRTUOZO_GUEST", &run.guest.name);
    environment.say("VIRTUOZO_GUEST_LOCATOR", &run.guest.locator);
    environment.say("VIRTUOZO_MODE", mode.as_str());
    let guard = run.context.hook_guard.as_deref();
    tracing::info!(guest = name, "the command before the backup begins");
    let performed = perform(hook, subject, &environment, guard, told_to_stop(run)).await;
    let event = run.about(performed.event);
    run.context
        .while_unavailable("what became of a hook", || events::record(pool, &event))
        .await?;
    match (performed.ended, performed.failure) {
        (Ended::Stopped(stop), _) => Err(stop.into()),
        (_, Some(why)) if hook.on_failure == OnFailure::Fail => Err(StepError::operator(why)),
        _ => Ok(()),
    }
}

/// Until the lease is lost, the run cancelled, or this worker told to end. That the database does not answer
/// is no reason: the hook could not be taken up again where it was.
async fn told_to_stop(run: &GuestRun) -> Stop {
    tokio::select! {
        biased;
        end = run.lease.ended() => end.into(),
        () = run.context.drain.cancelled() => Stop::Draining,
    }
}
