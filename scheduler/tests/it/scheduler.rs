//! Schedulers against a database: due times become runs once, and what is left behind is found.

use std::{future::Future, time::Duration};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virtuozo_model::ErrorClass;
use virtuozo_postgres::testing::TestDb;
use virtuozo_queue::{GuestJob, HostJob, Job};
use virtuozo_scheduler::{Scheduler, SchedulerOptions};
use virtuozo_store::{
    guest_runs::{self, GuestLease},
    host_runs::{self, GuestRunStart, HostLease, NewGuestRun},
    hosts::{self, HostConfig},
    leases,
    runs::{self, NewRun, Targets},
    settings,
};
use virtuozo_telemetry::{Telemetry, metrics::Metrics};

pub(crate) async fn until<T, F, Fut>(what: &str, mut look: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "not within a minute: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

async fn execute(pool: &PgPool, sql: &'static str) {
    sqlx::query(sql).execute(pool).await.unwrap();
}

async fn add_host(pool: &PgPool, name: &str) -> Uuid {
    let id = Uuid::now_v7();
    let config = HostConfig {
        name: name.to_owned(),
        kind: "esxi".parse().unwrap(),
        address: Some(format!("https://{name}/sdk")),
        user_name: None,
        properties: Default::default(),
        ignored: false,
        guest_threads: None,
    };
    hosts::insert(pool, id, &config, None).await.unwrap();
    id
}

/// A schedule that was due every minute since yesterday.
async fn add_missed_schedule(pool: &PgPool) {
    execute(
        pool,
        "INSERT INTO virtuozo_core.schedules (id, name, cron, done_until)
         VALUES (gen_random_uuid(), 'often', '* * * * *', now() - interval '1 day')",
    )
    .await;
}

struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(pool: &PgPool, name: &str) -> Self {
        let stop = CancellationToken::new();
        let options = SchedulerOptions::new(name);
        let work = Scheduler::run(pool.clone(), options, Telemetry::default(), stop.clone());
        Self {
            stop,
            task: tokio::spawn(async move { work.await.unwrap() }),
        }
    }

    async fn stopped(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missed_schedule_is_caught_up_once_by_two_schedulers_together() {
    let db = TestDb::new().await;
    for host in ["a", "b"] {
        add_host(&db.pool, host).await;
    }
    add_missed_schedule(&db.pool).await;
    let (one, two) = (
        Running::start(&db.pool, "one"),
        Running::start(&db.pool, "two"),
    );
    until("the run is there", || async {
        (count(&db.pool, "SELECT count(*) FROM virtuozo_core.runs").await > 0).then_some(())
    })
    .await;
    one.stopped().await;
    two.stopped().await;
    // One for the missed times, and one more if a minute began meanwhile.
    let ticks = count(&db.pool, "SELECT count(*) FROM virtuozo_core.ticks").await;
    assert!((1..=2).contains(&ticks), "{ticks}");
    assert_eq!(
        count(&db.pool, "SELECT count(*) FROM virtuozo_core.runs").await,
        ticks
    );
    assert_eq!(
        count(&db.pool, "SELECT count(*) FROM virtuozo_core.host_runs").await,
        2 * ticks
    );
    let jobs = count(
        &db.pool,
        "SELECT count(*) FROM apalis.jobs WHERE job_type = 'virtuozo-host'",
    )
    .await;
    assert_eq!(jobs, 2 * ticks);
    let left = count(
        &db.pool,
        "SELECT count(*) FROM virtuozo_core.workers WHERE stopped_at IS NULL",
    )
    .await;
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_due_time_makes_one_run_however_many_ask_for_it_at_once() {
    let db = TestDb::new().await;
    add_host(&db.pool, "a").await;
    add_missed_schedule(&db.pool).await;
    let schedule: Uuid = sqlx::query_scalar("SELECT id FROM virtuozo_core.schedules")
        .fetch_one(&db.pool)
        .await
        .unwrap();
    let due_at = runs::database_now(&db.pool).await.unwrap();
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let pool = db.pool.clone();
            tokio::spawn(async move {
                runs::start_tick(
                    &pool,
                    schedule,
                    due_at,
                    "schedule often",
                    Targets::default(),
                )
                .await
                .unwrap()
            })
        })
        .collect();
    let mut started = 0;
    for one in asking {
        started += usize::from(one.await.unwrap().is_some());
    }
    assert_eq!(started, 1);
    assert_eq!(
        count(&db.pool, "SELECT count(*) FROM virtuozo_core.runs").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_schedule_starts_nothing_and_a_broken_one_is_told_once() {
    let db = TestDb::new().await;
    add_host(&db.pool, "a").await;
    add_missed_schedule(&db.pool).await;
    execute(
        &db.pool,
        "UPDATE virtuozo_core.schedules SET enabled = false",
    )
    .await;
    execute(
        &db.pool,
        "INSERT INTO virtuozo_core.schedules (id, name, cron) VALUES (gen_random_uuid(), 'bad', 'every full moon')",
    )
    .await;
    let scheduler = Running::start(&db.pool, "one");
    let told = "SELECT count(*) FROM virtuozo_core.events WHERE message LIKE '%schedule bad cannot be followed%'";
    until("people are told", || async {
        (count(&db.pool, told).await > 0).then_some(())
    })
    .await;
    // Two more looks.
    let beat = "SELECT count(*) FROM virtuozo_core.workers WHERE heartbeat_at > started_at";
    until("some looks have passed", || async {
        (count(&db.pool, beat).await > 0).then_some(())
    })
    .await;
    scheduler.stopped().await;
    assert_eq!(count(&db.pool, told).await, 1);
    assert_eq!(
        count(&db.pool, "SELECT count(*) FROM virtuozo_core.runs").await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_dies_is_replaced_as_leader() {
    let db = TestDb::new().await;
    add_host(&db.pool, "a").await;
    let first = Running::start(&db.pool, "first");
    let leading = "SELECT count(*) FROM virtuozo_core.lead WHERE lease_until > now()";
    until("the first leads", || async {
        (count(&db.pool, leading).await == 1).then_some(())
    })
    .await;
    let second = Running::start(&db.pool, "second");
    first.task.abort();
    add_missed_schedule(&db.pool).await;
    until("the second starts the run", || async {
        (count(&db.pool, "SELECT count(*) FROM virtuozo_core.runs").await > 0).then_some(())
    })
    .await;
    second.stopped().await;
}

/// A run with one host run and `guests` guest runs, as a worker makes them.
async fn run_with_guests(pool: &PgPool, guests: usize) -> (Uuid, Vec<Uuid>) {
    let host_id = add_host(pool, "lab").await;
    let new = NewRun {
        tick: None,
        requested_by: "test".to_owned(),
        targets: Targets::default(),
    };
    let run_id = runs::start_run(pool, &new).await.unwrap();
    let host_run: Uuid = sqlx::query_scalar("SELECT id FROM virtuozo_core.host_runs")
        .fetch_one(pool)
        .await
        .unwrap();
    let lease = leases::take::<HostLease>(pool, host_run, Uuid::now_v7())
        .await
        .unwrap()
        .unwrap();
    let mut made = Vec::new();
    for n in 0..guests {
        let id: Uuid = sqlx::query_scalar(
            "INSERT INTO virtuozo_core.guests (id, host_id, locator, name) VALUES (gen_random_uuid(), $1, $2, $2) RETURNING id",
        )
        .bind(host_id)
        .bind(format!("g{n}.vmx"))
        .fetch_one(pool)
        .await
        .unwrap();
        made.push(NewGuestRun {
            guest_id: id,
            start: GuestRunStart::Waiting,
        });
    }
    let mut tx = pool.begin().await.unwrap();
    let _ = host_runs::succeed(&mut tx, &Metrics::default(), &lease, &made)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let guest_runs = sqlx::query_scalar("SELECT id FROM virtuozo_core.guest_runs ORDER BY id")
        .fetch_all(pool)
        .await
        .unwrap();
    (run_id, guest_runs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ran_out_is_handed_on_and_counts_as_a_crash() {
    let db = TestDb::new().await;
    settings::set(&db.pool, &[("lease_secs", "2"), ("max_crashes", "2")])
        .await
        .unwrap();
    let (run_id, guest_runs) = run_with_guests(&db.pool, 1).await;
    let guest_run = guest_runs[0];
    let scheduler = Running::start(&db.pool, "one");
    for crash in 1..=2 {
        let lease = leases::take::<GuestLease>(&db.pool, guest_run, Uuid::now_v7())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(lease.fence, crash);
        until("the lease is handed on", || async {
            let state: String = sqlx::query_scalar("SELECT state FROM virtuozo_core.guest_runs")
                .fetch_one(&db.pool)
                .await
                .unwrap();
            (state != "running").then_some(())
        })
        .await;
        let renewed = leases::renew(&db.pool, &lease).await.unwrap();
        assert_eq!(renewed, None, "the dead worker's lease is worth nothing");
    }
    let jobs = count(
        &db.pool,
        "SELECT count(*) FROM apalis.jobs WHERE job_type = 'virtuozo-guest'",
    )
    .await;
    assert_eq!(jobs, 2, "one from admission, one from the first crash");
    until("the run has ended", || async {
        let state: String =
            sqlx::query_scalar("SELECT state FROM virtuozo_core.runs WHERE id = $1")
                .bind(run_id)
                .fetch_one(&db.pool)
                .await
                .unwrap();
        (state == "failed").then_some(())
    })
    .await;
    assert_eq!(
        count(
            &db.pool,
            "SELECT count(*) FROM virtuozo_core.guest_slots WHERE guest_run_id IS NOT NULL"
        )
        .await,
        0
    );
    scheduler.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_nobody_will_deliver_are_pushed_again_and_live_ones_are_not() {
    let db = TestDb::new().await;
    let (_, guest_runs) = run_with_guests(&db.pool, 3).await;
    let later = NewRun {
        tick: None,
        requested_by: "test".to_owned(),
        targets: Targets::default(),
    };
    runs::start_run(&db.pool, &later).await.unwrap();
    // Time passes; of the two admitted guest runs one has lost its job, and so has the new host run.
    execute(&db.pool, "UPDATE virtuozo_core.guest_runs SET admitted_at = now() - interval '1 minute' WHERE state = 'admitted'").await;
    execute(
        &db.pool,
        "UPDATE virtuozo_core.host_runs SET created_at = now() - interval '1 minute'",
    )
    .await;
    sqlx::query("DELETE FROM apalis.jobs WHERE job = convert_to($1, 'UTF8')")
        .bind(
            serde_json::to_string(&GuestJob {
                guest_run_id: guest_runs[0],
            })
            .unwrap(),
        )
        .execute(&db.pool)
        .await
        .unwrap();
    execute(
        &db.pool,
        "DELETE FROM apalis.jobs WHERE job_type = 'virtuozo-host'",
    )
    .await;
    let pushed = virtuozo_store::sweeps::push_lost_jobs(&db.pool)
        .await
        .unwrap();
    assert_eq!(pushed, 2);
    let again = virtuozo_store::sweeps::push_lost_jobs(&db.pool)
        .await
        .unwrap();
    assert_eq!(again, 0, "they are on their way");
    for (queue, jobs) in [(HostJob::QUEUE, 1_i64), (GuestJob::QUEUE, 2)] {
        let found: i64 = sqlx::query_scalar("SELECT count(*) FROM apalis.jobs WHERE job_type = $1")
            .bind(queue)
            .fetch_one(&db.pool)
            .await
            .unwrap();
        assert_eq!(found, jobs, "{queue}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_run_waits_for_its_time_and_is_admitted_then() {
    let db = TestDb::new().await;
    let (_, guest_runs) = run_with_guests(&db.pool, 1).await;
    let lease = leases::take::<GuestLease>(&db.pool, guest_runs[0], Uuid::now_v7())
        .await
        .unwrap()
        .unwrap();
    let mut tx = db.pool.begin().await.unwrap();
    let ending = guest_runs::Ending::Retry {
        delay_secs: 2.0,
        keep_steps: false,
    };
    let _ = guest_runs::end(
        &mut tx,
        &Metrics::default(),
        &lease,
        &ending,
        Some(("refused", ErrorClass::Retry)),
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let waiting = count(
        &db.pool,
        "SELECT count(*) FROM virtuozo_core.guest_runs WHERE state = 'waiting'",
    )
    .await;
    assert_eq!(waiting, 1);
    let scheduler = Running::start(&db.pool, "one");
    until("it is admitted", || async {
        (count(&db.pool, "SELECT count(*) FROM virtuozo_core.guest_runs WHERE state = 'admitted' AND run_after <= now()").await == 1)
            .then_some(())
    })
    .await;
    scheduler.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_are_pruned_and_young_ones_stay() {
    let db = TestDb::new().await;
    execute(
        &db.pool,
        "INSERT INTO virtuozo_core.events (at, code, severity, message)
         VALUES (now() - interval '91 days', 200, 'info', 'old'), (now() - interval '89 days', 200, 'info', 'young')",
    )
    .await;
    execute(
        &db.pool,
        "INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version, heartbeat_at)
         VALUES (gen_random_uuid(), 'worker', 'gone', 'm', 1, 'v', now() - interval '2 days')",
    )
    .await;
    virtuozo_store::sweeps::prune(&db.pool).await.unwrap();
    let messages: Vec<String> = sqlx::query_scalar("SELECT message FROM virtuozo_core.events")
        .fetch_all(&db.pool)
        .await
        .unwrap();
    assert_eq!(messages, ["young"]);
    assert_eq!(
        count(&db.pool, "SELECT count(*) FROM virtuozo_core.workers").await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_to_be_shorter_is_so_at_once() {
    let db = TestDb::new().await;
    // Its going tells that the scheduler has deleted what was old, and would do so again in ten minutes.
    execute(
        &db.pool,
        "INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version, heartbeat_at)
         VALUES (gen_random_uuid(), 'worker', 'gone', 'm', 1, 'v', now() - interval '2 days')",
    )
    .await;
    execute(
        &db.pool,
        "INSERT INTO virtuozo_core.runs (id, requested_by, state, created_at, ended_at)
         SELECT gen_random_uuid(), 'test', 'succeeded', now() - n * interval '1 hour', now() - n * interval '1 hour'
           FROM generate_series(1, 5) n",
    )
    .await;
    let runs = "SELECT count(*) FROM virtuozo_core.runs";
    let scheduler = Running::start(&db.pool, "one");
    until("old rows are deleted", || async {
        let gone = "SELECT count(*) FROM virtuozo_core.workers WHERE name = 'gone'";
        (count(&db.pool, gone).await == 0).then_some(())
    })
    .await;
    // With the next renewal of its lead that look is over.
    let lead = "SELECT (extract(epoch FROM lease_until) * 1000)::bigint FROM virtuozo_core.lead";
    let before = count(&db.pool, lead).await;
    until("it looks once more", || async {
        (count(&db.pool, lead).await > before).then_some(())
    })
    .await;
    assert_eq!(count(&db.pool, runs).await, 5);
    settings::set(&db.pool, &[("history_keep_runs", "2")])
        .await
        .unwrap();
    until("the history is shorter", || async {
        (count(&db.pool, runs).await == 2).then_some(())
    })
    .await;
    scheduler.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_written_by_hand_are_dropped_or_set_right_and_the_real_ones_stay() {
    let db = TestDb::new().await;
    run_with_guests(&db.pool, 1).await;
    execute(
        &db.pool,
        "UPDATE virtuozo_core.guest_runs SET admitted_at = now() - interval '1 minute' WHERE state = 'admitted'",
    )
    .await;
    execute(
        &db.pool,
        "UPDATE apalis.jobs SET run_at = now() + interval '1 year' WHERE job_type = 'virtuozo-guest'",
    )
    .await;
    execute(
        &db.pool,
        r#"INSERT INTO apalis.jobs (id, job_type, job, status, attempts, max_attempts, run_at, priority)
           SELECT apalis.generate_ulid(), 'virtuozo-guest',
                  convert_to(format('{"guest_run_id":"%s"}', gen_random_uuid()), 'UTF8'), 'Pending', 0, 25, now(), 1000
             FROM generate_series(1, 5000)"#,
    )
    .await;
    let scheduler = Running::start(&db.pool, "one");
    until("one job is left to be claimed", || async {
        let due = "SELECT count(*) FROM apalis.jobs
                    WHERE job_type = 'virtuozo-guest' AND status = 'Pending' AND run_at <= now()";
        (count(&db.pool, due).await == 1).then_some(())
    })
    .await;
    let real = "SELECT count(*) FROM virtuozo.jobs j JOIN virtuozo_core.guest_runs g ON g.id = j.guest_run_id
                 WHERE g.state = 'admitted' AND j.status = 'Pending' AND j.run_at <= now()";
    assert_eq!(count(&db.pool, real).await, 1);
    scheduler.stopped().await;
}
