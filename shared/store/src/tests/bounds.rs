//! What is written by hand, or under a wrong clock, is refused or healed.

use crate::leases::{Leased, renew};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{leadership, settings, sweeps};
use virtuozo_postgres::testing::TestDb;
use virtuozo_telemetry::metrics::Metrics;

#[tokio::test]
async fn no_table_takes_an_instant_that_a_program_cannot_read() {
    let db = TestDb::new().await;
    let unbound: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname || '.' || a.attname
           FROM pg_attribute a
           JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'
          WHERE c.relnamespace = 'virtuozo_core'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
            AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype)",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    assert!(
        unbound.is_empty(),
        "they are not of the domain virtuozo_core.instant: {unbound:?}"
    );
    sqlx::query("INSERT INTO virtuozo_core.schedules (id, name, done_until) VALUES (gen_random_uuid(), 'daily', now())")
        .execute(&db.pool)
        .await
        .unwrap();
    for instant in ["infinity", "-infinity", "294000-01-01"] {
        let sql = format!("UPDATE virtuozo_core.schedules SET done_until = '{instant}'");
        let refused = sqlx::query(AssertSqlSafe(sql)).execute(&db.pool).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("instant_is_readable"), "{refused}");
    }
}

#[tokio::test]
async fn a_setting_that_the_database_takes_is_one_that_every_process_can_use() {
    let db = TestDb::new().await;
    for (name, text) in [
        ("daily_start_time", "24:00"),
        ("event_keep_days", "36501"),
        ("history_keep_days", "2147483647"),
    ] {
        assert!(
            settings::set(&db.pool, &[(name, text)]).await.is_err(),
            "{name}"
        );
        let sql = format!("UPDATE virtuozo_core.settings SET {name} = '{text}'");
        let refused = sqlx::query(AssertSqlSafe(sql)).execute(&db.pool).await;
        assert!(refused.is_err(), "{name} by hand");
    }
    let longest = [("event_keep_days", "36500"), ("history_keep_days", "36500")];
    settings::set(&db.pool, &longest).await.unwrap();
    sweeps::prune(&db.pool).await.unwrap();
}

#[tokio::test]
async fn a_lead_that_would_last_for_years_is_taken() {
    let db = TestDb::new().await;
    let (gone, other) = (Uuid::now_v7(), Uuid::now_v7());
    let take = async |id| leadership::take(&db.pool, id).await.unwrap();
    let lead = take(gone).await.unwrap();
    let renewal = renew(&db.pool, &lead).await.unwrap();
    assert_eq!(renewal, Some(lead.taken()));
    assert!(take(other).await.is_none());
    sqlx::query("UPDATE virtuozo_core.lead SET lease_until = now() + interval '1 year'")
        .execute(&db.pool)
        .await
        .unwrap();
    assert!(take(other).await.is_some());
    assert!(take(gone).await.is_none());
    let renewal = renew(&db.pool, &lead).await.unwrap();
    assert_eq!(renewal, None, "the lease is lost");
}

#[tokio::test]
async fn a_lease_that_would_last_for_years_is_over_and_the_longest_one_is_not() {
    let db = TestDb::new().await;
    sqlx::raw_sql(
        "INSERT INTO virtuozo_core.runs (id, requested_by) VALUES (md5('run')::uuid, 'test');
         INSERT INTO virtuozo_core.hosts (id, name, kind)
         SELECT md5(n)::uuid, n, 'esxi' FROM unnest('{longest,beyond}'::text[]) n;
         INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, state, fence, owner_id, lease_until)
         SELECT id, md5('run')::uuid, id, 'running', 1, id,
                now() + CASE name WHEN 'longest' THEN interval '1 hour' ELSE interval '1 year' END
           FROM virtuozo_core.hosts;
         INSERT INTO virtuozo_core.guests (id, host_id, locator, name)
         SELECT id, id, name, name FROM virtuozo_core.hosts;
         INSERT INTO virtuozo_core.guest_runs
                (id, run_id, host_run_id, host_id, guest_id, state, fence, owner_id, lease_until, admitted_at)
         SELECT id, run_id, id, host_id, host_id, 'running', 1, owner_id, lease_until, now() FROM virtuozo_core.host_runs;",
    )
    .execute(&db.pool)
    .await
    .unwrap();
    let hosts = sweeps::expire_host_runs(&db.pool, &Metrics::default())
        .await
        .unwrap();
    let guests = sweeps::expire_guest_runs(&db.pool, &Metrics::default())
        .await
        .unwrap();
    let names = |expired: Vec<sweeps::Expired>| -> Vec<String> {
        expired.into_iter().map(|e| e.name).collect()
    };
    assert_eq!(names(hosts), ["beyond"]);
    assert_eq!(names(guests), ["beyond/beyond"]);
}
