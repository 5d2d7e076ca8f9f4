//! The interface for operators: each function in each state, and rows that somebody writes into the
//! queues by hand.

mod forgiving;
mod pauses;
mod views;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::{
    admission,
    host_runs::{self, HostLease},
    hosts, leases, obligations, runs, sweeps,
    wakeup::WakeupListener,
};
use virtuozo_postgres::{StoreError, testing::TestDb};
use virtuozo_queue::{Capabilities, GuestJob, JobListener, UndoJob};
use virtuozo_runtime::Availability;
use virtuozo_telemetry::metrics::Metrics;

/// Host alpha with two slots and a guest for each state, each with a guest run in that state; the ids are
/// made from the names.
const SITE: &str = "
    INSERT INTO virtuozo_core.hosts (id, name, kind) VALUES (md5('alpha')::uuid, 'alpha', 'workstation');
    INSERT INTO virtuozo_core.guest_slots (host_id, slot_no) SELECT md5('alpha')::uuid, generate_series(1, 2);
    INSERT INTO virtuozo_core.runs (id, requested_by) VALUES (md5('run')::uuid, 'test');
    INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, state, ended_at)
    VALUES (md5('host run')::uuid, md5('run')::uuid, md5('alpha')::uuid, 'succeeded', now());
    INSERT INTO virtuozo_core.guests (id, host_id, locator, name)
    SELECT md5('guest ' || s)::uuid, md5('alpha')::uuid, s || '.vmx', s
      FROM unnest(ARRAY['waiting', 'admitted', 'running', 'succeeded', 'failed', 'cancelled', 'skipped']) s;
    INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, state, fence, attempts, run_after,
                                          lease_until, owner_id, admitted_at, error, error_class, ended_at)
    SELECT md5(g.name)::uuid, md5('run')::uuid, md5('host run')::uuid, md5('alpha')::uuid, g.id, g.name, 7, 1,
           now() + CASE g.name WHEN 'waiting' THEN interval '1 hour' ELSE interval '0' END,
           CASE g.name WHEN 'running' THEN now() + interval '1 hour' END, CASE g.name WHEN 'running' THEN md5('owner')::uuid END,
           CASE WHEN g.name IN ('admitted', 'running') THEN now() END,
           CASE g.name WHEN 'failed' THEN 'the disk is broken' END, CASE g.name WHEN 'failed' THEN 'permanent' END,
           CASE WHEN g.name NOT IN ('waiting', 'admitted', 'running') THEN now() END
      FROM virtuozo_core.guests g;
    UPDATE virtuozo_core.guest_slots SET guest_run_id = md5('running')::uuid, taken_at = now() WHERE slot_no = 1;
    UPDATE virtuozo_core.guest_slots SET guest_run_id = md5('admitted')::uuid, taken_at = now() WHERE slot_no = 2";

const STATES: [&str; 7] = [
    "waiting",
    "admitted",
    "running",
    "succeeded",
    "failed",
    "cancelled",
    "skipped",
];

/// A worker and a scheduler that are alive.
const ALIVE: &str = "
    INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version)
    SELECT md5(k)::uuid, k, k, 'm', 1, '1' FROM unnest(ARRAY['worker', 'scheduler']) k ON CONFLICT DO NOTHING";

async fn site() -> TestDb {
    let db = TestDb::new().await;
    execute(&db.pool, SITE).await;
    db
}

async fn execute(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(pool)
        .await
        .unwrap_or_else(|e| panic!("{e}: {sql}"));
}

/// One text out of the database.
async fn text(pool: &PgPool, sql: &str) -> String {
    scalar(pool, sql)
        .await
        .unwrap_or_else(|e| panic!("{e}: {sql}"))
}

async fn scalar(pool: &PgPool, sql: &str) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT ({sql})::text")))
        .fetch_one(pool)
        .await
}

/// What a function that is to refuse says.
async fn refusal(pool: &PgPool, sql: &str) -> String {
    match scalar(pool, sql).await {
        Err(sqlx::Error::Database(e)) => e.message().to_owned(),
        other => panic!("{sql}: {other:?}"),
    }
}

async fn state_of(pool: &PgPool, guest: &str) -> String {
    let sql = format!(
        "SELECT state || ' ' || fence || CASE WHEN cancel_requested THEN ' cancelling' ELSE '' END
           FROM virtuozo_core.guest_runs WHERE id = md5('{guest}')::uuid"
    );
    text(pool, &sql).await
}

