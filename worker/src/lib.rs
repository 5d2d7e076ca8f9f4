//! The worker: claims jobs, holds leases, runs the steps of backups.
//!
//! A job only delivers an id. Its handler takes a lease and starts the work in a task of its own, which does not depend on
//! the delivery. If the lease expires, another worker takes the run over. `docs/concepts/state-machine.md` has every
//! state and who changes it.

mod assess;
mod blocking;
mod circuit_breaker;
mod connections;
mod context;
mod datastore_search;
mod error;
mod failpoints;
mod file_server;
mod file_work;
mod files;
mod guest_looks;
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
use virtuozo_child_process::FileProcesses;
use virtuozo_disk::MachineRoots;
use virtuozo_hooks::{HookPrograms, Hooks};
use virtuozo_hypervisor::Connectors;
use virtuozo_model::ProcessKind;
use virtuozo_postgres::{Pool, StoreError, ask};
use virtuozo_queue::{GuestJob, HostJob, JobListener, RequestJob, UndoJob};
use virtuozo_runtime::{Health, LIMITS};
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
pub use file_server::serve_file_work;
pub use file_work::FILE_WORK;
pub use inspection::{CheckError, check_host, propose_datastores, test_host};
pub use target::{TargetError, host_target};

/// Connections for single statements. They are few, since the statements are short and a busy server process is faster
/// than several that alternate. Leases are renewed over other connections, and so never wait for these.
const STATEMENT_CONNECTIONS: usize = 4;

/// The options of a worker.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Its name in lists and messages; several workers may have the same.
    pub name: String,
    /// The file with the key that decrypts the passwords of hosts; read when a password is needed.
    pub key_file: PathBuf,
    /// How long a worker may drain: bring its guests back, and finish or hand over its work. Other workers take over the
    /// rest.
    pub drain_limit: Duration,
    /// The hooks that this machine runs.
    pub hooks: HookPrograms,
    /// Below which directories this machine writes restore points.
    pub write_roots: MachineRoots,
    /// The processes that read and write files.
    pub files: FileProcesses,
    /// How often a worker looks again for what its machine lacks: a back end, a location; `None`: the default.
    pub reprobe_every: Option<Duration>,
    /// Its failpoints.
    pub failpoints: Arc<dyn Failpoints>,
}

impl WorkerOptions {
    /// The default options. Files are read and written by threads of this process, which cannot be given up.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            key_file: virtuozo_secrets::default_key_file(),
            drain_limit: LIMITS.worker.drain,
            hooks: HookPrograms::default(),
            write_roots: MachineRoots::new("write_roots", workers::machine(), Vec::new()),
            files: FileProcesses::threads(Arc::new(|_, request, line| {
                serve_file_work(request, line)
            })),
            reprobe_every: None,
            failpoints: Arc::new(NoFailpoints),
        }
    }
}

/// A worker: backs up guests.
#[derive(Debug)]
pub struct Worker;

