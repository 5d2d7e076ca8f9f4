//! When: leader, schedules to runs, admission into the queues, sweeps.
//!
//! Any number of schedulers may run; one leads. Correctness does not rest on that: what a scheduler does
//! is decided by single statements, which two may send at the same time.

mod digest;
mod event_forwarder;
mod fleet_gauges;
mod sweep;
mod tick;
mod trace_exporter;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virtuozo_hooks::Hooks;
use virtuozo_model::ProcessKind;
use virtuozo_notices::Notices;
use virtuozo_postgres::{StoreError, ask};
use virtuozo_store::{hooks::HookScope, leadership, wakeup::WakeupListener, workers};
use virtuozo_telemetry::Telemetry;

pub use crate::event_forwarder::EventLog;
use crate::{fleet_gauges::FleetGaugeReader, sweep::Sweeper, tick::Ticker};

/// The pause between two looks at everything.
const EVERY: Duration = Duration::from_secs(1);
/// A sign of life is given every so many looks.
const LOOKS_PER_HEARTBEAT: u32 = 5;
/// A look that takes longer waits for a connection that is dead.
const LOOK_LIMIT: Duration = Duration::from_secs(30);
/// A look and the pause after it are over by then, or nobody looks any more.
const LOOKS_LIMIT: Duration = Duration::from_secs(60);
/// How long the trace back end may take for the last runs when the process ends.
const LAST_EXPORT_LIMIT: Duration = Duration::from_secs(5);
/// If even the lead takes longer to renew, the database was away for everybody.
const PROMPT: Duration = Duration::from_secs(1);
/// How long a look that is under way may take when the scheduler is told to end. What it has not
/// committed then is rolled back.
const LAST_LOOK_LIMIT: Duration = Duration::from_secs(2);

/// How long all that is under way may take when the scheduler is told to end, beside a last look: the limits of the
/// parts add up to less. What is not done then others do.
const END_LIMIT: Duration = Duration::from_secs(17);

/// By then a scheduler that was told to end has ended, whatever hangs: whoever kills what does not end has to wait
/// longer.
pub const STOP_LIMIT: Duration =
    Duration::from_secs(LAST_LOOK_LIMIT.as_secs() + END_LIMIT.as_secs() + EVERY.as_secs());

/// How a scheduler runs.
#[derive(Debug, Clone)]
pub struct SchedulerOptions {
    /// Its name, for people; several schedulers may have one name.
    pub name: String,
    /// The file with the key that opens the password and the secret for notices.
    pub key_file: PathBuf,
    /// The log of this machine that events are told to while it leads.
    pub event_log: EventLog,
    /// The program `virtuozo`, which ends hooks when this process dies; none: they go on.
    pub hook_guard: Option<PathBuf>,
}

impl SchedulerOptions {
    /// The usual options.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            key_file: virtuozo_secrets::default_key_file(),
            event_log: EventLog::Off,
            hook_guard: None,
        }
    }
}

/// A process that starts runs when they are due and mends what is left behind.
#[derive(Debug)]
pub struct Scheduler;

