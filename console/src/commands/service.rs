//! The services: `virtuozo scheduler`, `virtuozo worker`, and `virtuozo up`, which is both in one process.

use std::{io::Read, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use virtuozo_hooks::HookPrograms;
use virtuozo_postgres::server::Cluster;
use virtuozo_runtime::{Health, LIMITS};
use virtuozo_scheduler::{EventLog, Scheduler, SchedulerOptions};
use virtuozo_telemetry::Telemetry;
use virtuozo_worker::{Worker, WorkerOptions};

use super::workers::{self, WorkerCommand};
use crate::{
    context::{Context, Database, machine_name},
    http, systemd,
};

/// How many connections to the database each process takes at most (docs/guide/scale.md).
const SCHEDULER_CONNECTIONS: u32 = 11;
const WORKER_CONNECTIONS: u32 = 19;
/// They share those for transactions.
const BOTH_CONNECTIONS: u32 = SCHEDULER_CONNECTIONS + WORKER_CONNECTIONS - 8;

/// Options of `up`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  virtuozo up\n  virtuozo up --data-dir /srv/virtuozo")]
pub(crate) struct UpArgs {
    /// Name of the worker in lists and messages [default: the machine's name]
    #[arg(long, env = "VIRTUOZO_NAME")]
    name: Option<String>,
    #[command(flatten)]
    events: EventLogArgs,
    #[command(flatten)]
    monitoring: MonitoringArgs,
}

/// Options of `scheduler`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  virtuozo scheduler --database-url postgres://virtuozo@db/virtuozo\n  virtuozo scheduler --listen 127.0.0.1:9464"
)]
pub(crate) struct SchedulerArgs {
    #[command(flatten)]
    events: EventLogArgs,
    #[command(flatten)]
    monitoring: MonitoringArgs,
    #[command(flatten)]
    lifetime: LifetimeArgs,
}

/// Options of `worker`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  virtuozo worker --name rack2 --database-url postgres://virtuozo@db/virtuozo\n  virtuozo worker --drain-limit 60"
)]
pub(crate) struct WorkerArgs {
    #[command(subcommand)]
    pub(crate) command: Option<WorkerCommand>,
    /// Name of this worker in lists and messages [default: the machine's name]
    #[arg(long, env = "VIRTUOZO_NAME")]
    name: Option<String>,
    /// How long a worker that was told to end may take to finish its work or bring its guests back,
    /// in seconds; what is left then is taken over by other workers
    #[arg(
        long,
        env = "VIRTUOZO_DRAIN_LIMIT",
        default_value_t = LIMITS.worker.drain.as_secs(),
        value_name = "SECS"
    )]
    drain_limit: u64,
    #[command(flatten)]
    monitoring: MonitoringArgs,
    #[command(flatten)]
    lifetime: LifetimeArgs,
}

/// Where a scheduler forwards events to.
#[derive(Debug, Args)]
struct EventLogArgs {
    /// Log of this machine that gets the events of the fleet while this scheduler leads: journald, syslog (each
    /// with :SOCKET where it listens elsewhere), off, or auto for what there is
    #[arg(
        long,
        env = "VIRTUOZO_EVENT_LOG",
        default_value = "auto",
        value_name = "LOG"
    )]
    event_log: EventLog,
}

/// How a service is monitored.
#[derive(Debug, Args)]
struct MonitoringArgs {
    /// Answer http://ADDR:PORT/healthz, /readyz and /metrics; without a login, so take an address that only
    /// those who watch can reach [default: none]
    #[arg(long, env = "VIRTUOZO_LISTEN", value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
}

impl MonitoringArgs {
    /// Starts the metrics and the HTTP endpoints. Probes come early, so this precedes the wait for the database.
    async fn start(&self, process: &'static str, health: &Health) -> Result<Telemetry> {
        let telemetry = Telemetry::begin(process, self.listen.is_some(), health.clone());
        if let Some(address) = self.listen {
            http::serve(address, telemetry.clone()).await?;
        }
        Ok(telemetry)
    }
}

