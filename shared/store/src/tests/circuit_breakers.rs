//! A host that does not answer, as operators see it and act on it.

use super::*;
use crate::{
    admission,
    circuit_breakers::{self, BreakerState},
    host_runs::{self, HostLease},
    leases, operators, runs,
};
use virtuozo_telemetry::metrics::Metrics;

/// Host alpha with two slots and three waiting guests, and processes that are alive.
const SITE: &str = "
    INSERT INTO virtuozo_core.hosts (id, name, kind) VALUES (md5('alpha')::uuid, 'alpha', 'workstation');
    INSERT INTO virtuozo_core.guest_slots (host_id, slot_no) SELECT md5('alpha')::uuid, generate_series(1, 2);
    INSERT INTO virtuozo_core.runs (id, requested_by) VALUES (md5('run')::uuid, 'test');
    INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, created_at)
    VALUES (md5('host run')::uuid, md5('run')::uuid, md5('alpha')::uuid, now() - interval '1 hour');
    INSERT INTO virtuozo_core.guests (id, host_id, locator, name)
    SELECT md5(n)::uuid, md5('alpha')::uuid, n, n FROM unnest(ARRAY['a', 'b', 'c']) n;
    INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id)
    SELECT g.id, md5('run')::uuid, md5('host run')::uuid, g.host_id, g.id FROM virtuozo_core.guests g;
    INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version)
    SELECT md5(k)::uuid, k, k, 'm', 1, '1' FROM unnest(ARRAY['worker', 'scheduler']) k";

async fn execute(db: &TestDb, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&db.pool).await.unwrap();
}

async fn id(db: &TestDb, of: &str) -> Uuid {
    sqlx::query_scalar("SELECT md5($1)::uuid")
        .bind(of)
        .fetch_one(&db.pool)
        .await
        .unwrap()
}

async fn text(db: &TestDb, sql: &'static str) -> String {
    sqlx::query_scalar(sql).fetch_one(&db.pool).await.unwrap()
}

/// The site after so many failed attempts to connect in a row, the last one a moment ago.
async fn down(attempts: i32) -> (TestDb, Uuid) {
    let db = TestDb::new().await;
    execute(&db, SITE).await;
    let alpha = id(&db, "alpha").await;
    for _ in 0..attempts {
        execute(
            &db,
            "UPDATE virtuozo_core.circuit_breakers SET open_until = now(), lease_until = lease_until - interval '1 hour'",
        )
        .await;
        miss(&db, alpha).await;
    }
    (db, alpha)
}

async fn miss(db: &TestDb, host: Uuid) {
    fail(db, host, "no route", false).await;
}

async fn fail(db: &TestDb, host: Uuid, error: &str, login_refused: bool) {
    let probe = match circuit_breakers::ask(&db.pool, host, Uuid::now_v7())
        .await
        .unwrap()
    {
        BreakerState::Closed => None,
        BreakerState::HalfOpen(probe) => Some(probe),
        BreakerState::Open(down) => panic!("{down}"),
    };
    circuit_breakers::open(
        &db.pool,
        &Metrics::default(),
        host,
        probe.as_ref(),
        error,
        login_refused,
        600.0,
    )
    .await
    .unwrap();
}

