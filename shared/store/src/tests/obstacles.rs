//! Who may go, and why not: what admission does, in both of its ways, is what everybody is told.

use sqlx::{AssertSqlSafe, PgConnection};
use virtuozo_postgres::testing::TestDb;

use crate::admission;

/// A host with two slots, a guest run that waits for one of them, and another guest that is not in work.
const SITE: &str = "
    INSERT INTO virtuozo_core.runs (id, requested_by) VALUES (md5('old')::uuid, 'test'), (md5('run')::uuid, 'test');
    INSERT INTO virtuozo_core.hosts (id, name, kind) VALUES (md5('alpha')::uuid, 'alpha', 'esxi');
    SELECT virtuozo_core.sync_slots(NULL);
    INSERT INTO virtuozo_core.guests (id, host_id, locator, name)
    SELECT md5(n)::uuid, md5('alpha')::uuid, n, n FROM unnest('{mail,web}'::text[]) n;
    INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, state, ended_at)
    SELECT id, id, md5('alpha')::uuid, 'succeeded', now() FROM virtuozo_core.runs;
    INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, state)
    VALUES (md5('mail run')::uuid, md5('run')::uuid, md5('run')::uuid, md5('alpha')::uuid, md5('mail')::uuid, 'waiting');
    INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version)
    SELECT gen_random_uuid(), k, k, 'here', 1, '1' FROM unnest('{worker,scheduler}'::text[]) k;";

const BREAKER: &str = "INSERT INTO virtuozo_core.circuit_breakers (host_id, failed_probes, error, open_until, owner_id, lease_until)";
const OTHER: &str = "INSERT INTO virtuozo_core.guest_runs
    (id, run_id, host_run_id, host_id, guest_id, state, admitted_at, owner_id, lease_until, created_at)";

/// What is changed, and what is said of the guest run then; nothing: it may go.
fn situations() -> Vec<(String, Option<&'static str>)> {
    let host = "md5('alpha')::uuid";
    let other = |guest: &str, rest: &str| {
        format!(
            "{OTHER} VALUES (md5('other')::uuid, md5('old')::uuid, md5('old')::uuid, {host}, md5('{guest}')::uuid, {rest})"
        )
    };
    let claimed = |until: &str| {
        let old = other("mail", "'waiting', NULL, NULL, NULL, now()");
        format!(
            "{old}; UPDATE virtuozo_core.guest_runs SET state = 'failed', ended_at = now() WHERE id = md5('other')::uuid;
             INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, guest_run_fence, owner_id, lease_until)
             VALUES (md5('obligation')::uuid, 'power_on', {host}, md5('mail')::uuid, md5('other')::uuid, 1, md5('worker')::uuid, {until})"
        )
    };
    let hour = "now() + interval '1 hour'";
    let ago = "now() - interval '1 hour'";
    vec![
        ("SELECT 1".into(), None),
        (
            "UPDATE virtuozo_core.settings SET paused_at = now()".into(),
            Some("is paused with all others"),
        ),
        (
            "UPDATE virtuozo_core.hosts SET paused_at = now()".into(),
            Some("its host is paused"),
        ),
        (
            format!("{BREAKER} VALUES ({host}, 1, 'no route', {hour}, NULL, NULL)"),
            Some("next probe at"),
        ),
        (
            format!("{BREAKER} VALUES ({host}, 1, 'no route', {ago}, md5('worker')::uuid, {hour})"),
            Some("it is being probed"),
        ),
        (
            format!(
                "{BREAKER} VALUES ({host}, 1, 'no route', {ago}, md5('worker')::uuid, now() + interval '5 years')"
            ),
            None,
        ),
        (
            format!("{BREAKER} VALUES ({host}, 1, 'no route', {ago}, NULL, NULL)"),
            None,
        ),
        (
            format!(
                "{BREAKER} VALUES ({host}, 1, 'no route', {ago}, NULL, NULL); {}",
                other("web", "'admitted', now(), NULL, NULL, now()")
            ),
            Some("a guest is on its way"),
        ),
        (
            format!("UPDATE virtuozo_core.guest_runs SET run_after = {hour}"),
            Some("its next attempt begins at"),
        ),
        // Who is due is asked in three places: they agree to the microsecond.
        (
            "UPDATE virtuozo_core.guest_runs SET run_after = now() + interval '1 microsecond'"
                .into(),
            Some("its next attempt begins at"),
        ),
        (
            "UPDATE virtuozo_core.guest_runs SET run_after = now()".into(),
            None,
        ),
        (
            other(
                "mail",
                &format!("'running', now(), md5('worker')::uuid, {hour}, now()"),
            ),
            Some("another run works on the guest"),
        ),
        (
            other(
                "web",
                &format!("'running', now(), md5('worker')::uuid, {hour}, now()"),
            ),
            None,
        ),
        (claimed(hour), Some("is being undone")),
        (claimed(ago), None),
        (claimed("now() + interval '5 years'"), None),
        (
            "DELETE FROM virtuozo_core.guest_slots".into(),
            Some("slots of its host are taken"),
        ),
    ]
}