/// When a service ends.
#[derive(Debug, Args)]
struct LifetimeArgs {
    /// End in order when stdin ends: with the process that started this one
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

impl LifetimeArgs {
    /// A token that SIGINT, SIGTERM and, with `--stop-with-stdin`, the end of stdin cancel.
    fn stop(&self, context: &Context) -> Result<CancellationToken> {
        let stop = context.catch_signals()?;
        if self.stop_with_stdin {
            let stop = stop.clone();
            // The read cannot be cancelled, so it has a thread that does not keep the process from ending.
            std::thread::spawn(move || {
                let mut ignored = [0; 64];
                while matches!(std::io::stdin().read(&mut ignored), Ok(n) if n > 0) {}
                stop.cancel();
            });
        }
        Ok(stop)
    }
}

pub(crate) async fn up(context: &Context, args: UpArgs) -> Result<()> {
    let stop = context.catch_signals()?;
    let telemetry = args.monitoring.start("up", &context.health).await?;
    let connectors = context.connectors_observed_by(&telemetry);
    systemd::notify(&context.health, &stop);
    let (cluster, url) = match context.database_url()? {
        Some(url) => (None, url),
        None => {
            let cluster = start_cluster(context).await?;
            let url = cluster.url().to_owned();
            (Some(cluster), url)
        }
    };
    let Some(pool) = connect(&url, BOTH_CONNECTIONS, &context.health, &stop).await? else {
        return stop_cluster(cluster).await;
    };
    tracing::info!(
        database = if cluster.is_some() {
            "private"
        } else {
            "named"
        },
        "up; `virtuozo status` in another shell shows what happens"
    );
    let done = async {
        let both = stop.child_token();
        let scheduler = run_scheduler(
            context,
            pool.clone(),
            args.events,
            telemetry.clone(),
            both.clone(),
        );
        let options = worker_options(context, args.name);
        let worker = Worker::run(
            pool.clone(),
            options,
            connectors,
            telemetry.clone(),
            both.clone(),
        );
        let worker = async { Ok(worker.await?) };
        // When one ends, the other has to end too.
        let ended = |done: Result<()>| {
            if !both.is_cancelled() && !stop.is_cancelled() {
                tracing::info!(
                    "the worker or the scheduler of this process has ended, by its drain or an error; the other ends with it"
                );
            }
            both.cancel();
            done
        };
        let (scheduler, worker) = tokio::join!(async { ended(scheduler.await) }, async {
            ended(worker.await)
        });
        scheduler.and(worker)
    }
    .await;
    telemetry.end().await;
    pool.close().await;
    stop_cluster(cluster).await?;
    done
}

pub(crate) async fn scheduler(context: &Context, args: SchedulerArgs) -> Result<()> {
    let stop = args.lifetime.stop(context)?;
    let telemetry = args.monitoring.start("scheduler", &context.health).await?;
    systemd::notify(&context.health, &stop);
    let Some(db) = database(context, SCHEDULER_CONNECTIONS, &stop).await? else {
        return Ok(());
    };
    let done = run_scheduler(context, db.pool, args.events, telemetry.clone(), stop).await;
    telemetry.end().await;
    done
}

pub(crate) async fn worker(context: &Context, args: WorkerArgs) -> Result<()> {
    if let Some(command) = args.command {
        return workers::run(context, command).await;
    }
    let stop = args.lifetime.stop(context)?;
    let telemetry = args.monitoring.start("worker", &context.health).await?;
    let connectors = context.connectors_observed_by(&telemetry);
    systemd::notify(&context.health, &stop);
    let Some(db) = database(context, WORKER_CONNECTIONS, &stop).await? else {
        return Ok(());
    };
    let mut options = worker_options(context, args.name);
    options.drain_limit = Duration::from_secs(args.drain_limit);
    if args.lifetime.stop_with_stdin {
        options.drain_limit = options.drain_limit.min(LIMITS.worker.drain_of_child);
    }
    let done = Worker::run(db.pool, options, connectors, telemetry.clone(), stop).await;
    telemetry.end().await;
    Ok(done?)
}

/// Connects to a service's database, and waits for it without limit. `None` if `stop` is cancelled first.
async fn database(
    context: &Context,
    connections: u32,
    stop: &CancellationToken,
) -> Result<Option<Database>> {
    match context.database_url()? {
        Some(url) => {
            let pool = connect(&url, connections, &context.health, stop).await?;
            Ok(pool.map(Database::named))
        }
        None => context.database().await.map(Some),
    }
}

async fn connect(
    url: &str,
    connections: u32,
    health: &Health,
    stop: &CancellationToken,
) -> Result<Option<PgPool>> {
    let ready = async {
        let pool = virtuozo_postgres::connect(url, connections, health).await?;
        // The database may become unreachable again before its schema is up to date.
        while let Err(error) = virtuozo_postgres::migrate(&pool).await {
            if !error.is_unavailable() {
                return Err(error);
            }
            tracing::debug!(%error, "the database is unreachable again");
            drop(virtuozo_postgres::connect(url, connections, health).await?);
        }
        Ok(pool)
    };
    tokio::select! {
        pool = ready => Ok(Some(pool?)),
        () = stop.cancelled() => Ok(None),
    }
}

async fn start_cluster(context: &Context) -> Result<Cluster> {
    let dir = context.cluster_dir();
    tracing::info!(dir = %dir.display(), "starting the private database");
    tokio::task::spawn_blocking(move || Cluster::start(&dir))
        .await?
        .context("the private database does not start")
}

async fn stop_cluster(cluster: Option<Cluster>) -> Result<()> {
    if let Some(cluster) = cluster {
        match tokio::task::spawn_blocking(move || cluster.stop()).await?? {
            true => tracing::info!(
                "the private database has ended, too; `virtuozo up` starts it again, with all that it holds"
            ),
            false => tracing::info!("the private database goes on: other processes use it"),
        }
    }
    Ok(())
}

async fn run_scheduler(
    context: &Context,
    pool: PgPool,
    events: EventLogArgs,
    telemetry: Telemetry,
    stop: CancellationToken,
) -> Result<()> {
    let mut options = SchedulerOptions::new(machine_name());
    options.key_file = context.key_file();
    options.ca_files = context.ca_files();
    options.event_log = events.event_log;
    options.hooks = hook_programs(context);
    Ok(Scheduler::run(pool, options, telemetry, stop).await?)
}

fn hook_programs(context: &Context) -> HookPrograms {
    HookPrograms {
        directory: context.global.hooks_dir.clone(),
        guard: std::env::current_exe().ok(),
    }
}

fn worker_options(context: &Context, name: Option<String>) -> WorkerOptions {
    let mut options = WorkerOptions::new(name.unwrap_or_else(machine_name));
    options.key_file = context.key_file();
    options.hooks = hook_programs(context);
    options.write_roots = context.roots("write_roots", &context.global.write_roots);
    options.failpoints = Arc::clone(&context.failpoints);
    options.files = context.files.clone();
    options
}
