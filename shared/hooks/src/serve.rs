//! Hooks that are to be run: taken, run under a lease, and recorded.

use std::{path::PathBuf, sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{Environment, Subject, perform, process::Ended, telling};
use virtuozo_model::HookMoment;
use virtuozo_postgres::{StoreError, ask, count_error};
use virtuozo_runtime::Availability;
use virtuozo_store::{
    events::NewEvent,
    hooks::{self, HookContext, HookLease, HookScope},
    leases::{BootInstant, Fence, LeaseHandle, LeaseKeeper},
};
use virtuozo_telemetry::tree;

/// How many hooks one process runs at the same time.
const AT_ONCE: usize = 8;
/// How often a process looks whether a hook is to be run.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An answer that takes longer waits on a connection that is dead.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// How long a process that ends waits for its hooks to be killed and left to others.
const FAREWELL_LIMIT: Duration = Duration::from_secs(8);
/// How often the end of a hook is recorded anew after the database has refused it: the next reason for that may be
/// none, and otherwise the hook would be run again.
const TRIES: u32 = 5;

/// Runs the hooks of one scope.
#[derive(Debug, Clone)]
pub struct Hooks {
    pool: PgPool,
    availability: Availability,
    owner_id: Uuid,
    whose: HookScope,
    guard: Option<PathBuf>,
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
    /// One for the process `owner_id`; `guard` as in [`Call::guard`](super::Call::guard).
    pub fn new(
        pool: PgPool,
        availability: Availability,
        owner_id: Uuid,
        whose: HookScope,
        guard: Option<PathBuf>,
    ) -> Self {
        Self {
            pool,
            availability,
            owner_id,
            whose,
            guard,
        }
    }

    /// Runs hooks until `stop`. What runs then is killed and left to other processes.
    pub async fn serve(self, stop: CancellationToken) {
        let this = Arc::new(self);
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let work = TaskTracker::new();
        while !stop.is_cancelled() {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                break;
            };
            let taken_at = BootInstant::now();
            let taking = hooks::take(&this.pool, this.whose, this.owner_id);
            let taken = tokio::select! {
                taken = ask(&this.availability, "hooks", ANSWER_LIMIT, taking) => taken,
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
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
        work.close();
        if tokio::time::timeout(FAREWELL_LIMIT, work.wait())
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
        let keeper = LeaseKeeper::start(
            self.pool.clone(),
            self.availability.clone(),
            taken.clone(),
            taken_at,
        );
        if let Err(error) = self.perform(&taken, &keeper.handle(), &stop).await {
            count_error(&self.availability, &error);
            // The lease runs out, and somebody tries again.
            tracing::warn!(run = %taken.run_id, %error, "a hook was not run to its end");
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
            let why = telling::given_up(hook, subject, taken.fence - 1);
            let event = NewEvent::user(telling::severity(hook), subject.says(&why));
            let event = about(taken, &facts, event);
            return self.record(taken, None, Some(&why), &event, stop).await;
        }
        let environment = environment(taken, &facts, subject);
        tracing::info!(hook = subject.kind(hook.moment), run = %taken.run_id, "hook begins");
        let stopped = async {
            tokio::select! {
                // A database that does not answer ends no hook.
                _ = lease.ended() => Stop::Lost,
                () = stop.cancelled() => Stop::Draining,
            }
        };
        let guard = self.guard.as_deref();
        let performed = perform(hook, subject, &environment, guard, stopped).await;
        let event = about(taken, &facts, performed.event.clone());
        match performed.ended {
            Ended::Stopped(Stop::Draining) => {
                tracing::info!(run = %taken.run_id, "a hook was stopped; another process runs it again");
                hooks::put_back(&self.pool, taken).await
            }
            Ended::Stopped(Stop::Lost) => {
                tracing::info!(run = %taken.run_id, "a hook was stopped: its run has ended, or another process has it");
                virtuozo_store::events::record(&self.pool, &event).await
            }
            Ended::Exited(_) | Ended::TimedOut => {
                let failure = performed.failure.as_deref();
                self.record(taken, performed.exit_code(), failure, &event, stop)
                    .await
            }
        }
    }

    /// Records the end, again and again while the database does not answer.
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
            let ending = hooks::end(&self.pool, taken, exit_code, failure, event);
            match ask(
                &self.availability,
                "the end of a hook",
                ANSWER_LIMIT,
                ending,
            )
            .await
            {
                Ok(fence) => {
                    if fence == Fence::Lost {
                        tracing::info!(run = %taken.run_id, "a hook ended, but its run had ended before, or another process has it");
                    }
                    return Ok(());
                }
                Err(error) if error.is_unavailable() => {}
                Err(error) => {
                    refused += 1;
                    if refused == TRIES {
                        return Err(error);
                    }
                    tracing::debug!(%error, "the end of a hook was not recorded, trying again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                // It will be run again.
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
    all.say("VIRTUOZO_REQUESTED_BY", &facts.requested_by);
    all.say_if("VIRTUOZO_SCHEDULE", facts.schedule.as_ref());
    all.say_if("VIRTUOZO_OUTCOME", taken.outcome.as_ref());
    if taken.hook.moment == HookMoment::After {
        all.say_if("VIRTUOZO_ERROR", facts.error.as_ref());
    }
    all.say_if("VIRTUOZO_HOST", facts.host.as_ref());
    all.say_if("VIRTUOZO_GUEST", facts.guest.as_ref());
    all.say_if("VIRTUOZO_GUEST_LOCATOR", facts.locator.as_ref());
    all.say_if("VIRTUOZO_MODE", facts.mode.as_ref());
    all.say_if("VIRTUOZO_POINT", facts.point.as_ref());
    if subject == Subject::Run && taken.hook.moment == HookMoment::After {
        all.say("VIRTUOZO_GUESTS", facts.guests);
        all.say("VIRTUOZO_GUESTS_SUCCEEDED", facts.succeeded);
        all.say("VIRTUOZO_GUESTS_FAILED", facts.failed);
        all.say("VIRTUOZO_HOSTS_FAILED", facts.hosts_failed);
        all.say("VIRTUOZO_FAILED_GUESTS", facts.failed_guests.join("\n"));
    }
    all
}
