//! The processes that run on: `scheduler`, `worker`, and `up`, which is both.

use std::{io::Read, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use virtuozo_postgres::{self as db, server::Cluster};
use virtuozo_scheduler::{EventLog, Scheduler, SchedulerOptions};
use virtuozo_telemetry::{metrics::Metrics, traces::Traces};
use virtuozo_worker::{Worker, WorkerOptions};

use super::workers::{self, WorkerCommand};
use crate::{
    context::{Context, Database, machine_name},
    listen, systemd,
};

/// How long a worker that ends with the process that started it may take to bring its guests back.
const CHILD_DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Options of `up`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  virtuozo up\n  virtuozo up --data-dir /srv/virtuozo")]
pub(crate) struct UpArgs {
    /// Name of the worker in lists and messages [default: the machine's name]
    #[arg(long, env = "VIRTUOZO_NAME")]
    name: Option<String>,
    #[command(flatten)]
    tell: Tell,
    #[command(flatten)]
    watch: Watch,
}

/// Options of `scheduler`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  virtuozo scheduler --database-url postgres://virtuozo@db/virtuozo\n  virtuozo scheduler --listen 127.0.0.1:9464"
)]
pub(crate) struct SchedulerArgs {
    #[command(flatten)]
    tell: Tell,
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    life: Life,
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
        default_value_t = 600,
        value_name = "SECS"
    )]
    drain_limit: u64,
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    life: Life,
}

/// Where a scheduler tells events to, besides the database.
#[derive(Debug, Args)]
struct Tell {
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

/// How a process is watched.
#[derive(Debug, Args)]
struct Watch {
    /// Answer http://ADDR:PORT/healthz, /readyz and /metrics; without a login, so take an address that only
    /// those who watch can reach [default: none]
    #[arg(long, env = "VIRTUOZO_LISTEN", value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
}

impl Watch {
    /// Begins to count and to answer, before anything else: probes come early.
    async fn start(&self, process: &'static str) -> Result<Metrics> {
        let metrics = Metrics::begin(process, self.listen.is_some());
        if let Some(address) = self.listen {
            listen::start(address).await?;
        }
        Ok(metrics)
    }
}

/// How long a process lives.
#[derive(Debug, Args)]
struct Life {
    /// End in order when stdin ends: with the process that started this one
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

impl Life {
    /// Cancelled by Ctrl-C, SIGTERM and, where asked for, the end of stdin.
    fn stop(&self, context: &Context) -> Result<CancellationToken> {
        let stop = context.catch_signals()?;
        if self.stop_with_stdin {
            let stop = stop.clone();
            // A thread, not a task: nothing can interrupt the read, and nothing needs to.
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
    let metrics = args.watch.start("up").await?;
    let connectors = context.connectors();
    systemd::tell(&stop);
    let (cluster, url) = match context.database_url()? {
        Some(url) => (None, url),
        None => {
            let cluster = start_cluster(context).await?;
            let url = cluster.url().to_owned();
            (Some(cluster), url)
        }
    };
    let Some(pool) = connect(&url, &stop).await? else {
        return stop_cluster(cluster).await;
    };
    tracing::info!(
        database = if cluster.is_some() {
            "private"
        } else {
            "named"
        },
        "up; `virtuozo status` in another shell tells what goes on"
    );
    let done = traced("up", async {
        let both = stop.child_token();
        let scheduler = run_scheduler(context, pool.clone(), args.tell, both.clone());
        let options = worker_options(context, args.name);
        let worker =
            async { Ok(Worker::run(pool.clone(), options, connectors, both.clone()).await?) };
        // Where one ends, the other has to.
        let ended = |done: Result<()>| {
            both.cancel();
            done
        };
        let (scheduler, worker) = tokio::join!(async { ended(scheduler.await) }, async {
            ended(worker.await)
        });
        scheduler.and(worker)
    })
    .await;
    metrics.end().await;
    pool.close().await;
    stop_cluster(cluster).await?;
    done
}

pub(crate) async fn scheduler(context: &Context, args: SchedulerArgs) -> Result<()> {
    let stop = args.life.stop(context)?;
    let metrics = args.watch.start("scheduler").await?;
    systemd::tell(&stop);
    let Some(db) = database(context, &stop).await? else {
        return Ok(());
    };
    let done = traced(
        "scheduler",
        run_scheduler(context, db.pool, args.tell, stop),
    )
    .await;
    metrics.end().await;
    done
}

pub(crate) async fn worker(context: &Context, args: WorkerArgs) -> Result<()> {
    if let Some(command) = args.command {
        return workers::run(context, command).await;
    }
    let stop = args.life.stop(context)?;
    let metrics = args.watch.start("worker").await?;
    let connectors = context.connectors();
    systemd::tell(&stop);
    let Some(db) = database(context, &stop).await? else {
        return Ok(());
    };
    let mut options = worker_options(context, args.name);
    options.drain_limit = Duration::from_secs(args.drain_limit);
    if args.life.stop_with_stdin {
        options.drain_limit = options.drain_limit.min(CHILD_DRAIN_LIMIT);
    }
    let working = async { Ok(Worker::run(db.pool, options, connectors, stop).await?) };
    let done = traced("worker", working).await;
    metrics.end().await;
    done
}

/// Sends traces, where that is set up, as long as the work goes on.
async fn traced(process: &'static str, work: impl Future<Output = Result<()>>) -> Result<()> {
    let traces = Traces::begin(process);
    let done = work.await;
    traces.end().await;
    done
}

/// A service's database: waits for it as long as it takes. None: told to stop meanwhile.
async fn database(context: &Context, stop: &CancellationToken) -> Result<Option<Database>> {
    match context.database_url()? {
        Some(url) => Ok(connect(&url, stop).await?.map(Database::named)),
        None => context.database().await.map(Some),
    }
}

async fn connect(url: &str, stop: &CancellationToken) -> Result<Option<PgPool>> {
    let ready = async {
        let pool = db::connect(url).await?;
        // The database may go away again in between: then the wait begins anew.
        while let Err(error) = db::migrate(&pool).await {
            if !error.is_unavailable() {
                return Err(error);
            }
            tracing::debug!(%error, "the database went away again");
            drop(db::connect(url).await?);
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
        tokio::task::spawn_blocking(move || cluster.stop()).await??;
    }
    Ok(())
}

async fn run_scheduler(
    context: &Context,
    pool: PgPool,
    tell: Tell,
    stop: CancellationToken,
) -> Result<()> {
    let mut options = SchedulerOptions::new(machine_name());
    options.key_file = context.key_file();
    options.event_log = tell.event_log;
    options.hook_guard = std::env::current_exe().ok();
    Ok(Scheduler::run(pool, options, stop).await?)
}

fn worker_options(context: &Context, name: Option<String>) -> WorkerOptions {
    let mut options = WorkerOptions::new(name.unwrap_or_else(machine_name));
    options.key_file = context.key_file();
    options.hook_guard = std::env::current_exe().ok();
    options.failpoints = Arc::clone(&context.failpoints);
    options
}
