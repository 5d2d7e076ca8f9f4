//! The same server under jobs that do nothing: apalis alone, and job queues of other languages in
//! processes of their own.

use std::{
    path::Path,
    pin::Pin,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use apalis::prelude::{BackendExt, BoxDynError, TaskBuilder, WorkerBuilder, WorkerError};
use apalis_postgres::{Config, PostgresStorage, queries};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{sync::mpsc, time::timeout};
use virtuozo_runtime::Health;

use crate::{percentile, server::Server};

/// Jobs that are worked off.
const JOBS: usize = 2_000;
/// Jobs that are pushed one by one, each when the one before has started.
const PROBES: usize = 50;
/// A job that is not done after this long will never be.
const WAIT_LIMIT: Duration = Duration::from_secs(120);
/// The queue of [`JOBS`].
const NOOP: &str = "noop";
/// The queue of [`PROBES`].
const PROBE: &str = "probe";

/// What a peer did: its name, jobs for each second, time in statements for each job, and the time from a
/// push to the start.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) jobs_per_second: f64,
    pub(crate) db_ms: f64,
    pub(crate) start_p50_ms: f64,
    pub(crate) start_p99_ms: f64,
}

impl Peer {
    fn of(name: &'static str, seconds: f64, db_ms: f64, starts_ms: Vec<f64>) -> Self {
        let mut starts_ms = starts_ms;
        starts_ms.sort_by(f64::total_cmp);
        Self {
            name,
            jobs_per_second: JOBS as f64 / seconds,
            db_ms: db_ms / JOBS as f64,
            start_p50_ms: percentile(&starts_ms, 50),
            start_p99_ms: percentile(&starts_ms, 99),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "jobs_per_second": self.jobs_per_second.round(),
            "db_ms_per_job": (self.db_ms * 1000.0).round() / 1000.0,
            "start_p50_ms": (self.start_p50_ms * 10.0).round() / 10.0,
            "start_p99_ms": (self.start_p99_ms * 10.0).round() / 10.0,
        })
    }
}

/// apalis with the options that workers use, one job at a time.
pub(crate) async fn apalis(server: &Server) -> Result<Peer> {
    let database = server.database("peer_apalis").await?;
    let pool = virtuozo_postgres::connect(&database.url, 2, &Health::default()).await?;
    virtuozo_postgres::migrate(&pool).await?;
    for _ in 0..JOBS / 500 {
        push(&pool, NOOP, 500).await?;
    }
    sqlx::query("SELECT pg_stat_statements_reset()")
        .execute(&pool)
        .await?;
    let done = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let counted = Arc::clone(&done);
    let (finished, mut all) = mpsc::unbounded_channel();
    let noop = serve(&pool, NOOP, move || {
        if counted.fetch_add(1, Ordering::Relaxed) + 1 == JOBS {
            let _ = finished.send(());
        }
    });
    timeout(WAIT_LIMIT, all.recv())
        .await
        .context("apalis did not come to an end")?;
    let unanswered =
        "SELECT count(*) FROM apalis.jobs WHERE job_type = 'noop' AND status <> 'Done'";
    while sqlx::query_scalar::<_, i64>(unanswered)
        .fetch_one(&pool)
        .await?
        > 0
    {
        ensure!(began.elapsed() < WAIT_LIMIT, "apalis left jobs unanswered");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    let db_ms: f64 = sqlx::query_scalar(
        "SELECT sum(s.total_exec_time) FROM pg_stat_statements s
           JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()",
    )
    .fetch_one(&pool)
    .await?;
    noop.abort();

    let (started, mut starts) = mpsc::unbounded_channel();
    let probe = serve(&pool, PROBE, move || {
        let _ = started.send(Instant::now());
    });
    let mut starts_ms = Vec::new();
    // The first waits until the worker listens.
    for n in 0..=PROBES {
        push(&pool, PROBE, 1).await?;
        let pushed = Instant::now();
        let at = timeout(WAIT_LIMIT, starts.recv())
            .await
            .context("a job did not start")?
            .context("the worker ended")?;
        if n > 0 {
            starts_ms.push(at.saturating_duration_since(pushed).as_secs_f64() * 1000.0);
        }
    }
    probe.abort();
    pool.close().await;
    database.remove(server).await?;
    Ok(Peer::of("apalis", seconds, db_ms, starts_ms))
}

async fn push(pool: &PgPool, queue: &str, count: usize) -> Result<()> {
    let now: i64 = sqlx::query_scalar("SELECT floor(extract(epoch FROM now()))::bigint")
        .fetch_one(pool)
        .await?;
    let now = u64::try_from(now)?;
    let tasks = (0..count)
        .map(|_| {
            TaskBuilder::new(b"{}".to_vec())
                .run_at_timestamp(now)
                .build()
        })
        .collect();
    let mut connection = pool.acquire().await?;
    queries::push_tasks(&mut *connection, queue, tasks).await?;
    Ok(())
}

fn serve(
    pool: &PgPool,
    queue: &'static str,
    job: impl Fn() + Clone + Send + Sync + 'static,
) -> tokio::task::JoinHandle<()> {
    let config = Config::default()
        .queue(queue)
        .batch_size(1)
        .lock_tasks(false);
    let backend = PostgresStorage::<Value>::new(pool)
        .with_config(config)
        .with_pubsub()
        .poll_with_interval(Duration::from_millis(500));
    let worker = WorkerBuilder::new(format!("bench-{queue}"))
        .backend(backend)
        .build(move |_: Value| {
            job();
            async { Ok::<(), BoxDynError>(()) }
        });
    // Boxed with its type written out: the compiler cannot tell that the bare future may be sent.
    let running: Pin<Box<dyn Future<Output = Result<(), WorkerError>> + Send>> =
        Box::pin(worker.run());
    tokio::spawn(async move {
        if let Err(error) = running.await {
            eprintln!("apalis: {error}");
        }
    })
}

/// A peer of another language: `program` runs `script`, which lies beside this file.
pub(crate) async fn foreign(
    server: &Server,
    name: &'static str,
    program: &Path,
    script: &Path,
) -> Result<Peer> {
    let database = server
        .database(&format!("peer_{}", name.replace('-', "_")))
        .await?;
    let output = Command::new(program)
        .arg(script)
        .args([&database.url, &JOBS.to_string(), &PROBES.to_string()])
        .output()
        .with_context(|| format!("start {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{name}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let last = said.lines().last().unwrap_or_default();
    let answer: Value = serde_json::from_str(last).with_context(|| format!("{name}: {said}"))?;
    database.remove(server).await?;
    let number = |field: &str| {
        answer[field]
            .as_f64()
            .with_context(|| format!("{name}: {field}"))
    };
    let starts = answer["starts_ms"].as_array().context("no starts")?;
    Ok(Peer::of(
        name,
        number("seconds")?,
        number("db_ms")?,
        starts.iter().filter_map(Value::as_f64).collect(),
    ))
}