impl Worker {
    /// Runs a worker until `shutdown`. It drains then: it takes no more jobs, brings back the guests that it copies and
    /// hands their runs over, and finishes the runs whose copy is complete. Hosts whose back end cannot run on this machine
    /// are left to other workers. `telemetry` is that of the process, which `pool` reports to as well.
    ///
    /// # Errors
    /// The database refuses the worker's entry. An unreachable database is waited for.
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
        let reprobe_every = options
            .reprobe_every
            .unwrap_or(LIMITS.worker.probe_again_every);
        let left_behind = options.files.left_behind().clone();
        telemetry
            .metrics
            .observe_left_behind(move || left_behind.count());
        let served = Served::probe(connectors.clone(), reprobe_every).await;
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
        // Cancelled with `shutdown`, or when an operator drains this worker.
        let shutdown = shutdown.child_token();
        let listener = JobListener::start(
            PgPool::clone(&pool),
            health.availability.clone(),
            shutdown.clone(),
        );
        let heart = tokio::spawn(beat(
            PgPool::clone(&pool),
            health.clone(),
            incarnation,
            options.name.clone(),
            served.clone(),
            Arc::clone(&listener),
            shutdown.clone(),
        ));
        let looking = tokio::spawn(served.clone().keep_probing(
            pool.clone(),
            health.availability.clone(),
            incarnation,
            shutdown.clone(),
        ));
        let missing_capabilities = MissingCapabilities::new(
            pool.clone(),
            health.availability.clone(),
            options.name.clone(),
            incarnation,
            options.files.clone(),
        );
        let looking_for_locations = tokio::spawn(
            missing_capabilities
                .clone()
                .keep_looking(reprobe_every, shutdown.clone()),
        );
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
            missing_capabilities,
            repositories: Repositories::new(
                health.availability.clone(),
                options.write_roots,
                options.files.clone(),
            ),
            files: options.files,
            hooks: options.hooks.clone(),
            failpoints: failpoints::ActiveFailpoints(options.failpoints),
            drain: shutdown.clone(),
        });

        let hooks = Hooks::new(
            PgPool::clone(&pool),
            telemetry.clone(),
            incarnation,
            HookScope::Guests,
            options.hooks,
        );
        let watching_space = tokio::spawn(repository_space::watch(
            PgPool::clone(&pool),
            telemetry.clone(),
            context.files.clone(),
        ));
        component.ready();
        tokio::join!(
            async {
                shutdown.cancelled().await;
                component.unready("drains: it takes nothing more, and ends");
            },
            hooks.serve(shutdown.clone()),
            async {
                if served.serves_any() {
                    return;
                }
                component.unready(
                    "serves no kind of host, since this machine lacks what they need: `virtuozo worker list` says what",
                );
                tokio::select! {
                    () = served.any() => component.ready(),
                    () = shutdown.cancelled() => {}
                }
            },
            serve::<HostJob>(&context, &listener, &served),
            serve::<GuestJob>(&context, &listener, &served),
            serve::<UndoJob>(&context, &listener, &served),
            serve::<RequestJob>(&context, &listener, &served),
        );

        context.work.close();
        if !context.work.is_empty() {
            tracing::info!(guests = context.work.len(), "worker drains");
        }
        let drained = tokio::time::timeout(options.drain_limit, context.work.wait()).await;
        if drained.is_err() {
            tracing::warn!("drain limit reached; other workers take over the rest");
        } else {
            context.connections.close_all().await;
        }
        heart.abort();
        looking.abort();
        looking_for_locations.abort();
        watching_space.abort();
        // If the database is unreachable, the missing heartbeats show that the worker has ended.
        let farewell = workers::stop(&pool, incarnation);
        if !matches!(
            tokio::time::timeout(LIMITS.worker.farewell, farewell).await,
            Ok(Ok(()))
        ) {
            tracing::warn!("end of the worker could not be recorded: the database is unreachable");
        }
        tracing::info!(name = options.name, "worker has stopped");
        Ok(())
    }
}

/// Does the jobs of one queue until the worker drains.
async fn serve<J: jobs::Job>(context: &Arc<Context>, listener: &Arc<JobListener>, served: &Served) {
    let of_jobs = Arc::clone(context);
    virtuozo_queue::serve(
        PgPool::clone(&context.pool),
        Arc::clone(listener),
        context.incarnation,
        served.capabilities(context.incarnation),
        move |job: J| jobs::deliver(Arc::clone(&of_jobs), job),
        context.drain.clone(),
    )
    .await;
}

/// Sends heartbeats, also while the worker drains, and cancels `stop` when the database requests a drain.
async fn beat(
    pool: PgPool,
    health: Health,
    incarnation: Uuid,
    name: String,
    served: Served,
    listener: Arc<JobListener>,
    shutdown: CancellationToken,
) {
    let signs = health
        .liveness
        .watch("signs of life", LIMITS.worker.heartbeats_standstill);
    let mut pause = LIMITS.process.heartbeat_every;
    loop {
        signs.turned();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = listener.drain_requested() => {}
        }
        pause = LIMITS.process.heartbeat_every;
        let heard = async {
            let heard = workers::heartbeat(&pool, incarnation).await?;
            if heard == HeartbeatAnswer::Unknown {
                let kinds = served.kinds();
                workers::register(&pool, incarnation, ProcessKind::Worker, &name, &kinds).await?;
            }
            Ok::<_, StoreError>(heard)
        };
        match ask(
            &health.availability,
            "signs of life",
            LIMITS.process.heartbeat_every,
            heard,
        )
        .await
        {
            Ok(HeartbeatAnswer::Drain) if !shutdown.is_cancelled() => {
                tracing::info!(name, "worker drains, as an operator has requested");
                shutdown.cancel();
            }
            Ok(_) => {}
            Err(error) if error.is_unavailable() => pause = LIMITS.worker.missed_heartbeat_pause,
            Err(error) => tracing::debug!(%error, "heartbeat failed"),
        }
    }
}
