//! Runs the hooks that are due: takes each under a lease, runs it, and records the result.

use std::sync::Arc;

use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;
use virtuozo_runtime::LIMITS;

use virtuozo_model::HookMoment;
use virtuozo_postgres::{StoreError, ask, count_error};
use virtuozo_store::{
    events::NewEvent,
    hooks::{self, HookContext, HookLease, HookScope},
    leases::{self, BootInstant, Fence, LeaseHandle, LeaseKeeper},
};
use virtuozo_telemetry::{Telemetry, tree};

use crate::{
    environment::Environment,
    perform::{given_up, perform, severity},
    process::Ended,
    programs::HookPrograms,
    subject::Subject,
};

/// How many hooks one process runs at the same time.
const MAX_RUNNING: usize = 8;
/// How many times the database may refuse the record of a hook's end. Without the record, the hook is run again.
const RECORD_ATTEMPTS: u32 = 5;

/// Runs the hooks of runs, or those of guests.
#[derive(Debug, Clone)]
pub struct Hooks {
    pool: PgPool,
    telemetry: Telemetry,
    owner_id: Uuid,
    scope: HookScope,
    programs: HookPrograms,
}

/// Why a hook is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Its lease is lost, or its run has ended.
    Lost,
    /// This process stops.
    Draining,
}

impl Hooks {
    /// Hooks of a scope, run by the process `owner_id`.
    pub fn new(
        pool: PgPool,
        telemetry: Telemetry,
        owner_id: Uuid,
        scope: HookScope,
        programs: HookPrograms,
    ) -> Self {
        Self {
            pool,
            telemetry,
            owner_id,
            scope,
            programs,
        }
    }

