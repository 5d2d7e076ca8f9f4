//! What the views show, to whom, and the queries that the documents show.

use super::*;

/// Guest, last error, trace id and waiting reason of a job.
type Row = (
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

#[tokio::test]
async fn jobs_are_shown_with_their_payload_decoded_even_if_it_cannot_be() {
    let db = site().await;
    execute(&db.pool, ALIVE).await;
    let mut tx = db.pool.begin().await.unwrap();
    for guest_run_id in [
        md5(&db.pool, "admitted").await,
        md5(&db.pool, "failed").await,
    ] {
        virtuozo_queue::push(&mut tx, &[GuestJob { guest_run_id }], 0)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    execute(
        &db.pool,
        r"ALTER TABLE apalis.jobs DISABLE TRIGGER virtuozo_guard;
          INSERT INTO apalis.jobs (job_type, id, job) VALUES ('virtuozo-guest', apalis.generate_ulid(), '\xff00')",
    )
    .await;
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT host || '/' || guest, last_error, trace_id, waiting_reason FROM virtuozo.jobs ORDER BY guest NULLS LAST",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    let rows: Vec<Vec<&str>> = rows
        .iter()
        .map(|(a, b, c, d)| [a, b, c, d].map(|x| x.as_deref().unwrap_or("-")).to_vec())
        .collect();
    let trace: String = sqlx::query_scalar("SELECT DISTINCT trace_id FROM virtuozo.guest_runs")
        .fetch_one(&db.pool)
        .await
        .unwrap();
    let trace = trace.as_str();
    assert_eq!(
        rows,
        [
            vec![
                "alpha/admitted",
                "-",
                trace,
                "has a slot; the next worker with room for its host takes it"
            ],
            vec!["alpha/failed", "the disk is broken", trace, "-"],
            vec!["-", "-", "-", "its payload cannot be read"],
        ]
    );
}

#[tokio::test]
async fn the_columns_of_the_views_are_those_that_were_promised() {
    let db = TestDb::new().await;
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::text, string_agg(column_name, ' ' ORDER BY ordinal_position)
           FROM information_schema.columns WHERE table_schema = 'virtuozo' GROUP BY 1 ORDER BY 1",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    let promised = [
        (
            "events",
            "id at severity code message host guest run_id guest_run_id detail trace_id",
        ),
        (
            "guest_runs",
            "id run_id host guest state mode step waiting_reason worker fence lease_until attempts crashes \
                        last_error error_class run_after cancel_requested bytes_total bytes_copied progress_at \
                        created_at started_at ended_at restore_point verified_at trace_id",
        ),
        (
            "guests",
            "id host guest ignored state state_reason power checked_at last_point_at last_point \
                    last_point_verified_at last_run_state last_error",
        ),
        (
            "hook_runs",
            "id run_id guest_run_id host guest moment outcome command state attempts process machine exit_code error \
             created_at started_at ended_at",
        ),
        (
            "hooks",
            "host guest moment command limit_secs on_failure updated_at",
        ),
        (
            "hosts",
            "id name kind address ignored state state_reason checked_at paused_since slots slots_taken guests_waiting \
             down_since failed_probes next_probe_at paused_by",
        ),
        (
            "jobs",
            "id queue status payload run_id host_run_id guest_run_id host guest step attempts last_error trace_id \
                  waiting_reason deliveries run_at claimed_at worker done_at needs_kind needs_locations",
        ),
        ("nodes", "host node slots slots_taken guests_waiting"),
        (
            "notices",
            "id kind channel run_id state folded_into held attempts run_after sent_to refused_to last_error created_at ended_at",
        ),
        (
            "obligations",
            "id kind host guest snapshot_name guest_run_id run_id in_work attempts next_attempt_at \
                         last_error created_at",
        ),
        (
            "rpo",
            "id host guest locator rpo_secs last_point_at age_secs exceeded",
        ),
        (
            "runs",
            "id state requested_by schedule due_at cancel_requested error created_at ended_at duration hosts_open \
                  hosts_failed guests guests_open guests_succeeded guests_failed guests_skipped guests_cancelled bytes_copied trace_id",
        ),
        ("stuck", "kind id host guest since reason advice"),
        (
            "workers",
            "id kind name machine pid version state started_at heartbeat_at stopped_at silent_secs guest_runs host_runs \
             leads",
        ),
    ];
    assert_eq!(columns.len(), promised.len(), "{columns:?}");
    for ((view, columns), (name, start)) in columns.iter().zip(promised) {
        assert_eq!(view, name);
        // Later versions may add columns, at the end.
        assert!(
            format!("{columns} ").starts_with(&format!("{start} ")),
            "{view}: {columns}"
        );
    }
}

#[tokio::test]
async fn the_functions_are_those_that_were_promised_and_not_for_everybody() {
    let db = TestDb::new().await;
    let functions = "SELECT string_agg(format('%s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)), ', ' ORDER BY p.proname)
                       FROM pg_proc p WHERE p.pronamespace = 'virtuozo'::regnamespace";
    assert_eq!(
        text(&db.pool, functions).await,
        "cancel(run_or_guest_run_id uuid), forgive(obligation_id uuid, reason text), pause(host_or_all text), \
         requeue(guest_run_id uuid), resume(host_or_all text), retry_failed(run_id uuid)"
    );
    let rights = "SELECT string_agg(DISTINCT has_function_privilege('virtuozo_operator', p.oid, 'EXECUTE') || ' '
                                          || has_function_privilege('virtuozo_read', p.oid, 'EXECUTE'), ', ')
                    FROM pg_proc p WHERE p.pronamespace = 'virtuozo'::regnamespace";
    assert_eq!(text(&db.pool, rights).await, "true false");
}