impl Scheduler {
    /// Works until `shutdown`, and ends within [`STOP_LIMIT`] then. A database that is away is waited for. How it
    /// stands is noted in the health of `telemetry`, as it is by whoever connected `pool`.
    ///
    /// # Errors
    /// If the scheduler cannot enter itself in the database.
    pub async fn run(
        pool: PgPool,
        options: SchedulerOptions,
        telemetry: Telemetry,
        shutdown: CancellationToken,
    ) -> Result<(), StoreError> {
        let id = Uuid::now_v7();
        let health = &telemetry.health;
        let mut wake = WakeupListener::new(pool.clone());
        let mut state = State {
            pool: pool.clone(),
            id,
            leads: watch::Sender::new(false),
            refused: false,
            looks: 0,
            registered: false,
        };
        let exporting = trace_exporter::run(
            pool.clone(),
            telemetry.clone(),
            state.leads.subscribe(),
            shutdown.clone(),
        );
        let exporting = tokio::spawn(exporting);
        let log = options.event_log.clone();
        let forwarding = event_forwarder::run(
            pool,
            health.availability.clone(),
            log,
            state.leads.subscribe(),
            shutdown.clone(),
        );
        let forwarding = tokio::spawn(forwarding);
        let (mut ticker, mut sweeper) =
            (Ticker::default(), Sweeper::new(telemetry.metrics.clone()));
        tracing::info!(name = options.name, %id, "scheduler runs");
        let looks = health.liveness.watch("schedules and sweeps", LOOKS_LIMIT);
        let component = health.readiness.component("the scheduler");
        let notices = Notices::new(
            state.pool.clone(),
            health.availability.clone(),
            options.key_file.clone(),
        );
        let stop_sending = shutdown.child_token();
        let sending = tokio::spawn(notices.serve(stop_sending.clone()));
        let _sends_until_here = stop_sending.drop_guard();
        let hooks = Hooks::new(
            state.pool.clone(),
            telemetry.clone(),
            id,
            HookScope::Site,
            options.hook_guard,
        );
        let stop_hooks = shutdown.child_token();
        let hooks = tokio::spawn(hooks.serve(stop_hooks.clone()));
        let _hooks_until_here = stop_hooks.drop_guard();
        let gauges = FleetGaugeReader::start(state.pool.clone(), telemetry.clone());
        while !shutdown.is_cancelled() {
            looks.turned();
            let look = state.look(&options.name, &mut ticker, &mut sweeper);
            let what = "schedules and sweeps";
            let looked = tokio::select! {
                looked = ask(&health.availability, what, LOOK_LIMIT, look) => looked,
                () = told_to_end(&shutdown) => break,
            };
            gauges.leads(looked.is_ok() && *state.leads.borrow());
            match looked {
                Ok(()) => {
                    component.ready();
                    if state.refused {
                        tracing::info!("work goes on");
                        state.refused = false;
                    }
                }
                Err(error) if error.is_unavailable() => {
                    sweeper.lost_sight();
                    state.sign_of_life_is_due();
                }
                Err(error) if !state.registered => return Err(error),
                Err(error) => {
                    component.unready("is refused by the database; its log says why");
                    if !state.refused {
                        tracing::warn!(%error, "nothing can be done for now, trying again");
                        state.refused = true;
                    }
                }
            }
            tokio::select! {
                () = wake.pause(EVERY) => {}
                () = shutdown.cancelled() => {}
            }
        }
        component.unready("stops");
        let ending = async {
            let _ = tokio::join!(sending, hooks);
            drop(gauges);
            // The lead is given up after it: what ended with this process is told by it.
            let last = async { tokio::join!(exporting, forwarding) };
            if tokio::time::timeout(LAST_EXPORT_LIMIT, last).await.is_err() {
                tracing::debug!("what has ended last is told by the next scheduler");
            }
        };
        if tokio::time::timeout(END_LIMIT, ending).await.is_err() {
            tracing::warn!(
                "what was under way did not end in time; other schedulers go on with it"
            );
        }
        state.farewell().await;
        tracing::info!(name = options.name, "scheduler has stopped");
        Ok(())
    }
}

/// Some time after `shutdown`.
async fn told_to_end(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(LAST_LOOK_LIMIT).await;
}

struct State {
    pool: PgPool,
    id: Uuid,
    leads: watch::Sender<bool>,
    /// The last look failed although the database answered, and that was said.
    refused: bool,
    looks: u32,
    registered: bool,
}

impl State {
    async fn look(
        &mut self,
        name: &str,
        ticker: &mut Ticker,
        sweeper: &mut Sweeper,
    ) -> Result<(), StoreError> {
        if !self.registered {
            workers::register(&self.pool, self.id, ProcessKind::Scheduler, name, &[]).await?;
            self.registered = true;
        }
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(LOOKS_PER_HEARTBEAT)
            && workers::heartbeat(&self.pool, self.id).await? == workers::HeartbeatAnswer::Unknown
        {
            workers::register(&self.pool, self.id, ProcessKind::Scheduler, name, &[]).await?;
        }
        let asked_at = Instant::now();
        let leads = leadership::take(&self.pool, self.id).await?;
        if asked_at.elapsed() > PROMPT {
            sweeper.lost_sight();
        }
        if self.leads.send_replace(leads) != leads {
            if leads {
                tracing::info!("this scheduler leads");
            } else {
                tracing::info!("another scheduler leads");
            }
        }
        if !leads {
            return Ok(());
        }
        ticker.tick(&self.pool).await?;
        if self.looks.is_multiple_of(LOOKS_PER_HEARTBEAT) {
            digest::queue_due(&self.pool).await?;
        }
        sweeper.sweep(&self.pool).await
    }

    /// The next look gives one: the last may be long ago.
    fn sign_of_life_is_due(&mut self) {
        self.looks = LOOKS_PER_HEARTBEAT - 1;
    }

    async fn farewell(self) {
        // Within a limit: the database may be away.
        let farewell = async {
            leadership::resign(&self.pool, self.id).await?;
            workers::stop(&self.pool, self.id).await
        };
        if !matches!(tokio::time::timeout(EVERY, farewell).await, Ok(Ok(()))) {
            tracing::warn!("the database does not answer; the scheduler's end is not written down");
        }
    }
}