#[tokio::test]
async fn a_guest_run_is_requeued_from_every_state_that_permits_it() {
    let db = site().await;
    for state in STATES {
        let call = format!("SELECT virtuozo.requeue(md5('{state}')::uuid)");
        let permitted = match state {
            "waiting" => Ok(("waits for a slot only", "waiting 7")),
            "admitted" => Ok(("delivered again", "admitted 7")),
            "failed" | "cancelled" => Ok(("begins afresh", "waiting 7")),
            "running" => Err("a worker works on guest alpha/running"),
            _ => Err("stays so"),
        };
        match permitted {
            Ok((says, after)) => {
                let said = text(&db.pool, &call).await;
                assert!(said.contains(says), "{said}");
                assert_eq!(state_of(&db.pool, state).await, after);
            }
            Err(says) => {
                let said = refusal(&db.pool, &call).await;
                assert!(said.contains(says), "{said}");
                assert_eq!(state_of(&db.pool, state).await, format!("{state} 7"));
            }
        }
    }
    let due = "SELECT bool_and(run_after <= now() AND ended_at IS NULL) FROM virtuozo_core.guest_runs WHERE state = 'waiting'";
    assert_eq!(text(&db.pool, due).await, "true");
    let job = "SELECT convert_from(job, 'UTF8')::jsonb->>'guest_run_id' = md5('admitted')::uuid::text FROM apalis.jobs";
    assert_eq!(text(&db.pool, job).await, "true");
    let unknown = refusal(&db.pool, "SELECT virtuozo.requeue(gen_random_uuid())").await;
    assert!(unknown.contains("there is no guest run"), "{unknown}");
}

#[tokio::test]
async fn a_requeued_guest_reopens_its_run_unless_that_is_being_cancelled() {
    let db = site().await;
    execute(
        &db.pool,
        "UPDATE virtuozo_core.runs SET cancel_requested = true",
    )
    .await;
    let why = refusal(&db.pool, "SELECT virtuozo.requeue(md5('failed')::uuid)").await;
    assert!(why.contains("is being cancelled"), "{why}");
    assert_eq!(state_of(&db.pool, "failed").await, "failed 7");
    execute(
        &db.pool,
        "UPDATE virtuozo_core.guest_runs SET state = 'failed', ended_at = now(), lease_until = NULL, owner_id = NULL WHERE ended_at IS NULL;
         UPDATE virtuozo_core.guest_slots SET guest_run_id = NULL;
         UPDATE virtuozo_core.runs SET state = 'cancelled', ended_at = now(), error = 'x'",
    )
    .await;
    text(&db.pool, "SELECT virtuozo.requeue(md5('failed')::uuid)").await;
    let run = "SELECT state || cancel_requested || coalesce(error, '-') FROM virtuozo_core.runs";
    assert_eq!(text(&db.pool, run).await, "runningfalse-");
    assert_eq!(sweeps::admit_all(&db.pool).await.unwrap(), 1);
    assert_eq!(state_of(&db.pool, "failed").await, "admitted 7");
}

#[tokio::test]
async fn a_guest_run_is_cancelled_in_every_state_in_which_it_is_open() {
    let db = site().await;
    for state in STATES {
        let call = format!("SELECT virtuozo.cancel(md5('{state}')::uuid)");
        match state {
            "waiting" | "admitted" | "running" => {
                let said = text(&db.pool, &call).await;
                assert!(said.contains("is cancelled in its run"), "{said}");
                let after = if state == "running" {
                    state
                } else {
                    "cancelled"
                };
                assert_eq!(
                    state_of(&db.pool, state).await,
                    format!("{after} 7 cancelling")
                );
            }
            _ => {
                let said = refusal(&db.pool, &call).await;
                assert!(
                    said.contains(&format!("has ended already ({state})")),
                    "{said}"
                );
            }
        }
    }
    let taken = "SELECT string_agg(slot_no::text, ',') FROM virtuozo_core.guest_slots WHERE guest_run_id IS NOT NULL";
    assert_eq!(
        text(&db.pool, taken).await,
        "1",
        "the running one keeps its slot"
    );
    let unknown = refusal(&db.pool, "SELECT virtuozo.cancel(gen_random_uuid())").await;
    assert!(unknown.contains("no run and no guest run"), "{unknown}");
}