#[tokio::test]
async fn every_kind_of_standstill_is_shown_and_a_healthy_site_shows_none() {
    let db = site().await;
    execute(&db.pool, ALIVE).await;
    let kinds = "SELECT coalesce(string_agg(kind, ' ' ORDER BY kind), '') FROM virtuozo.stuck";
    assert_eq!(text(&db.pool, kinds).await, "");
    server_is_up(&db.pool, true).await;
    execute(
        &db.pool,
        "UPDATE virtuozo_core.workers SET heartbeat_at = now() - interval '1 minute';
         UPDATE virtuozo_core.guest_runs SET step = 'copy', lease_until = now() - interval '1 minute',
                progress_at = now() - interval '1 hour' WHERE state = 'running';
         UPDATE virtuozo_core.guest_runs SET admitted_at = now() - interval '1 hour' WHERE state = 'admitted';
         UPDATE virtuozo_core.host_runs SET state = 'queued', ended_at = NULL, run_after = now() - interval '1 hour';
         INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, guest_run_fence, attempts, last_error)
         SELECT id, 'power_on', host_id, guest_id, id, 1, 3, 'refused' FROM virtuozo_core.guest_runs WHERE state = 'failed'",
    )
    .await;
    assert_eq!(
        text(&db.pool, kinds).await,
        "admitted copy host lease no_scheduler no_worker obligation"
    );
    let moved_on =
        "SELECT kind || ': ' || reason FROM virtuozo.stuck WHERE kind IN ('copy', 'verify')";
    assert!(
        text(&db.pool, moved_on)
            .await
            .starts_with("copy: its copy has not moved on for 01:00")
    );
    let reads_back = "UPDATE virtuozo_core.guest_runs SET step = 'verify' WHERE state = 'running'";
    execute(&db.pool, reads_back).await;
    assert!(
        text(&db.pool, moved_on)
            .await
            .starts_with("verify: its verification has not moved on for 01:00")
    );
    // A verification that has just begun, after a commit that took long.
    execute(
        &db.pool,
        "INSERT INTO virtuozo_core.steps (guest_run_id, fence, name) SELECT id, fence, 'verify' FROM virtuozo_core.guest_runs
          WHERE state = 'running'",
    )
    .await;
    let count = "SELECT count(*)::text FROM virtuozo.stuck WHERE kind IN ('copy', 'verify')";
    assert_eq!(text(&db.pool, count).await, "0");
    let since_its_begin = "UPDATE virtuozo_core.steps SET started_at = now() - interval '11 minutes' WHERE name = 'verify'";
    execute(&db.pool, since_its_begin).await;
    assert_eq!(text(&db.pool, count).await, "1");
    execute(
        &db.pool,
        "UPDATE virtuozo_core.guest_runs SET step = 'copy' WHERE state = 'running'",
    )
    .await;
    // Right after a start of the server nobody has been able to say anything.
    server_is_up(&db.pool, false).await;
    assert_eq!(text(&db.pool, kinds).await, "admitted copy host obligation");
}

/// Whether the server counts as up for a lease; that of the tests may have been started just now.
async fn server_is_up(pool: &PgPool, long: bool) {
    let sql = format!(
        "CREATE OR REPLACE FUNCTION virtuozo_core.is_settled() RETURNS boolean LANGUAGE plpgsql STABLE
         AS $$ BEGIN RETURN {long}; END $$"
    );
    execute(pool, &sql).await;
}

