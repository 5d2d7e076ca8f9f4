//! Requests: taken once, handed on when their worker dies, ended when nobody waits.

use sqlx::AssertSqlSafe;

use super::*;
use crate::{
    leases::{self, Fence},
    requests::{self, RequestLease},
};
use virtuozo_model::{ErrorClass, RequestKind, RequestState};

async fn asked(db: &TestDb) -> Uuid {
    let host = add_host(db, "alpha").await;
    let new = requests::NewRequest {
        kind: RequestKind::HostTest,
        host_id: host.id,
        requested_by: "test",
        wanted_secs: 60.0,
    };
    requests::ask(&db.pool, &new).await.unwrap()
}

async fn state(db: &TestDb, id: Uuid) -> RequestState {
    let request = requests::get(&db.pool, id).await.unwrap();
    request.expect("the request is there").state
}

async fn set(db: &TestDb, what: &str) {
    let sql = format!("UPDATE virtuozo_core.requests SET {what}");
    sqlx::query(AssertSqlSafe(sql))
        .execute(&db.pool)
        .await
        .unwrap();
}

/// Until a lease counts as lost, which a server that was just started leaves for one more of them.
async fn expired(db: &TestDb) {
    let expiring = async {
        loop {
            set(db, "lease_until = '1970-01-01' WHERE state = 'running'").await;
            if sweeps::expire_requests(&db.pool).await.unwrap() > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), expiring)
        .await
        .expect("the lease counts as lost");
}

#[tokio::test]
async fn a_request_is_taken_once_and_answered_by_who_has_it() {
    let db = TestDb::new().await;
    let id = asked(&db).await;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    let lease = leases::take::<RequestLease>(&db.pool, id, one)
        .await
        .unwrap()
        .unwrap();
    assert!(
        leases::take::<RequestLease>(&db.pool, id, other)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        requests::hand_over(&db.pool, &lease).await.unwrap(),
        Fence::Held
    );
    let taken = leases::take::<RequestLease>(&db.pool, id, other)
        .await
        .unwrap()
        .unwrap();
    let answer = serde_json::json!({"guests": 3});
    let late = requests::succeed(&db.pool, &lease, &answer).await.unwrap();
    assert_eq!(late, Fence::Lost);
    let done = requests::succeed(&db.pool, &taken, &answer).await.unwrap();
    assert_eq!(done, Fence::Held);
    let request = requests::get(&db.pool, id).await.unwrap().unwrap();
    assert_eq!(
        (request.state, request.answer),
        (RequestState::Succeeded, Some(answer))
    );
}

#[tokio::test]
async fn a_request_whose_workers_die_is_handed_on_and_fails_after_too_many() {
    let db = TestDb::new().await;
    sqlx::query("UPDATE virtuozo_core.settings SET lease_secs = 2, max_crashes = 2")
        .execute(&db.pool)
        .await
        .unwrap();
    let id = asked(&db).await;
    for (crash, expected) in [(1, RequestState::Waiting), (2, RequestState::Failed)] {
        let taken = leases::take::<RequestLease>(&db.pool, id, Uuid::now_v7())
            .await
            .unwrap();
        assert!(taken.is_some(), "crash {crash}");
        expired(&db).await;
        assert_eq!(state(&db, id).await, expected, "crash {crash}");
    }
    let request = requests::get(&db.pool, id).await.unwrap().unwrap();
    let why = request.error.unwrap();
    assert!(why.contains("2 workers stopped answering"), "{why}");
    assert_eq!(
        request.error_class.as_deref(),
        Some(ErrorClass::Permanent.as_str())
    );
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_is_neither_begun_nor_kept() {
    let db = TestDb::new().await;
    let id = asked(&db).await;
    let lease = leases::take::<RequestLease>(&db.pool, id, Uuid::now_v7())
        .await
        .unwrap()
        .unwrap();
    requests::cancel(&db.pool, id).await.unwrap();
    assert!(leases::renew(&db.pool, &lease).await.unwrap().is_none());
    let late = requests::fail(&db.pool, &lease, "late", ErrorClass::Retry).await;
    assert_eq!(late.unwrap(), Fence::Lost);

    let again = requests::NewRequest {
        kind: RequestKind::HostCheck,
        host_id: lease.host_id,
        requested_by: "test",
        wanted_secs: 60.0,
    };
    let left = requests::ask(&db.pool, &again).await.unwrap();
    assert_eq!(sweeps::drop_requests(&db.pool).await.unwrap(), 0);
    set(
        &db,
        "wanted_until = now() - interval '1 second' WHERE state = 'waiting'",
    )
    .await;
    assert!(
        leases::take::<RequestLease>(&db.pool, left, Uuid::now_v7())
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(sweeps::drop_requests(&db.pool).await.unwrap(), 1);
    assert_eq!(state(&db, left).await, RequestState::Cancelled);
    // Its job would find nothing to do.
    assert_eq!(sweeps::drop_jobs(&db.pool).await.unwrap(), 2);

    set(&db, "ended_at = now() - interval '2 days'").await;
    sweeps::prune(&db.pool).await.unwrap();
    assert_eq!(requests::get(&db.pool, id).await.unwrap(), None);
}

#[tokio::test]
async fn the_job_of_a_request_that_was_lost_is_pushed_again() {
    let db = TestDb::new().await;
    asked(&db).await;
    assert_eq!(sweeps::push_lost_jobs(&db.pool).await.unwrap(), 0);
    sqlx::query("DELETE FROM apalis.jobs")
        .execute(&db.pool)
        .await
        .unwrap();
    set(&db, "asked_at = now() - interval '10 seconds'").await;
    assert_eq!(sweeps::push_lost_jobs(&db.pool).await.unwrap(), 1);
    assert_eq!(sweeps::push_lost_jobs(&db.pool).await.unwrap(), 0);
}
