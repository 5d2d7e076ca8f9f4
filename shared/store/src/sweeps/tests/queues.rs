//! Rows in the queues that nobody of ours would have written hold nothing up.

use super::*;
use crate::{notices, obligations, sweeps};

/// Something due in each queue, with its job. Host run and guest run are old enough to be missed.
const DUE: &str = "
    INSERT INTO virtuozo_core.hosts (id, name, kind) VALUES (md5('host')::uuid, 'alpha', 'workstation');
    INSERT INTO virtuozo_core.guests (id, host_id, locator, name)
    SELECT md5(n)::uuid, md5('host')::uuid, n || '.vmx', n FROM unnest(ARRAY['mail', 'web']) n;
    INSERT INTO virtuozo_core.runs (id, requested_by) VALUES (md5('run')::uuid, 'test');
    INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, created_at)
    VALUES (md5('host run')::uuid, md5('run')::uuid, md5('host')::uuid, now() - interval '1 hour');
    INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, state, admitted_at, ended_at)
    SELECT md5(n || ' run')::uuid, md5('run')::uuid, md5('host run')::uuid, md5('host')::uuid, md5(n)::uuid,
           CASE n WHEN 'mail' THEN 'admitted' ELSE 'failed' END, now() - interval '1 hour',
           CASE n WHEN 'web' THEN now() END
      FROM unnest(ARRAY['mail', 'web']) n;
    INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, guest_run_fence)
    VALUES (md5('obligation')::uuid, 'power_on', md5('host')::uuid, md5('web')::uuid, md5('web run')::uuid, 1);
    INSERT INTO virtuozo_core.notices (id, kind, channel, run_id, run_after)
    VALUES (md5('notice')::uuid, 'failure', 'mail', md5('run')::uuid, now() - interval '1 hour');
    SELECT virtuozo_core.push_jobs('virtuozo-host', ARRAY[md5('host run')::uuid], 0);
    SELECT virtuozo_core.push_jobs('virtuozo-guest', ARRAY[md5('mail run')::uuid], 0);
    SELECT virtuozo_core.push_jobs('virtuozo-undo', ARRAY[md5('web')::uuid], 0);
    SELECT virtuozo_core.push_jobs('virtuozo-notice', ARRAY[md5('notice')::uuid], 0)";

async fn due() -> TestDb {
    let db = TestDb::new().await;
    sqlx::raw_sql(DUE).execute(&db.pool).await.unwrap();
    db
}

/// How many jobs of host runs and guest runs, of obligations and of notices are pushed again.
async fn pushed(db: &TestDb) -> (usize, usize, usize) {
    (
        sweeps::push_lost_jobs(&db.pool).await.unwrap(),
        obligations::push_due(&db.pool).await.unwrap(),
        notices::push_lost(&db.pool).await.unwrap(),
    )
}

#[tokio::test]
async fn jobs_that_are_due_or_locked_in_the_far_future_are_pushed_again_and_once() {
    let db = due().await;
    assert_eq!(pushed(&db).await, (0, 0, 0), "all are on their way");
    for by_hand in [
        "run_at = now() + interval '1 year'",
        "status = 'Queued', lock_at = now() + interval '1 year'",
        "status = 'Running', lock_at = '9998-12-31'",
        "status = 'Running', lock_at = now() - interval '1 hour'",
    ] {
        let sql = format!("UPDATE apalis.jobs SET {by_hand} WHERE status = 'Pending'");
        let changed = sqlx::query(AssertSqlSafe(sql))
            .execute(&db.pool)
            .await
            .unwrap();
        assert!(changed.rows_affected() >= 4, "{by_hand}");
        assert_eq!(pushed(&db).await, (2, 1, 1), "{by_hand}");
        assert_eq!(pushed(&db).await, (0, 0, 0), "{by_hand}");
    }
    // What was given back a moment ago is on its way.
    sqlx::query("UPDATE apalis.jobs SET run_at = now() + interval '2 s' WHERE status = 'Pending'")
        .execute(&db.pool)
        .await
        .unwrap();
    assert_eq!(pushed(&db).await, (0, 0, 0));
}

#[tokio::test]
async fn thousands_of_jobs_without_a_purpose_are_dropped_at_once_and_the_next_claim_finds_a_real_one()
 {
    const JUNK: &str = "
        INSERT INTO apalis.jobs (id, job_type, job, status, attempts, max_attempts, run_at, priority)
        SELECT apalis.generate_ulid(), q, convert_to(format('{\"%s\": \"%s\"}', key, CASE n WHEN 1 THEN over ELSE gen_random_uuid() END), 'UTF8'),
               'Pending', 0, 25, now() - interval '1 day', 1000
          FROM (VALUES ('virtuozo-host', 'host_run_id', md5('run')::uuid),
                       ('virtuozo-guest', 'guest_run_id', md5('web run')::uuid),
                       ('virtuozo-undo', 'guest_id', md5('mail')::uuid),
                       ('virtuozo-notice', 'notice_id', md5('run')::uuid)) AS x (q, key, over)
         CROSS JOIN generate_series(1, 5000) n";
    let db = due().await;
    sqlx::raw_sql(JUNK).execute(&db.pool).await.unwrap();
    sqlx::raw_sql(
        "ALTER TABLE apalis.jobs DISABLE TRIGGER virtuozo_guard;
         INSERT INTO apalis.jobs (job_type, id, job, priority)
         SELECT 'virtuozo-guest', apalis.generate_ulid(), '\\xff00', 1000 FROM generate_series(1, 10);
         ALTER TABLE apalis.jobs ENABLE TRIGGER virtuozo_guard",
    )
    .execute(&db.pool)
    .await
    .unwrap();
    assert_eq!(sweeps::drop_jobs(&db.pool).await.unwrap(), 20_010);
    assert_eq!(sweeps::drop_jobs(&db.pool).await.unwrap(), 0);
    for (queue, id) in [
        ("virtuozo-host", "host run"),
        ("virtuozo-guest", "mail run"),
        ("virtuozo-undo", "web"),
        ("virtuozo-notice", "notice"),
    ] {
        let claimed: Vec<(String, Vec<u8>, i32)> =
            sqlx::query_as(include_str!("../../../../queue/src/claim.sql"))
                .bind(None::<String>)
                .bind(queue)
                .bind(1_i64)
                .bind(["", "workstation", "esxi"])
                .bind(Uuid::now_v7())
                .fetch_all(&db.pool)
                .await
                .unwrap();
        let id: Uuid = sqlx::query_scalar("SELECT md5($1)::uuid")
            .bind(id)
            .fetch_one(&db.pool)
            .await
            .unwrap();
        let job = String::from_utf8_lossy(&claimed[0].1).into_owned();
        assert!(job.contains(&id.to_string()), "{queue}: {job}");
    }
    let why: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT last_error FROM virtuozo.jobs WHERE status = 'Killed' AND guest_run_id IS NULL",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    assert!(
        why.len() == 1 && why[0].contains("nothing to do"),
        "{why:?}"
    );
}