#[tokio::test]
async fn notices_that_were_given_up_are_stuck_until_they_are_sent_again_or_a_week_is_over() {
    let db = site().await;
    execute(&db.pool, ALIVE).await;
    execute(
        &db.pool,
        "UPDATE virtuozo_core.notice_settings
            SET mail_host = 'mail', mail_from = 'a@example.org', mail_to = '{b@example.org}', webhook_url = 'http://localhost/hook'",
    )
    .await;
    execute(
        &db.pool,
        "INSERT INTO virtuozo_core.notices (id, kind, channel, due_at, state, last_error, ended_at)
         SELECT gen_random_uuid(), kind, channel, CASE kind WHEN 'digest' THEN now() - age END, state, error,
                CASE state WHEN 'failed' THEN now() - age END
           FROM (VALUES ('digest', 'mail', 'failed', 'no route', interval '2 days'),
                        ('digest', 'mail', 'failed', 'login refused', interval '1 day'),
                        ('digest', 'mail', 'failed', 'years ago', interval '8 days'),
                        ('test', 'mail', 'failed', 'only a test', interval '1 hour'),
                        ('digest', 'webhook', 'failed', 'answers 404', interval '3 days'),
                        ('digest', 'webhook', 'waiting', 'answers 503', interval '1 day')) n (kind, channel, state, error, age)",
    )
    .await;
    let stuck = "SELECT coalesce(string_agg(format('%s: %s (%s), %s', kind, reason, date_trunc('hour', now() - since), advice), E'\n' ORDER BY since DESC), '')
                   FROM virtuozo.stuck";
    assert_eq!(
        text(&db.pool, stuck).await,
        "notice: 2 notices by mail could not be sent: login refused (2 days), mend the cause, which \
         virtuozo notice test mail tries out; virtuozo notice retry sends again\n\
         notice: a notice by webhook could not be sent: answers 404 (3 days), mend the cause, which \
         virtuozo notice test webhook tries out; virtuozo notice retry sends again"
    );
    crate::notices::retry(&db.pool).await.unwrap();
    assert_eq!(text(&db.pool, stuck).await, "");
}

async fn as_role(conn: &mut PgConnection, role: &str, sql: &str) -> Result<(), String> {
    for (statement, must) in [(format!("SET ROLE {role}"), true), (sql.to_owned(), false)] {
        if let Err(e) = sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut *conn)
            .await
        {
            assert!(!must, "{e}");
            sqlx::raw_sql("RESET ROLE")
                .execute(&mut *conn)
                .await
                .unwrap();
            return Err(e.to_string());
        }
    }
    sqlx::raw_sql("RESET ROLE")
        .execute(&mut *conn)
        .await
        .unwrap();
    Ok(())
}

#[tokio::test]
async fn readers_read_operators_act_and_neither_reaches_the_tables() {
    let db = site().await;
    execute(&db.pool, ALIVE).await;
    let mut conn = db.pool.acquire().await.unwrap();
    let views: Vec<String> = sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.views WHERE table_schema = 'virtuozo'",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    assert!(views.len() >= 9, "{views:?}");
    let act = "SELECT virtuozo.pause('alpha'), virtuozo.resume('alpha'), virtuozo.forgive(md5('failed')::uuid, 'gone'),
                      virtuozo.retry_failed(md5('run')::uuid), virtuozo.requeue(md5('cancelled')::uuid),
                      virtuozo.cancel(md5('run')::uuid)";
    execute(
        &db.pool,
        "INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, guest_run_fence)
         SELECT id, 'power_on', host_id, guest_id, id, 1 FROM virtuozo_core.guest_runs WHERE state = 'failed'",
    )
    .await;
    for role in ["virtuozo_read", "virtuozo_operator"] {
        for view in &views {
            let read = as_role(&mut conn, role, &format!("SELECT * FROM virtuozo.{view}")).await;
            assert_eq!(read, Ok(()), "{role}: {view}");
        }
        for table in [
            "virtuozo_core.hosts",
            "virtuozo_core.settings",
            "apalis.jobs",
        ] {
            let read = as_role(&mut conn, role, &format!("SELECT * FROM {table}")).await;
            assert!(
                read.unwrap_err().contains("permission denied"),
                "{role}: {table}"
            );
        }
    }
    let denied = as_role(&mut conn, "virtuozo_read", act).await.unwrap_err();
    assert!(
        denied.contains("permission denied for function"),
        "{denied}"
    );
    assert_eq!(as_role(&mut conn, "virtuozo_operator", act).await, Ok(()));
}

#[tokio::test]
async fn every_query_of_the_page_on_sql_runs_with_an_operators_rights() {
    let page = include_str!("../../../../../docs/guide/operate-in-sql.md");
    let blocks: Vec<&str> = page
        .split("```sql\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(blocks.len() >= 12, "only {} queries", blocks.len());
    for block in blocks {
        // What one changes, the next must not find changed.
        let db = site().await;
        execute(&db.pool, ALIVE).await;
        let mut conn = db.pool.acquire().await.unwrap();
        let done = as_role(&mut conn, "virtuozo_operator", block).await;
        assert_eq!(done, Ok(()), "{block}");
    }
}
