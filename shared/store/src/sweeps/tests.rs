//! History has bounds, and the statements of every second find their rows by index.

mod queues;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use super::prune;
use crate::{guest_runs::GuestLease, leases::Leased, settings, traces};
use virtuozo_postgres::testing::TestDb;

const RUNS_PER_ROUND: i64 = 100;
const GUESTS: i64 = 100;

/// A host with guests, and runs of all of them that are over, as the whole way leaves them behind.
const SITE: &str = "
    INSERT INTO virtuozo_core.hosts (id, name, kind) VALUES (md5('host')::uuid, 'alpha', 'workstation');
    INSERT INTO virtuozo_core.guest_slots (host_id, slot_no) SELECT md5('host')::uuid, generate_series(1, 2);
    INSERT INTO virtuozo_core.guests (id, host_id, locator, name)
    SELECT md5('guest' || n)::uuid, md5('host')::uuid, n || '.vmx', 'guest' || n FROM generate_series(1, 100) n";

const ROUND: &str = "
    CREATE TEMP TABLE new_runs ON COMMIT DROP AS SELECT gen_random_uuid() AS id, n FROM generate_series(1, 100) n;
    INSERT INTO virtuozo_core.runs (id, requested_by, state, created_at, ended_at)
    SELECT id, 'test', 'succeeded', clock_timestamp(), now() FROM new_runs;
    INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, state, ended_at)
    SELECT md5('h' || id)::uuid, id, md5('host')::uuid, 'succeeded', now() FROM new_runs;
    INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, state, fence, ended_at)
    SELECT md5(g || r.id::text)::uuid, r.id, md5('h' || r.id)::uuid, md5('host')::uuid, md5('guest' || g)::uuid,
           'succeeded', 1, now()
      FROM new_runs r CROSS JOIN generate_series(1, 100) g;
    INSERT INTO virtuozo_core.steps (guest_run_id, fence, name, state)
    SELECT g.id, 1, s, 'done'
      FROM virtuozo_core.guest_runs g JOIN new_runs r ON r.id = g.run_id
     CROSS JOIN unnest(ARRAY['validate', 'copy', 'publish']) s;
    INSERT INTO virtuozo_core.events (code, severity, message, run_id, guest_id, guest_run_id)
    SELECT 200, 'info', 'backed up', g.run_id, g.guest_id, g.id
      FROM virtuozo_core.guest_runs g JOIN new_runs r ON r.id = g.run_id;
    INSERT INTO apalis.jobs (id, job_type, job, status, attempts, max_attempts, run_at, done_at)
    SELECT apalis.generate_ulid(), 'virtuozo-guest', convert_to(format('{\"guest_run_id\":\"%s\"}', g.id), 'UTF8'),
           'Done', 1, 25, now(), now()
      FROM virtuozo_core.guest_runs g JOIN new_runs r ON r.id = g.run_id";

async fn count(conn: &mut PgConnection, table: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
        .fetch_one(conn)
        .await
        .unwrap()
}

