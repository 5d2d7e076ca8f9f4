//! How: claims jobs, holds leases, runs steps.
//!
//! A job only delivers an id. Its handler takes a lease and starts the work in a task of its own, which
//! goes on whatever becomes of the delivery; from then on the lease sees to it that a run comes to its
//! end, here or with another worker. `docs/concepts/state-machine.md` says who moves what from where to where.

mod assess;
mod blocking;
mod circuit_breaker;
mod connections;
mod context;
mod error;
mod failpoints;
mod inspection;
mod jobs;
mod missing_capability;
mod plan;
mod repositories;
mod repository_space;
mod retention;
mod retry;
mod served;
mod steps;
mod target;
mod trace;
mod undo;

use std::{path::PathBuf, sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;
use virtuozo_hooks::Hooks;
use virtuozo_hypervisor::Connectors;
use virtuozo_model::ProcessKind;
use virtuozo_postgres::{Pool, StoreError, ask};
use virtuozo_queue::{GuestJob, HostJob, JobListener, RequestJob, UndoJob};
use virtuozo_runtime::Health;
use virtuozo_store::{
    hooks::HookScope,
    workers::{self, HeartbeatAnswer},
};
use virtuozo_telemetry::Telemetry;

use crate::{
    connections::Connections,
    context::{Context, RunsInWork},
    missing_capability::MissingCapabilities,
    repositories::Repositories,
    retry::while_unavailable,
    served::Served,
    target::Targets,
};

pub use failpoints::{Disturbance, Failpoints, NoFailpoints, Place};
pub use inspection::{CheckError, check_host, test_host};
pub use target::{TargetError, host_target};

/// For the single statements that take guest runs through. Few, since they are short, and a server process that
/// works all the time is faster than several that take turns. Leases are renewed over others, and so never wait.
const STATEMENT_CONNECTIONS: usize = 4;
/// How often a worker gives a sign of life.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The same after one that got no answer: others may take this worker for dead when the database is back.
const MISSED_HEARTBEAT: Duration = Duration::from_secs(1);
/// A sign of life, answered or not, was tried by then, or nobody tries any more.
const HEARTBEATS_LIMIT: Duration = Duration::from_secs(60);
/// How long a worker that ends waits for the database to take note; the queues have waited by then.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

/// How a worker runs.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Its name, for people; several workers may have one name.
    pub name: String,
    /// The file with the key that opens host passwords; read when a password is needed.
    pub key_file: PathBuf,
    /// How long a worker that was asked to stop may take to bring its guests back, before it leaves them
    /// to the others.
    pub drain_limit: Duration,
    /// The program `virtuozo`, which ends hooks when this process dies; none: they go on.
    pub hook_guard: Option<PathBuf>,
    /// How often a worker whose machine lacks something looks whether it has it now; none: as usual.
    pub look_every_lacking: Option<Duration>,
    /// What disturbs it.
    pub failpoints: Arc<dyn Failpoints>,
}

impl WorkerOptions {
    /// The usual options.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            key_file: virtuozo_secrets::default_key_file(),
            drain_limit: Duration::from_secs(600),
            hook_guard: None,
            look_every_lacking: None,
            failpoints: Arc::new(NoFailpoints),
        }
    }
}

/// A process that backs guests up.
#[derive(Debug)]
pub struct Worker;

