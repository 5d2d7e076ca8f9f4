//! Guest runs over the whole durable path: admission, delivery, lease, all steps with their obligations,
//! and the publishing transaction, by real workers and a real scheduler.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use sqlx::PgPool;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virtuozo_disk::MachineRoots;
use virtuozo_hypervisor::{Connector, Connectors};
use virtuozo_scheduler::{Scheduler, SchedulerOptions};
use virtuozo_store::{
    hosts::{self, HostConfig},
    settings,
};
use virtuozo_telemetry::Telemetry;
use virtuozo_worker::{Worker, WorkerOptions};

use crate::{hypervisor::NoHypervisor, server::Server};

/// Workers, each with connections of its own.
const WORKERS: usize = 2;
/// As many as one worker may be connected to.
const HOSTS: usize = 10;
/// How long the fleet works before it is measured.
const WARM_UP: Duration = Duration::from_secs(4);
/// How long it is measured.
const WINDOW: Duration = Duration::from_secs(10);
/// Guests that a fleet may finish while it warms up and is measured; they come on top of those that wait
/// at the end.
const TO_FINISH: usize = 14_000;

/// What a fleet did with a number of guests waiting.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// Guests that waited all the time, at least.
    pub(crate) waiting: usize,
    /// Guest runs that ended well, for each second.
    pub(crate) runs_per_second: f64,
    /// Time in statements, by `pg_stat_statements`, for each of them.
    pub(crate) db_ms: f64,
    /// Statements for each of them, transactions' own included.
    pub(crate) statements: f64,
    /// From the beginning of the transaction that freed the slot to the lease.
    pub(crate) start_p50_ms: f64,
    /// As above.
    pub(crate) start_p99_ms: f64,
    /// The statements that took the most time: milliseconds and calls for each guest run, and their text.
    pub(crate) costliest: Vec<(f64, f64, String)>,
}

/// Measures a fleet while at least `waiting` guests wait. A host has as many guests in work as it has where
/// nothing is set.
pub(crate) async fn measure(server: &Server, waiting: usize) -> Result<Measured> {
    let database = server.database(&format!("fleet_{waiting}")).await?;
    let telemetry = Telemetry::default();
    let pool = virtuozo_postgres::connect(&database.url, 2, &telemetry.health).await?;
    virtuozo_postgres::migrate(&pool).await?;
    // Restore points of no content cost next to nothing in memory, but a sync each on a disk.
    let memory = Path::new("/dev/shm");
    let destination = if memory.is_dir() {
        tempfile::tempdir_in(memory)?
    } else {
        tempfile::tempdir()?
    };
    settings::set(
        &pool,
        &[("destination", &destination.path().to_string_lossy())],
    )
    .await?;
    seed(&pool, waiting + TO_FINISH).await?;

    let stop = CancellationToken::new();
    let connector: Arc<dyn Connector> = Arc::new(NoHypervisor::default());
    let connectors = Connectors::new([connector]);
    let mut processes = tokio::task::JoinSet::new();
    for n in 0..WORKERS {
        let telemetry = Telemetry::default();
        let pool = virtuozo_postgres::connect(&database.url, 2, &telemetry.health).await?;
        let mut options = WorkerOptions::new(format!("worker-{n}"));
        // Where nothing is named, the directories of the system are closed, and /dev is one.
        let roots = vec![destination.path().to_owned()];
        options.write_roots = MachineRoots::new("write_roots", "bench", roots);
        let (connectors, stop) = (connectors.clone(), stop.clone());
        processes.spawn(async move {
            let ended = Worker::run(pool.clone(), options, connectors, telemetry, stop).await;
            pool.close().await;
            ended
        });
    }
    let options = SchedulerOptions::new("scheduler");
    processes.spawn(Scheduler::run(
        pool.clone(),
        options,
        telemetry,
        stop.clone(),
    ));

    sleep(WARM_UP).await;
    sqlx::query("SELECT pg_stat_statements_reset()")
        .execute(&pool)
        .await?;
    let (from, before) = (Instant::now(), succeeded(&pool).await?);
    sleep(WINDOW).await;
    let (after, elapsed) = (succeeded(&pool).await?, from.elapsed());
    let measured = read(&pool, waiting, after - before, elapsed).await;
    stop.cancel();
    while let Some(ended) = processes.join_next().await {
        ended??;
    }
    let failed: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM virtuozo_core.guest_runs WHERE state = 'failed' OR crashes > 0 OR attempts > 0",
    )
    .fetch_one(&pool)
    .await?;
    ensure!(failed == 0, "{failed} guest runs failed or were repeated");
    pool.close().await;
    database.remove(server).await?;
    measured
}