async fn size_bytes(conn: &mut PgConnection, table: &str) -> i64 {
    sqlx::query_scalar("SELECT pg_total_relation_size($1::regclass)")
        .bind(table)
        .fetch_one(conn)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_stay_bounded_over_a_hundred_thousand_guest_runs_and_hot_statements_use_indexes() {
    const BIG: [(&str, i64); 5] = [
        ("virtuozo_core.runs", 100),
        ("virtuozo_core.guest_runs", 10_000),
        ("virtuozo_core.steps", 30_000),
        ("virtuozo_core.events", 10_000),
        // Jobs have a bound of their own.
        ("apalis.jobs", 10_000),
    ];
    let db = TestDb::new().await;
    settings::set(&db.pool, &[("history_keep_runs", "100")])
        .await
        .unwrap();
    let mut conn = PgConnection::connect(db.url()).await.unwrap();
    sqlx::raw_sql(SITE).execute(&mut conn).await.unwrap();
    let mut sizes_after_two = Vec::new();
    for round in 1..=10 {
        let mut tx = conn.begin().await.unwrap();
        sqlx::raw_sql(ROUND).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let mut batches = 0;
        while prune(&db.pool).await.unwrap() {
            batches += 1;
            assert!(batches < 100, "pruning comes to no end");
        }
        for (table, most) in BIG {
            let rows = count(&mut conn, table).await;
            assert!(
                rows > 0 && rows <= most,
                "{table}: {rows} rows in round {round}"
            );
            // As autovacuum does from time to time.
            sqlx::raw_sql(AssertSqlSafe(format!("VACUUM ANALYZE {table}")))
                .execute(&mut conn)
                .await
                .unwrap();
            let size = size_bytes(&mut conn, table).await;
            if round == 2 {
                sizes_after_two.push(size);
            }
            if let Some(after_two) = BIG
                .iter()
                .position(|(t, _)| *t == table)
                .and_then(|n| sizes_after_two.get(n))
            {
                assert!(
                    size <= after_two * 3 / 2,
                    "{table}: {after_two} bytes after two rounds, {size} after {round}"
                );
            }
        }
    }
    let left: i64 = RUNS_PER_ROUND * GUESTS;
    assert_eq!(count(&mut conn, "virtuozo_core.guest_runs").await, left);
    hot_statements_use_indexes(&mut conn).await;
}

/// With ten thousand guest runs over and ten thousand waiting.
async fn hot_statements_use_indexes(conn: &mut PgConnection) {
    let waiting = "
        UPDATE virtuozo_core.guest_runs SET state = 'waiting', ended_at = NULL
         WHERE run_id IN (SELECT id FROM virtuozo_core.runs ORDER BY id LIMIT 50);
        UPDATE virtuozo_core.guest_runs SET state = 'running', lease_until = now() + interval '1 hour', owner_id = id
         WHERE id IN (SELECT DISTINCT ON (guest_id) id FROM virtuozo_core.guest_runs LIMIT 5) AND state = 'waiting';
        ANALYZE virtuozo_core.guest_runs";
    sqlx::raw_sql(waiting).execute(&mut *conn).await.unwrap();
    let host: Uuid = sqlx::query_scalar("SELECT host_id FROM virtuozo_core.guest_runs LIMIT 1")
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    let id = "'00000000-0000-0000-0000-000000000000'";
    let statements = [
        (
            "guest_run_take",
            include_str!("../guest_runs/take.sql"),
            vec![id, id],
        ),
        (
            "guest_run_renew",
            <GuestLease as Leased>::RENEWAL,
            vec![id, "1", id],
        ),
        (
            "step_begin",
            include_str!("../steps/begin.sql"),
            vec![id, "1", "'copy'", "NULL"],
        ),
        (
            "guest_run_assignment",
            include_str!("../guest_runs/assignment.sql"),
            vec![id],
        ),
        (
            "guest_run_progress",
            include_str!("../guest_runs/progress.sql"),
            vec![id, "1", "'{}'", "'{}'", "'{}'"],
        ),
        (
            "run_open_on_host",
            include_str!("../run_end/open_on_host.sql"),
            vec![id, id],
        ),
        (
            "guest_run_end",
            include_str!("../guest_runs/end.sql"),
            vec![id, "1", "'failed'", "NULL", "NULL", "true"],
        ),
        ("guest_runs_expire", super::GUEST_RUNS_EXPIRE, vec![]),
        (
            "guest_runs_lost",
            include_str!("guest_runs_lost.sql"),
            vec!["'virtuozo-guest'"],
        ),
        (
            "host_runs_lost",
            include_str!("host_runs_lost.sql"),
            vec!["'virtuozo-host'"],
        ),
        ("jobs_drop", include_str!("jobs_drop.sql"), vec![]),
        ("run_end", include_str!("../run_end/end.sql"), vec![id]),
        (
            "steps_of_attempt",
            include_str!("../steps/of_attempt.sql"),
            vec![id, "1"],
        ),
    ];
    for (name, sql, arguments) in statements {
        let plan = plan(&mut *conn, sql, &arguments).await;
        let by_key = [
            "guest_run_take",
            "guest_run_renew",
            "step_begin",
            "guest_run_assignment",
        ];
        assert!(
            !by_key.contains(&name) || !plan.contains("guest_runs_one_active"),
            "{name} goes through all that is in work:\n{plan}"
        );
        for table in ["guest_runs", "steps", "events", "jobs"] {
            assert!(
                !plan.contains(&format!("Seq Scan on {table}")),
                "{name} reads all of {table}:\n{plan}"
            );
        }
    }
    // What a function does inside does not stand in a plan, so what it reads is counted; often enough that a plan
    // for any host is made.
    let calls = [
        format!("SELECT virtuozo_core.is_on_its_way('virtuozo-guest', {id})"),
        format!(
            "SELECT virtuozo_core.has_purpose('virtuozo-guest', convert_to(format('{{\"guest_run_id\":\"%s\"}}', {id}), 'UTF8'))"
        ),
        format!("SELECT virtuozo_core.admit('{host}', NULL)"),
        format!(
            "SELECT virtuozo_core.step_done({id}, 1, 'copy', '{{}}', 'commit', 'hot', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}')"
        ),
        format!("SELECT virtuozo_core.record_snapshot_obligation({id}, 1, {id}, 'snapshot')"),
    ];
    for call in calls {
        let mut tx = conn.begin().await.unwrap();
        let before = read_whole(&mut tx).await;
        for _ in 0..8 {
            sqlx::query(AssertSqlSafe(call.clone()))
                .execute(&mut *tx)
                .await
                .unwrap();
        }
        assert_eq!(read_whole(&mut tx).await, before, "{call}");
        tx.rollback().await.unwrap();
    }
}

/// How often this transaction has read all of each big table, and gone through all that is in work.
async fn read_whole(conn: &mut PgConnection) -> Vec<(String, i64)> {
    sqlx::query_as(
        "SELECT relname::text, seq_scan FROM pg_stat_xact_user_tables
          WHERE relname IN ('guest_runs', 'steps', 'events', 'jobs')
         UNION ALL
         SELECT 'guest_runs_one_active', pg_stat_get_xact_numscans('virtuozo_core.guest_runs_one_active'::regclass)
          ORDER BY 1",
    )
    .fetch_all(conn)
    .await
    .unwrap()
}

/// How a statement is carried out.
async fn plan(conn: &mut PgConnection, sql: &str, arguments: &[&str]) -> String {
    let arguments = if arguments.is_empty() {
        String::new()
    } else {
        format!("({})", arguments.join(", "))
    };
    let prepare = format!("PREPARE plan AS {sql}");
    sqlx::raw_sql(AssertSqlSafe(prepare))
        .execute(&mut *conn)
        .await
        .unwrap();
    let plan: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(format!("EXPLAIN EXECUTE plan{arguments}")))
            .persistent(false)
            .fetch_all(&mut *conn)
            .await
            .unwrap();
    sqlx::raw_sql("DEALLOCATE plan")
        .execute(&mut *conn)
        .await
        .unwrap();
    plan.join("\n")
}