#[tokio::test]
async fn what_is_cancelled_says_how_far_it_had_come() {
    let db = site().await;
    execute(
        &db.pool,
        "UPDATE virtuozo_core.guest_runs SET fence = 0 WHERE state = 'admitted';
         UPDATE virtuozo_core.guest_runs SET error = 'no space' WHERE state = 'waiting';
         INSERT INTO virtuozo_core.steps (guest_run_id, fence, name, state, error, ended_at)
         VALUES (md5('waiting')::uuid, 7, 'validate', 'done', NULL, now()),
                (md5('waiting')::uuid, 7, 'snapshot', 'failed', 'no space', now());
         UPDATE virtuozo_core.steps SET started_at = now() - interval '1 minute' WHERE name = 'validate';
         INSERT INTO virtuozo_core.hosts (id, name, kind) VALUES (md5('beta')::uuid, 'beta', 'workstation');
         INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, fence, error)
         VALUES (gen_random_uuid(), md5('run')::uuid, md5('beta')::uuid, 2, 'no route')",
    )
    .await;
    text(&db.pool, "SELECT virtuozo.cancel(md5('run')::uuid)").await;
    let said = "SELECT string_agg(guest || ': ' || last_error, E'\n' ORDER BY guest) FROM virtuozo.guest_runs
                 WHERE guest IN ('waiting', 'admitted')";
    assert_eq!(
        text(&db.pool, said).await,
        "admitted: cancelled before it began\n\
         waiting: cancelled while it waited to go on; step snapshot had failed: no space"
    );
    let of_host = "SELECT error FROM virtuozo_core.host_runs WHERE state = 'cancelled'";
    assert_eq!(
        text(&db.pool, of_host).await,
        "cancelled while it waited to be tried again; before that: no route"
    );
}

#[tokio::test]
async fn a_run_is_cancelled_once_and_its_slots_beyond_the_cap_go_away() {
    let db = site().await;
    execute(&db.pool, "UPDATE virtuozo_core.hosts SET guest_threads = 1").await;
    for _ in 0..2 {
        text(&db.pool, "SELECT virtuozo.cancel(md5('run')::uuid)").await;
        assert_eq!(state_of(&db.pool, "waiting").await, "cancelled 7");
        assert_eq!(state_of(&db.pool, "admitted").await, "cancelled 7");
        assert_eq!(state_of(&db.pool, "running").await, "running 7");
    }
    let slots = "SELECT string_agg(slot_no::text, ',') FROM virtuozo_core.guest_slots";
    assert_eq!(text(&db.pool, slots).await, "1");
    execute(
        &db.pool,
        "UPDATE virtuozo_core.guest_runs SET state = 'cancelled', ended_at = now(), lease_until = NULL, owner_id = NULL WHERE state = 'running'",
    )
    .await;
    assert_eq!(
        sweeps::end_runs(&db.pool, &Metrics::default())
            .await
            .unwrap(),
        1
    );
    let why = refusal(&db.pool, "SELECT virtuozo.cancel(md5('run')::uuid)").await;
    assert_eq!(why, "the run has ended already (cancelled)");
    let same = runs::cancel(&db.pool, Uuid::nil()).await;
    assert!(matches!(same, Err(StoreError::Refused(_))), "{same:?}");
}

