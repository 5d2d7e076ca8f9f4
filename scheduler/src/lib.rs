//! When: leader, schedules to runs, admission into the queues, sweeps.
//!
//! Any number of schedulers may run; one leads. Correctness does not rest on that: what a scheduler does
//! is decided by single statements, which two may send at the same time.

mod digest;
mod event_forwarder;
mod fleet_gauges;
mod lead;
mod leader;
mod sweep;
mod tick;
mod trace_exporter;

use std::{path::PathBuf, time::Instant};

use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virtuozo_hooks::{HookPrograms, Hooks};
use virtuozo_model::ProcessKind;
use virtuozo_notices::{CaFiles, Notices};
use virtuozo_postgres::{StoreError, ask};
use virtuozo_runtime::{Availability, LIMITS};
use virtuozo_store::{hooks::HookScope, leadership, wakeup::WakeupListener, workers};
use virtuozo_telemetry::Telemetry;

pub use crate::event_forwarder::EventLog;
use crate::{
    digest::DigestQueue,
    event_forwarder::EventForwarder,
    fleet_gauges::FleetGauges,
    leader::{LeaderTasks, Term},
    sweep::Sweeper,
    tick::Ticker,
    trace_exporter::TraceExporter,
};

/// How a scheduler runs.
#[derive(Debug, Clone)]
pub struct SchedulerOptions {
    /// Its name, for people; several schedulers may have one name.
    pub name: String,
    /// The file with the key that opens the password and the secret for notices.
    pub key_file: PathBuf,
    /// The files of issuers that this machine reads.
    pub ca_files: CaFiles,
    /// The log of this machine that events are told to while it leads.
    pub event_log: EventLog,
    /// The hooks that this machine runs.
    pub hooks: HookPrograms,
}

impl SchedulerOptions {
    /// The usual options.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            key_file: virtuozo_secrets::default_key_file(),
            ca_files: CaFiles::default(),
            event_log: EventLog::Off,
            hooks: HookPrograms::default(),
        }
    }
}

/// A process that starts runs when they are due and mends what is left behind.
#[derive(Debug)]
pub struct Scheduler;

impl Scheduler {
    /// Works until `shutdown`, and ends within `LIMITS.scheduler.stop()` then. A database that is away is waited for. How
    /// the scheduler stands is noted in the health of `telemetry`, as it is by whoever connected `pool`.
    ///
    /// # Errors
    /// If the scheduler cannot enter itself in the database.
    pub async fn run(
        pool: PgPool,
        options: SchedulerOptions,
        telemetry: Telemetry,
        shutdown: CancellationToken,
    ) -> Result<(), StoreError> {
        let health = &telemetry.health;
        let id = Uuid::now_v7();
        let name = options.name.as_str();
        tracing::info!(name, %id, "scheduler runs");
        let turns = health
            .liveness
            .watch("schedulers", LIMITS.scheduler.standstill);
        let component = health.readiness.component("the scheduler");
        let notices = Notices::new(
            pool.clone(),
            telemetry.clone(),
            options.key_file.clone(),
            options.ca_files.clone(),
        );
        let stop_sending = shutdown.child_token();
        let sending = tokio::spawn(notices.serve(stop_sending.clone()));
        let _sends_until_here = stop_sending.drop_guard();
        let hooks = Hooks::new(
            pool.clone(),
            telemetry.clone(),
            id,
            HookScope::Site,
            options.hooks.clone(),
        );
        let stop_hooks = shutdown.child_token();
        let hooks = tokio::spawn(hooks.serve(stop_hooks.clone()));
        let _hooks_until_here = stop_hooks.drop_guard();

        let (term, wakeups) = (watch::Sender::new(None), watch::Sender::new(0));
        let stop_tasks = shutdown.child_token();
        let tasks = leader_tasks(
            &pool,
            &options,
            &telemetry,
            (term.subscribe(), wakeups.subscribe()),
            &stop_tasks,
        );
        let refused = tasks.refused();
        let _tasks_until_here = stop_tasks.drop_guard();
        // Given up after all else: what ended with this process is told by the leader that ends.
        let stop_leading = CancellationToken::new();
        let leading = lead::hold(
            pool.clone(),
            id,
            telemetry.clone(),
            term,
            stop_leading.clone(),
        );
        let leading = tokio::spawn(leading);
        let leads_until_here = stop_leading.drop_guard();

        let mut wakeup = WakeupListener::new(pool.clone());
        let mut registration = Registration::new(&pool, id, name);
        while !shutdown.is_cancelled() {
            turns.turned();
            let heard = tokio::select! {
                heard = registration.heartbeat(&health.availability) => heard,
                () = shutdown.cancelled() => break,
            };
            match heard {
                Ok(()) if refused.any() => {
                    component.unready("is refused by the database; its log says why");
                }
                Ok(()) => component.ready(),
                Err(error) if error.is_unavailable() => registration.is_due(),
                Err(error) if !registration.is_done => return Err(error),
                Err(error) => {
                    component.unready("is refused by the database; its log says why");
                    tracing::debug!(%error, "no sign of life can be given");
                }
            }
            tokio::select! {
                is_woken = wakeup.pause(LIMITS.scheduler.turn_pause) => if is_woken {
                    wakeups.send_modify(|count| *count += 1);
                },
                () = shutdown.cancelled() => {}
            }
        }
        component.unready("stops");
        let ending = async {
            let _ = tokio::join!(sending, hooks, tasks.ended());
        };
        if tokio::time::timeout(LIMITS.scheduler.end, ending)
            .await
            .is_err()
        {
            tracing::warn!(
                "what was under way did not end in time; other schedulers go on with it"
            );
        }
        drop(leads_until_here);
        // Within a limit: the database may be away.
        let farewell = async {
            let _ = leading.await;
            leadership::resign(&pool, id).await?;
            workers::stop(&pool, id).await
        };
        if !matches!(
            tokio::time::timeout(LIMITS.scheduler.farewell, farewell).await,
            Ok(Ok(()))
        ) {
            tracing::warn!("the database does not answer; the scheduler's end is not written down");
        }
        tracing::info!(name = options.name, "scheduler has stopped");
        Ok(())
    }
}