/// Hosts, guests and a run in which all of them wait. How guests become guest runs, once for each host
/// and run, is not measured.
async fn seed(pool: &PgPool, guests: usize) -> Result<()> {
    let run_id = Uuid::now_v7();
    sqlx::query("INSERT INTO virtuozo_core.runs (id, requested_by) VALUES ($1, 'bench')")
        .bind(run_id)
        .execute(pool)
        .await?;
    for n in 0..HOSTS {
        let (id, host_run_id) = (Uuid::now_v7(), Uuid::now_v7());
        let config = HostConfig {
            name: format!("host-{n}"),
            kind: "none".parse()?,
            address: Some(format!("https://host-{n}/sdk")),
            user_name: None,
            properties: Default::default(),
            ignored: false,
            guest_threads: None,
        };
        hosts::insert(pool, id, &config, None).await?;
        sqlx::query(
            "INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, state, ended_at)
             VALUES ($1, $2, $3, 'succeeded', now())",
        )
        .bind(host_run_id)
        .bind(run_id)
        .bind(id)
        .execute(pool)
        .await?;
        sqlx::query(
            "WITH g AS (
                INSERT INTO virtuozo_core.guests (id, host_id, locator, name)
                SELECT gen_random_uuid(), $1::uuid, format('[%s] %s/%s.vmx', $1::uuid, n, n), n::text
                  FROM generate_series(1, $4) n
             RETURNING id)
             INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id)
             SELECT gen_random_uuid(), $2, $3, $1, id FROM g",
        )
        .bind(id)
        .bind(run_id)
        .bind(host_run_id)
        .bind(i32::try_from(guests / HOSTS)?)
        .execute(pool)
        .await?;
    }
    sqlx::query("ANALYZE").execute(pool).await?;
    Ok(())
}

async fn succeeded(pool: &PgPool) -> Result<i64> {
    Ok(
        sqlx::query_scalar("SELECT count(*) FROM virtuozo_core.restore_points")
            .fetch_one(pool)
            .await?,
    )
}

async fn read(pool: &PgPool, waiting: usize, runs: i64, elapsed: Duration) -> Result<Measured> {
    ensure!(runs > 0, "no guest run came to its end");
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM virtuozo_core.guest_runs WHERE state = 'waiting'")
            .fetch_one(pool)
            .await?;
    ensure!(
        usize::try_from(left)? >= waiting,
        "only {left} guests were still waiting at the end: the fleet is faster than this bench provides for"
    );
    let runs = runs as f64;
    let (ms, calls): (f64, f64) = sqlx::query_as(
        "SELECT sum(s.total_exec_time), sum(s.calls)::float8 FROM pg_stat_statements s
           JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()",
    )
    .fetch_one(pool)
    .await?;
    let (start_p50_ms, start_p99_ms): (f64, f64) = sqlx::query_as(
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms), percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)
           FROM (SELECT extract(epoch FROM started_at - admitted_at)::float8 * 1000 AS ms
                   FROM virtuozo_core.guest_runs
                  WHERE admitted_at > now() - make_interval(secs => $1) AND started_at IS NOT NULL) s",
    )
    .bind(elapsed.as_secs_f64())
    .fetch_one(pool)
    .await
    .context("the time from a free slot to the start")?;
    let costliest: Vec<(f64, f64, String)> = sqlx::query_as(
        "SELECT s.total_exec_time / $1, s.calls / $1, left(regexp_replace(s.query, '\\s+', ' ', 'g'), 100)
           FROM pg_stat_statements s
           JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()
          ORDER BY s.total_exec_time DESC LIMIT 40",
    )
    .bind(runs)
    .fetch_all(pool)
    .await?;
    Ok(Measured {
        waiting,
        runs_per_second: runs / elapsed.as_secs_f64(),
        db_ms: ms / runs,
        statements: calls / runs,
        start_p50_ms,
        start_p99_ms,
        costliest,
    })
}