/// What is said of the guest run: by the one function, and to people.
async fn told(tx: &mut PgConnection) -> (Option<String>, String) {
    sqlx::query_as(
        "SELECT virtuozo_core.obstacle(g), virtuozo_core.waiting_reason(g)
           FROM virtuozo_core.guest_runs g WHERE g.id = md5('mail run')::uuid",
    )
    .fetch_one(tx)
    .await
    .unwrap()
}

async fn is_admitted(tx: &mut PgConnection) -> bool {
    sqlx::query_scalar(
        "SELECT state = 'admitted' FROM virtuozo_core.guest_runs WHERE id = md5('mail run')::uuid",
    )
    .fetch_one(tx)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_guest_run_is_admitted_if_and_only_if_nothing_is_said_to_be_in_its_way() {
    let db = TestDb::new().await;
    sqlx::raw_sql(SITE).execute(&db.pool).await.unwrap();
    let no_caps = "SELECT 1";
    let a_cap = "UPDATE virtuozo_core.settings SET fleet_guest_threads = 5";
    for (situation, expected) in situations() {
        for caps in [no_caps, a_cap] {
            let mut tx = db.pool.begin().await.unwrap();
            let change = format!("{caps}; {situation}");
            sqlx::raw_sql(AssertSqlSafe(change.clone()))
                .execute(&mut *tx)
                .await
                .unwrap();
            let (obstacle, reason) = told(&mut tx).await;
            match (expected, &obstacle) {
                (None, None) => {}
                (Some(words), Some(said)) => {
                    assert!(said.contains(words), "{change}: {said}");
                    assert_eq!(&reason, said, "{change}");
                }
                other => panic!("{change}: {other:?}"),
            }
            let hosts: Vec<uuid::Uuid> =
                sqlx::query_scalar(include_str!("../admission/hosts_to_admit.sql"))
                    .fetch_all(&mut *tx)
                    .await
                    .unwrap();
            assert_eq!(hosts.is_empty(), expected.is_some(), "{change}");
            let host = sqlx::query_scalar("SELECT id FROM virtuozo_core.hosts")
                .fetch_one(&mut *tx)
                .await
                .unwrap();
            admission::admit(&mut tx, host).await.unwrap();
            assert_eq!(is_admitted(&mut tx).await, expected.is_none(), "{change}");
            tx.rollback().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_cap_that_is_reached_is_told_and_keeps_the_guest_run_waiting() {
    let db = TestDb::new().await;
    sqlx::raw_sql(SITE).execute(&db.pool).await.unwrap();
    let mut tx = db.pool.begin().await.unwrap();
    let change = format!(
        "UPDATE virtuozo_core.settings SET fleet_guest_threads = 1;
         {OTHER} VALUES (md5('other')::uuid, md5('old')::uuid, md5('old')::uuid, md5('alpha')::uuid, md5('web')::uuid,
                         'admitted', now(), NULL, NULL, now());
         UPDATE virtuozo_core.guest_slots SET guest_run_id = md5('other')::uuid WHERE slot_no = 1"
    );
    sqlx::raw_sql(AssertSqlSafe(change))
        .execute(&mut *tx)
        .await
        .unwrap();
    let (obstacle, reason) = told(&mut tx).await;
    assert_eq!(
        obstacle.as_deref(),
        Some("cap reached: fleet, 1 of 1 guests in work")
    );
    assert_eq!(Some(reason), obstacle);
    let host = sqlx::query_scalar("SELECT id FROM virtuozo_core.hosts")
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    admission::admit(&mut tx, host).await.unwrap();
    assert!(!is_admitted(&mut tx).await);
}

#[tokio::test]
async fn of_two_runs_of_a_guest_the_earlier_one_goes_and_the_other_says_so() {
    let db = TestDb::new().await;
    sqlx::raw_sql(SITE).execute(&db.pool).await.unwrap();
    let mut tx = db.pool.begin().await.unwrap();
    let earlier = format!(
        "{OTHER} VALUES (md5('other')::uuid, md5('old')::uuid, md5('old')::uuid, md5('alpha')::uuid, md5('mail')::uuid,
                         'waiting', NULL, NULL, NULL, now() - interval '1 hour')"
    );
    sqlx::raw_sql(AssertSqlSafe(earlier))
        .execute(&mut *tx)
        .await
        .unwrap();
    let (_, reason) = told(&mut tx).await;
    assert_eq!(reason, "an earlier run of the guest goes first");
    let host = sqlx::query_scalar("SELECT id FROM virtuozo_core.hosts")
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    let admitted = admission::admit(&mut tx, host).await.unwrap();
    assert_eq!(admitted.len(), 1);
    assert!(!is_admitted(&mut tx).await);
}