/// Begins to drive all that the leading scheduler does, while the first of `signals` says that this one leads; the
/// second ends pauses.
fn leader_tasks(
    pool: &PgPool,
    options: &SchedulerOptions,
    telemetry: &Telemetry,
    signals: (watch::Receiver<Term>, watch::Receiver<u64>),
    stop: &CancellationToken,
) -> LeaderTasks {
    let (term, wakeups) = signals;
    let mut tasks = LeaderTasks::new(telemetry.health.clone(), term, wakeups, stop.clone());
    tasks.spawn(Ticker::new(pool.clone()));
    tasks.spawn(Sweeper::new(pool.clone(), telemetry.clone()));
    tasks.spawn(DigestQueue::new(pool.clone()));
    if options.event_log != EventLog::Off {
        tasks.spawn(EventForwarder::new(pool.clone(), options.event_log.clone()));
    }
    if telemetry.traces.is_on() {
        tasks.spawn(TraceExporter::new(pool.clone(), telemetry.traces.clone()));
    }
    tasks.spawn(FleetGauges::new(pool.clone(), telemetry.metrics.clone()));
    tasks
}

/// The scheduler's entry in the database, and its signs of life.
struct Registration<'a> {
    pool: &'a PgPool,
    id: Uuid,
    name: &'a str,
    /// It is entered.
    is_done: bool,
    last: Option<Instant>,
}

impl<'a> Registration<'a> {
    fn new(pool: &'a PgPool, id: Uuid, name: &'a str) -> Self {
        Self {
            pool,
            id,
            name,
            is_done: false,
            last: None,
        }
    }

    /// Gives a sign of life if one is due. Who is not entered, or not any more, is entered.
    async fn heartbeat(&mut self, availability: &Availability) -> Result<(), StoreError> {
        if self
            .last
            .is_some_and(|at| at.elapsed() < LIMITS.process.heartbeat_every)
        {
            return Ok(());
        }
        let heartbeat = async {
            if !self.is_done
                || workers::heartbeat(self.pool, self.id).await?
                    == workers::HeartbeatAnswer::Unknown
            {
                workers::register(self.pool, self.id, ProcessKind::Scheduler, self.name, &[])
                    .await?;
            }
            Ok(())
        };
        let what = "the scheduler's signs of life";
        ask(availability, what, LIMITS.scheduler.heartbeat, heartbeat).await?;
        self.is_done = true;
        self.last = Some(Instant::now());
        Ok(())
    }

    /// The next sign of life is given at once: the last may be long ago.
    fn is_due(&mut self) {
        self.last = None;
    }
}