async fn is_due_afresh(db: &TestDb) -> bool {
    sqlx::query_scalar(
        "SELECT failed_probes = 0 AND open_until <= now() FROM virtuozo_core.circuit_breakers",
    )
    .fetch_one(&db.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn nothing_of_a_silent_host_is_begun_before_its_time_and_then_by_one() {
    let (db, alpha) = down(1).await;
    let host_run = id(&db, "host run").await;
    let admitted = || async {
        let mut tx = db.pool.begin().await.unwrap();
        let admitted = admission::admit(&mut tx, alpha).await.unwrap().len();
        tx.commit().await.unwrap();
        admitted + sweeps::admit_all(&db.pool).await.unwrap()
    };
    let owe = "INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, guest_run_fence)
               SELECT id, 'power_on', host_id, guest_id, id, 1 FROM virtuozo_core.guest_runs WHERE id <> md5('a')::uuid";
    execute(&db, owe).await;
    for cap in ["", "5"] {
        settings::set(&db.pool, &[("fleet_guest_threads", cap)])
            .await
            .unwrap();
        assert_eq!(admitted().await, 0);
        assert_eq!(obligations::push_due(&db.pool).await.unwrap(), 0);
        assert_eq!(sweeps::push_lost_jobs(&db.pool).await.unwrap(), 0);
        assert_eq!(
            host_runs::host_of_queued(&db.pool, host_run).await.unwrap(),
            None
        );
        let taken = leases::take::<HostLease>(&db.pool, host_run, Uuid::now_v7())
            .await
            .unwrap();
        assert!(taken.is_none());
        let guest = id(&db, "b").await;
        assert_eq!(
            obligations::host_of_obligations(&db.pool, guest)
                .await
                .unwrap(),
            None
        );
    }
    for cap in ["", "5"] {
        settings::set(&db.pool, &[("fleet_guest_threads", cap)])
            .await
            .unwrap();
        execute(
            &db,
            "UPDATE virtuozo_core.circuit_breakers SET open_until = now(), lease_until = lease_until - interval '1 hour'",
        )
        .await;
        let mut tx = db.pool.begin().await.unwrap();
        assert_eq!(
            admission::admit(&mut tx, alpha).await.unwrap().len(),
            1,
            "cap {cap:?}"
        );
        tx.rollback().await.unwrap();
    }
    assert_eq!(obligations::push_due(&db.pool).await.unwrap(), 1);
    assert_eq!(sweeps::push_lost_jobs(&db.pool).await.unwrap(), 1);
    circuit_breakers::close(&db.pool, alpha).await.unwrap();
    assert_eq!(
        text(
            &db,
            "SELECT count(*)::text FROM virtuozo_core.guest_runs WHERE state = 'admitted'"
        )
        .await,
        "2",
        "its slots are taken at once"
    );
    assert_eq!(
        text(&db, "SELECT state FROM virtuozo_core.hosts").await,
        "ok"
    );
}

#[tokio::test]
async fn what_a_silent_host_holds_up_says_so() {
    let (db, alpha) = down(2).await;
    let shown = [
        "SELECT DISTINCT waiting_reason FROM virtuozo.guest_runs",
        "SELECT 'its host ' || state_reason FROM virtuozo.hosts WHERE state = 'unreachable' AND failed_probes = 2
            AND next_probe_at > now() AND down_since <= now()",
        "SELECT 'its host ' || substr(reason, 4) FROM virtuozo.stuck WHERE kind = 'host_down' AND host = 'alpha'",
    ];
    for sql in shown {
        let said = text(&db, sql).await;
        assert!(
            said.starts_with("its host does not answer (attempt 2 of 3 failed at 2")
                && said.contains(": no route); next probe at 2"),
            "{sql}: {said}"
        );
    }
    let run = id(&db, "run").await;
    let lines = views::of_run::<views::GuestRunLine>(&db.pool, run)
        .await
        .unwrap();
    assert!(
        lines
            .iter()
            .all(|line| line.held_reason == line.waiting_reason)
    );
    let lines = views::of_run::<views::HostRunLine>(&db.pool, run)
        .await
        .unwrap();
    assert!(
        lines[0]
            .held_reason
            .as_ref()
            .is_some_and(|why| why.contains("no route"))
    );
    let listed = hosts::list(&db.pool).await.unwrap();
    assert!(
        listed[0]
            .state_reason
            .as_ref()
            .is_some_and(|why| why.contains("next probe at"))
    );

    execute(
        &db,
        "UPDATE virtuozo_core.circuit_breakers SET open_until = now(), lease_until = lease_until - interval '1 hour'",
    )
    .await;
    let reason = "SELECT DISTINCT waiting_reason FROM virtuozo.guest_runs";
    assert!(text(&db, reason).await.ends_with("; a probe is due"));
    let passage = circuit_breakers::ask(&db.pool, alpha, Uuid::now_v7())
        .await
        .unwrap();
    assert!(matches!(passage, BreakerState::HalfOpen(_)));
    assert!(text(&db, reason).await.ends_with("; it is being probed"));
    operators::pause(&db.pool, "alpha").await.unwrap();
    let paused = text(&db, reason).await;
    assert!(paused.starts_with("its host is paused since 2"), "{paused}");
}

#[tokio::test]
async fn a_refused_login_is_told_as_one_until_somebody_gets_in() {
    let (db, alpha) = down(1).await;
    settings::set(&db.pool, &[("max_attempts", "9")])
        .await
        .unwrap();
    let due = "UPDATE virtuozo_core.circuit_breakers SET open_until = now(), lease_until = lease_until - interval '1 hour'";
    execute(&db, due).await;
    fail(&db, alpha, "wrong password", true).await;
    let reason = "SELECT DISTINCT waiting_reason FROM virtuozo.guest_runs";
    let said = text(&db, reason).await;
    assert!(
        said.starts_with("its host refuses the login (attempt 2 of 9 failed at 2")
            && said.contains(": wrong password); next probe at 2"),
        "{said}"
    );
    let advice = "SELECT advice FROM virtuozo.stuck WHERE kind = 'host_down'";
    let said = text(&db, advice).await;
    assert!(said.contains("virtuozo host password alpha"), "{said}");
    let state = "SELECT state FROM virtuozo_core.hosts";
    assert_eq!(text(&db, state).await, "invalid");

    // It may fall silent again, and say no again.
    execute(&db, due).await;
    miss(&db, alpha).await;
    assert!(text(&db, advice).await.starts_with("start the host"));
    assert_eq!(text(&db, state).await, "unreachable");
    execute(&db, due).await;
    fail(&db, alpha, "wrong password", true).await;
    sqlx::query("SELECT virtuozo_core.probe_now($1)")
        .bind(alpha)
        .execute(&db.pool)
        .await
        .unwrap();
    let stands = "SELECT state_reason FROM virtuozo.hosts";
    let said = text(&db, stands).await;
    assert!(said.starts_with("refused the login at 2"), "{said}");
    circuit_breakers::close(&db.pool, alpha).await.unwrap();
    assert_eq!(text(&db, state).await, "ok");
}

#[tokio::test]
async fn what_operators_do_for_a_silent_host_means_now() {
    let (db, alpha) = down(2).await;
    let (run, guest_run) = (id(&db, "run").await, id(&db, "a").await);
    let failed = "UPDATE virtuozo_core.guest_runs SET state = 'failed', ended_at = now() WHERE id = md5('a')::uuid";
    let config = HostConfig::from(hosts::by_id(&db.pool, alpha).await.unwrap());
    for what in [
        "resume",
        "resume all",
        "requeue",
        "retry",
        "edit",
        "password",
    ] {
        match what {
            "resume" => drop(operators::resume(&db.pool, "alpha").await.unwrap()),
            "resume all" => drop(operators::resume(&db.pool, "all").await.unwrap()),
            "requeue" => {
                sqlx::query("SELECT virtuozo.requeue($1)")
                    .bind(guest_run)
                    .execute(&db.pool)
                    .await
                    .unwrap();
            }
            "retry" => {
                execute(&db, failed).await;
                operators::retry_failed(&db.pool, run).await.unwrap();
            }
            "edit" => hosts::update(&db.pool, alpha, &config).await.unwrap(),
            _ => hosts::set_password(&db.pool, alpha, None).await.unwrap(),
        }
        assert!(is_due_afresh(&db).await, "{what}");
        miss(&db, alpha).await;
        assert!(!is_due_afresh(&db).await);
    }
    let why = operators::resume(&db.pool, "beta").await.unwrap_err();
    assert!(why.to_string().contains("there is no host"), "{why}");
    assert!(!is_due_afresh(&db).await, "another host is meant");
}

#[tokio::test]
async fn what_waits_because_a_host_is_paused_does_not_fail_with_it() {
    let (db, alpha) = down(2).await;
    operators::pause(&db.pool, "alpha").await.unwrap();
    execute(
        &db,
        "UPDATE virtuozo_core.circuit_breakers SET open_until = now(), lease_until = lease_until - interval '1 hour'",
    )
    .await;
    miss(&db, alpha).await;
    let open = "SELECT count(*)::text FROM virtuozo_core.guest_runs WHERE state = 'waiting'";
    assert_eq!(text(&db, open).await, "3");
    operators::resume(&db.pool, "alpha").await.unwrap();
    miss(&db, alpha).await;
    assert_eq!(text(&db, open).await, "3", "the count began anew");
    let states = "SELECT r.state || ' ' || h.state FROM virtuozo_core.host_runs h JOIN virtuozo_core.runs r ON r.id = h.run_id";
    assert_eq!(text(&db, states).await, "running queued");
    for _ in 0..2 {
        execute(
            &db,
            "UPDATE virtuozo_core.circuit_breakers SET open_until = now(), lease_until = lease_until - interval '1 hour'",
        )
        .await;
        miss(&db, alpha).await;
    }
    assert_eq!(text(&db, open).await, "0");
    assert_eq!(text(&db, states).await, "failed failed");
    assert!(runs::cancel(&db.pool, id(&db, "run").await).await.is_err());
}