    /// Runs hooks until `stop`. Hooks that run then are killed, and other processes run them again.
    pub async fn serve(self, stop: CancellationToken) {
        let this = Arc::new(self);
        let permits = Arc::new(Semaphore::new(MAX_RUNNING));
        let work = TaskTracker::new();
        while !stop.is_cancelled() {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                break;
            };
            let taken_at = BootInstant::now();
            let taking = hooks::take(&this.pool, this.scope, this.owner_id);
            let taken = tokio::select! {
                taken = ask(&this.telemetry.health.availability, "hooks", LIMITS.database.statement, taking) => taken,
                () = stop.cancelled() => break,
            };
            match taken {
                Ok(Some(taken)) => {
                    let (this, stop) = (Arc::clone(&this), stop.clone());
                    work.spawn(async move { this.carry_out(taken, taken_at, stop, permit).await });
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "no hook could be taken"),
            }
            tokio::select! {
                () = tokio::time::sleep(LIMITS.hooks.poll_every) => {}
                () = stop.cancelled() => {}
            }
        }
        work.close();
        if tokio::time::timeout(LIMITS.hooks.stop, work.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                "hooks were not stopped in time; others run them again when the leases run out"
            );
        }
    }

    async fn carry_out(
        &self,
        taken: HookLease,
        taken_at: BootInstant,
        stop: CancellationToken,
        _permit: OwnedSemaphorePermit,
    ) {
        let keeper =
            LeaseKeeper::start(self.pool.clone(), &self.telemetry, taken.clone(), taken_at);
        if let Err(error) = self.perform(&taken, &keeper.handle(), &stop).await {
            count_error(&self.telemetry.health.availability, &error);
            // Another process runs it again when the lease has expired.
            tracing::warn!(run = %taken.run_id, %error, "hook was not completed");
        }
    }

    async fn perform(
        &self,
        taken: &HookLease,
        lease: &LeaseHandle,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let facts = hooks::facts(&self.pool, taken).await?;
        let name = facts.host.as_deref().zip(facts.guest.as_deref());
        let name = name.map(|(host, guest)| format!("{host}/{guest}"));
        let subject = name.as_deref().map_or(Subject::Run, Subject::Guest);
        let hook = &taken.hook;
        if taken.is_given_up {
            let why = given_up(hook, subject, taken.fence - 1);
            let event = NewEvent::user(severity(hook), subject.sentence(&why));
            let event = about(taken, &facts, event);
            return self.record(taken, None, Some(&why), &event, stop).await;
        }
        let environment = environment(taken, &facts, subject);
        tracing::info!(hook = subject.kind(hook.moment), run = %taken.run_id, "hook begins");
        let stopped = async {
            tokio::select! {
                // A lease that cannot be renewed because the database is unreachable ends no hook.
                _ = lease.ended() => Stop::Lost,
                () = stop.cancelled() => Stop::Draining,
            }
        };
        let performed = perform(hook, subject, &environment, &self.programs, stopped).await;
        let event = about(taken, &facts, performed.event.clone());
        match performed.ended {
            Ended::Stopped(Stop::Draining) => {
                tracing::info!(run = %taken.run_id, "hook was stopped; another process runs it again");
                leases::release(&self.pool, taken).await.map(|_fence| ())
            }
            Ended::Stopped(Stop::Lost) => {
                tracing::info!(run = %taken.run_id, "hook was stopped: its run has ended, or another process has the lease");
                virtuozo_store::events::record(&self.pool, &event).await
            }
            Ended::Exited(_) | Ended::TimedOut => {
                let failure = performed.failure.as_deref();
                self.record(taken, performed.exit_code(), failure, &event, stop)
                    .await
            }
        }
    }

    /// Records the end; repeats that while the database is unreachable.
    async fn record(
        &self,
        taken: &HookLease,
        exit_code: Option<i32>,
        failure: Option<&str>,
        event: &NewEvent,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let mut refused = 0;
        loop {
            let ending = hooks::end(
                &self.pool,
                &self.telemetry.metrics,
                taken,
                exit_code,
                failure,
                event,
            );
            match ask(
                &self.telemetry.health.availability,
                "the end of a hook",
                LIMITS.database.statement,
                ending,
            )
            .await
            {
                Ok(fence) => {
                    if fence == Fence::Lost {
                        tracing::info!(run = %taken.run_id, "hook ended after its run, or after another process had taken the lease");
                    }
                    return Ok(());
                }
                Err(error) if error.is_unavailable() => {}
                Err(error) => {
                    refused += 1;
                    if refused == RECORD_ATTEMPTS {
                        return Err(error);
                    }
                    tracing::debug!(%error, "end of a hook was not recorded, trying again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LIMITS.hooks.poll_every) => {}
                // Another process runs the hook again.
                () = stop.cancelled() => return Ok(()),
            }
        }
    }
}

fn about(taken: &HookLease, facts: &HookContext, event: NewEvent) -> NewEvent {
    let event = event.run(taken.run_id);
    match (facts.host_id, facts.guest_id, taken.guest_run_id) {
        (Some(host), Some(guest), Some(guest_run)) => {
            event.host(host).guest(guest).guest_run(guest_run)
        }
        _ => event,
    }
}

fn environment(taken: &HookLease, facts: &HookContext, subject: Subject<'_>) -> Environment {
    let span = match taken.guest_run_id {
        Some(id) => tree::guest(facts.trace_id, id, facts.trace_fence),
        None => tree::run(facts.trace_id),
    };
    let kind = subject.kind(taken.hook.moment);
    let mut all = Environment::new(kind, taken.run_id, taken.fence, taken.fence, &span);
    all.set("VIRTUOZO_REQUESTED_BY", &facts.requested_by);
    all.set_if_some("VIRTUOZO_SCHEDULE", facts.schedule.as_ref());
    all.set_if_some("VIRTUOZO_OUTCOME", taken.outcome.as_ref());
    if taken.hook.moment == HookMoment::After {
        all.set_if_some("VIRTUOZO_ERROR", facts.error.as_ref());
    }
    all.set_if_some("VIRTUOZO_HOST", facts.host.as_ref());
    all.set_if_some("VIRTUOZO_GUEST", facts.guest.as_ref());
    all.set_if_some("VIRTUOZO_GUEST_LOCATOR", facts.locator.as_ref());
    all.set_if_some("VIRTUOZO_MODE", facts.mode.as_ref());
    all.set_if_some("VIRTUOZO_POINT", facts.point.as_ref());
    if subject == Subject::Run && taken.hook.moment == HookMoment::After {
        all.set("VIRTUOZO_GUESTS", facts.guests);
        all.set("VIRTUOZO_GUESTS_SUCCEEDED", facts.succeeded);
        all.set("VIRTUOZO_GUESTS_FAILED", facts.failed);
        all.set("VIRTUOZO_HOSTS_FAILED", facts.hosts_failed);
        all.set("VIRTUOZO_FAILED_GUESTS", facts.failed_guests.join("\n"));
    }
    all
}