#[tokio::test]
async fn a_paused_host_begins_nothing_until_it_is_resumed() {
    let db = site().await;
    execute(
        &db.pool,
        "UPDATE virtuozo_core.guest_slots SET guest_run_id = NULL WHERE slot_no = 2;
         UPDATE virtuozo_core.guest_runs SET state = 'cancelled', ended_at = now() WHERE state = 'admitted';
         UPDATE virtuozo_core.guest_runs SET run_after = now() WHERE state = 'waiting';
         UPDATE virtuozo_core.host_runs SET state = 'queued', ended_at = NULL, created_at = now() - interval '1 hour'",
    )
    .await;
    let host_run: Uuid = sqlx::query_scalar("SELECT md5('host run')::uuid")
        .fetch_one(&db.pool)
        .await
        .unwrap();
    let host: Uuid = sqlx::query_scalar("SELECT md5('alpha')::uuid")
        .fetch_one(&db.pool)
        .await
        .unwrap();
    for target in ["alpha", "all"] {
        assert!(
            super::pause(&db.pool, target)
                .await
                .unwrap()
                .ends_with(": paused")
        );
        assert!(
            super::pause(&db.pool, target)
                .await
                .unwrap()
                .contains("already")
        );
        let mut tx = db.pool.begin().await.unwrap();
        assert!(admission::admit(&mut tx, host).await.unwrap().is_empty());
        tx.commit().await.unwrap();
        assert_eq!(sweeps::admit_all(&db.pool).await.unwrap(), 0);
        assert_eq!(sweeps::push_lost_jobs(&db.pool).await.unwrap(), 0);
        assert_eq!(
            host_runs::host_of_queued(&db.pool, host_run).await.unwrap(),
            None
        );
        let taken = leases::take::<HostLease>(&db.pool, host_run, Uuid::now_v7()).await;
        assert!(taken.unwrap().is_none());
        let reason = "SELECT waiting_reason FROM virtuozo.guest_runs WHERE state = 'waiting'";
        execute(&db.pool, ALIVE).await;
        assert!(text(&db.pool, reason).await.contains("paused"));
        assert!(
            super::resume(&db.pool, target)
                .await
                .unwrap()
                .ends_with(": resumed")
        );
        assert!(
            super::resume(&db.pool, target)
                .await
                .unwrap()
                .contains("already")
        );
    }
    assert_eq!(sweeps::admit_all(&db.pool).await.unwrap(), 1);
    assert_eq!(
        sweeps::push_lost_jobs(&db.pool).await.unwrap(),
        1,
        "the host run"
    );
    super::pause(&db.pool, "all").await.unwrap();
    let why = super::resume(&db.pool, "alpha")
        .await
        .unwrap_err()
        .to_string();
    assert!(why.contains("all hosts are paused"), "{why}");
    for call in [
        super::pause(&db.pool, "beta").await,
        super::resume(&db.pool, "beta").await,
    ] {
        let why = call.unwrap_err().to_string();
        assert!(why.contains("there is no host 'beta'"), "{why}");
    }
}

#[tokio::test]
async fn what_failed_in_a_run_is_tried_again_and_nothing_else() {
    let db = site().await;
    let said = super::retry_failed(&db.pool, md5(&db.pool, "run").await)
        .await
        .unwrap();
    assert_eq!(said, "1 guests and 0 hosts of the run begin afresh");
    assert_eq!(state_of(&db.pool, "failed").await, "waiting 7");
    assert_eq!(state_of(&db.pool, "cancelled").await, "cancelled 7");
    let why = refusal(&db.pool, "SELECT virtuozo.retry_failed(md5('run')::uuid)").await;
    assert!(why.contains("nothing in the run"), "{why}");
    let unknown = refusal(&db.pool, "SELECT virtuozo.retry_failed(gen_random_uuid())").await;
    assert!(unknown.contains("there is no run"), "{unknown}");

    // A host that could not be validated, in a run that is over.
    execute(
        &db.pool,
        "UPDATE virtuozo_core.guest_runs SET state = 'cancelled', ended_at = now(), lease_until = NULL, owner_id = NULL WHERE ended_at IS NULL;
         UPDATE virtuozo_core.host_runs SET state = 'failed', attempts = 3;
         UPDATE virtuozo_core.runs SET state = 'failed', ended_at = now()",
    )
    .await;
    text(&db.pool, "SELECT virtuozo.retry_failed(md5('run')::uuid)").await;
    let after = "SELECT h.state || ' ' || h.attempts || ' ' || r.state
                   FROM virtuozo_core.host_runs h JOIN virtuozo_core.runs r ON r.id = h.run_id";
    assert_eq!(text(&db.pool, after).await, "queued 0 running");
    let job = "SELECT count(*) FROM apalis.jobs WHERE job_type = 'virtuozo-host' AND status = 'Pending' AND run_at <= now()";
    assert_eq!(text(&db.pool, job).await, "1");

    execute(
        &db.pool,
        "UPDATE virtuozo_core.runs SET cancel_requested = true;
                       UPDATE virtuozo_core.host_runs SET state = 'failed', ended_at = now()",
    )
    .await;
    let why = refusal(&db.pool, "SELECT virtuozo.retry_failed(md5('run')::uuid)").await;
    assert!(why.contains("is being cancelled"), "{why}");
}