/// An open run of many guests: a half of them is told, some are to be told, the others wait.
const LARGE_RUN: &str = "
    INSERT INTO virtuozo_core.hosts (id, name, kind) VALUES (md5('host')::uuid, 'alpha', 'workstation');
    INSERT INTO virtuozo_core.guests (id, host_id, locator, name)
    SELECT md5('guest' || n)::uuid, md5('host')::uuid, n || '.vmx', 'guest' || n FROM generate_series(1, 10000) n;
    INSERT INTO virtuozo_core.runs (id, requested_by) VALUES (md5('run')::uuid, 'test');
    INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, state, ended_at)
    VALUES (md5('h')::uuid, md5('run')::uuid, md5('host')::uuid, 'succeeded', now());
    INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, state, ended_at, traced)
    SELECT md5('g' || n)::uuid, md5('run')::uuid, md5('h')::uuid, md5('host')::uuid, md5('guest' || n)::uuid,
           CASE WHEN n <= 5010 THEN 'succeeded' ELSE 'waiting' END, CASE WHEN n <= 5010 THEN now() END, n <= 5000
      FROM generate_series(1, 10000) n;
    ANALYZE virtuozo_core.guest_runs";

#[tokio::test]
async fn guest_runs_to_be_told_are_found_without_reading_the_rest_of_their_run() {
    let db = TestDb::new().await;
    let mut conn = PgConnection::connect(db.url()).await.unwrap();
    sqlx::raw_sql(LARGE_RUN).execute(&mut conn).await.unwrap();
    let sql = include_str!("../traces/guests.sql");
    let plan = plan(&mut conn, sql, &["100", "86400"]).await;
    assert!(plan.contains("guest_runs_untraced"), "{plan}");
    let told = traces::guests_to_export(&db.pool, 100).await.unwrap();
    assert_eq!(told.len(), 10);
}