impl Worker {
    /// Works until `shutdown`. Then it takes nothing more, brings back the guests that it copies and
    /// gives their runs to other workers, and finishes what is copied. Hosts whose back end lacks something
    /// on this machine are left to other workers. How it stands is noted in the health of `telemetry`, as it is by
    /// whoever connected `pool`.
    ///
    /// # Errors
    /// If the worker cannot enter itself in the database. One that is away is waited for.
    pub async fn run(
        pool: PgPool,
        options: WorkerOptions,
        connectors: Connectors,
        telemetry: Telemetry,
        shutdown: CancellationToken,
    ) -> Result<(), StoreError> {
        let health = &telemetry.health;
        let pool = Pool::beside(pool, STATEMENT_CONNECTIONS, &health.availability);
        let incarnation = Uuid::now_v7();
        let component = health.readiness.component("the worker");
        let served = Served::look(connectors.clone(), options.look_every_lacking).await;
        let kinds = served.kinds();
        while_unavailable(&health.availability, "the worker's entry", || {
            workers::register(
                &pool,
                incarnation,
                ProcessKind::Worker,
                &options.name,
                &kinds,
            )
        })
        .await?;
        tracing::info!(name = options.name, id = %incarnation, "worker runs");
        // Ends with the process that was told to, or because an operator drains this worker.
        let shutdown = shutdown.child_token();
        let heart = tokio::spawn(beat(
            PgPool::clone(&pool),
            health.clone(),
            incarnation,
            options.name.clone(),
            served.clone(),
            shutdown.clone(),
        ));
        let looking = tokio::spawn(served.clone().keep_looking(
            pool.clone(),
            health.availability.clone(),
            incarnation,
            shutdown.clone(),
        ));
        let targets = Targets {
            pool: PgPool::clone(&pool),
            telemetry: telemetry.clone(),
            key_file: options.key_file.clone(),
        };
        let context = Arc::new(Context {
            pool: pool.clone(),
            telemetry: telemetry.clone(),
            connections: Connections::new(connectors.clone(), targets),
            connectors,
            key_file: options.key_file,
            incarnation,
            work: TaskTracker::new(),
            runs_in_work: RunsInWork::default(),
            missing_capabilities: MissingCapabilities::new(
                pool.clone(),
                health.availability.clone(),
                options.name.clone(),
                incarnation,
                served.clone(),
            ),
            repositories: Repositories::new(health.availability.clone()),
            hook_guard: options.hook_guard.clone(),
            failpoints: failpoints::Hooks(options.failpoints),
            drain: shutdown.clone(),
        });

        let (hosts, guests, undos, requests) = (
            Arc::clone(&context),
            Arc::clone(&context),
            Arc::clone(&context),
            Arc::clone(&context),
        );
        let hooks = Hooks::new(
            PgPool::clone(&pool),
            telemetry.clone(),
            incarnation,
            HookScope::Guests,
            options.hook_guard,
        );
        let listener = JobListener::start(
            PgPool::clone(&pool),
            health.availability.clone(),
            shutdown.clone(),
        );
        let watching_space = tokio::spawn(repository_space::watch(
            PgPool::clone(&pool),
            telemetry.clone(),
        ));
        component.ready();
        tokio::join!(
            async {
                shutdown.cancelled().await;
                component.unready("drains: it takes nothing more, and ends");
            },
            hooks.serve(shutdown.clone()),
            async {
                if !served.serves_any() {
                    component.unready(
                        "serves no kind of host, since this machine lacks what they need: `virtuozo worker list` \
                         says what",
                    );
                    tokio::select! {
                        () = served.any() => component.ready(),
                        () = shutdown.cancelled() => return,
                    }
                }
                tokio::join!(
                    virtuozo_queue::serve(
                        PgPool::clone(&pool),
                        Arc::clone(&listener),
                        incarnation,
                        move |job: HostJob| jobs::deliver(Arc::clone(&hosts), job),
                        shutdown.clone()
                    ),
                    virtuozo_queue::serve(
                        PgPool::clone(&pool),
                        Arc::clone(&listener),
                        incarnation,
                        move |job: GuestJob| jobs::deliver(Arc::clone(&guests), job),
                        shutdown.clone()
                    ),
                    virtuozo_queue::serve(
                        PgPool::clone(&pool),
                        Arc::clone(&listener),
                        incarnation,
                        move |job: UndoJob| jobs::deliver(Arc::clone(&undos), job),
                        shutdown.clone()
                    ),
                    virtuozo_queue::serve(
                        PgPool::clone(&pool),
                        Arc::clone(&listener),
                        incarnation,
                        move |job: RequestJob| jobs::deliver(Arc::clone(&requests), job),
                        shutdown.clone()
                    ),
                );
            },
        );

        context.work.close();
        if !context.work.is_empty() {
            tracing::info!(
                guests = context.work.len(),
                "worker stops when its work is done or handed over"
            );
        }
        let drained = tokio::time::timeout(options.drain_limit, context.work.wait()).await;
        if drained.is_err() {
            tracing::warn!("worker stops before its work is done; other workers take it over");
        } else {
            context.connections.close_all().await;
        }
        heart.abort();
        looking.abort();
        watching_space.abort();
        // A process that stops while the database is away is found by its silence.
        let farewell = workers::stop(&pool, incarnation);
        if !matches!(
            tokio::time::timeout(FAREWELL_LIMIT, farewell).await,
            Ok(Ok(()))
        ) {
            tracing::warn!("the database does not answer; the worker's end is not written down");
        }
        tracing::info!(name = options.name, "worker has stopped");
        Ok(())
    }
}

/// Gives signs of life, also while the worker drains, and begins to drain when it is asked to.
async fn beat(
    pool: PgPool,
    health: Health,
    incarnation: Uuid,
    name: String,
    served: Served,
    shutdown: CancellationToken,
) {
    let signs = health.liveness.watch("signs of life", HEARTBEATS_LIMIT);
    let mut pause = HEARTBEAT;
    loop {
        signs.turned();
        tokio::time::sleep(pause).await;
        pause = HEARTBEAT;
        let heard = async {
            let heard = workers::heartbeat(&pool, incarnation).await?;
            if heard == HeartbeatAnswer::Unknown {
                let kinds = served.kinds();
                workers::register(&pool, incarnation, ProcessKind::Worker, &name, &kinds).await?;
            }
            Ok::<_, StoreError>(heard)
        };
        match ask(&health.availability, "signs of life", HEARTBEAT, heard).await {
            Ok(HeartbeatAnswer::Drain) if !shutdown.is_cancelled() => {
                tracing::info!(name, "worker is drained: it takes nothing more, and ends");
                shutdown.cancel();
            }
            Ok(_) => {}
            Err(error) if error.is_unavailable() => pause = MISSED_HEARTBEAT,
            Err(error) => tracing::debug!(%error, "no sign of life could be given"),
        }
    }
}