async fn md5(pool: &PgPool, of: &str) -> Uuid {
    sqlx::query_scalar("SELECT md5($1)::uuid")
        .bind(of)
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_operators_do_wakes_the_schedulers_and_is_told() {
    let db = site().await;
    let mut wake = WakeupListener::new(db.pool.clone());
    // The first pause begins to listen.
    wake.pause(Duration::from_millis(200)).await;
    super::pause(&db.pool, "alpha").await.unwrap();
    tokio::time::timeout(
        Duration::from_secs(60),
        wake.pause(Duration::from_secs(600)),
    )
    .await
    .expect("a notification ends the pause");
    let told = text(
        &db.pool,
        "SELECT message FROM virtuozo.events WHERE host = 'alpha'",
    )
    .await;
    assert!(
        told.starts_with("host alpha: paused (by the database user "),
        "{told}"
    );
}

#[tokio::test]
async fn rows_that_would_stop_the_workers_are_refused_and_good_ones_are_delivered() {
    let db = site().await;
    let payload = r#"convert_to('{"guest_id":"' || gen_random_uuid() || '"}', 'UTF8')"#;
    let id = "apalis.generate_ulid()";
    let bad = [
        ("id, job", format!("'my-job', {payload}"), "no ULID"),
        (
            "id, job",
            format!("gen_random_uuid()::text, {payload}"),
            "no ULID",
        ),
        (
            "id, job, metadata",
            format!("{id}, {payload}, hstore('a', NULL)"),
            "NULL",
        ),
        (
            "id, job, run_at",
            format!("{id}, {payload}, '1969-01-01'"),
            "before 1970",
        ),
        (
            "id, job, run_at",
            format!("{id}, {payload}, '-infinity'"),
            "before 1970",
        ),
        (
            "id, job, done_at",
            format!("{id}, {payload}, 'infinity'"),
            "after 9999",
        ),
        ("id, job, attempts", format!("{id}, {payload}, -1"), "below"),
        ("id, job, priority", format!("{id}, {payload}, -1"), "below"),
        (
            "id, job, status",
            format!("{id}, {payload}, 'Waiting'"),
            "status",
        ),
        ("id, job", format!(r"{id}, '\xff00'"), "payload"),
        ("id, job", format!("{id}, 'no json'"), "payload"),
        ("id, job", format!("{id}, '[]'"), "payload"),
        ("id, job", format!("{id}, '{{}}'"), "payload"),
        (
            "id, job",
            format!(r#"{id}, '{{"guest_id":"mail"}}'"#),
            "payload",
        ),
    ];
    for (columns, values, why) in bad {
        let sql = format!(
            "INSERT INTO apalis.jobs (job_type, {columns}) VALUES ('virtuozo-undo', {values})"
        );
        let error = sqlx::raw_sql(AssertSqlSafe(sql.clone()))
            .execute(&db.pool)
            .await;
        let message = error.expect_err(&sql).to_string();
        assert!(
            message.contains(why) && message.contains("would stop every worker"),
            "{sql}: {message}"
        );
    }
    // Rows of others are none of our business, and a row that is changed is looked at as well.
    execute(
        &db.pool,
        "INSERT INTO apalis.jobs (id, job, job_type) VALUES ('x', 'y', 'something-else')",
    )
    .await;
    let sql = "UPDATE apalis.jobs SET job_type = 'virtuozo-guest'";
    sqlx::raw_sql(sql).execute(&db.pool).await.expect_err(sql);

    let good = format!(
        "INSERT INTO apalis.jobs (job_type, id, job) VALUES ('virtuozo-undo', {id}, {payload})"
    );
    execute(&db.pool, &good).await;
    let delivered = Arc::new(Mutex::new(Vec::new()));
    let (seen, stop) = (Arc::clone(&delivered), CancellationToken::new());
    let serving = tokio::spawn(virtuozo_queue::serve(
        db.pool.clone(),
        JobListener::start(db.pool.clone(), Availability::default(), stop.clone()),
        Uuid::now_v7(),
        Capabilities::none(),
        move |job: UndoJob| {
            seen.lock().push(job.guest_id);
            async { Ok(()) }
        },
        stop.clone(),
    ));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while delivered.lock().is_empty() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the good row was not delivered"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    serving.await.unwrap();
}