#[tokio::test]
async fn a_row_that_is_pruned_is_found_by_index_in_every_table_that_refers_to_it() {
    let db = TestDb::new().await;
    let without: Vec<String> = sqlx::query_scalar(
        "SELECT format('%s (%s)', c.conrelid::regclass, a.attname)
           FROM pg_constraint c
           JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
          WHERE c.contype = 'f'
            AND c.confrelid IN ('virtuozo_core.runs'::regclass, 'virtuozo_core.host_runs'::regclass,
                                'virtuozo_core.guest_runs'::regclass)
            AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1])",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    assert_eq!(without, Vec::<String>::new());
}

#[tokio::test]
async fn history_ends_by_age_but_not_while_something_is_still_to_be_undone() {
    let db = TestDb::new().await;
    settings::set(
        &db.pool,
        &[("history_keep_days", "30"), ("event_keep_days", "30")],
    )
    .await
    .unwrap();
    let rows = "
        INSERT INTO virtuozo_core.hosts (id, name, kind) VALUES (md5('host')::uuid, 'alpha', 'workstation');
        INSERT INTO virtuozo_core.guests (id, host_id, locator, name)
        VALUES (md5('guest')::uuid, md5('host')::uuid, 'a.vmx', 'a');
        INSERT INTO virtuozo_core.runs (id, requested_by, state, created_at, ended_at)
        SELECT md5(name)::uuid, name, CASE WHEN name = 'open' THEN 'running' ELSE 'failed' END,
               now() - interval '40 days', CASE WHEN name <> 'open' THEN now() - days * interval '1 day' END
          FROM (VALUES ('old', 31), ('young', 29), ('owes', 31), ('open', 0)) AS r (name, days);
        INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, state, ended_at)
        VALUES (md5('h')::uuid, md5('owes')::uuid, md5('host')::uuid, 'succeeded', now());
        INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, state, ended_at)
        VALUES (md5('g')::uuid, md5('owes')::uuid, md5('h')::uuid, md5('host')::uuid, md5('guest')::uuid, 'failed', now());
        INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, guest_run_fence)
        VALUES (md5('o')::uuid, 'power_on', md5('host')::uuid, md5('guest')::uuid, md5('g')::uuid, 1);
        INSERT INTO virtuozo_core.events (at, code, severity, message)
        VALUES (now() - interval '31 days', 200, 'info', 'old'), (now(), 200, 'info', 'young')";
    sqlx::raw_sql(rows).execute(&db.pool).await.unwrap();
    while prune(&db.pool).await.unwrap() {}
    let runs: Vec<String> =
        sqlx::query_scalar("SELECT requested_by FROM virtuozo_core.runs ORDER BY 1")
            .fetch_all(&db.pool)
            .await
            .unwrap();
    assert_eq!(runs, ["open", "owes", "young"]);
    let events: Vec<String> = sqlx::query_scalar(
        "SELECT message FROM virtuozo_core.events WHERE message IN ('old', 'young')",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    assert_eq!(events, ["young"]);
}
