//! A lease that would last for years is over wherever it is asked.

use virtuozo_postgres::testing::TestDb;

use super::leases::{id_of, site};
use crate::{admission, operators, sweeps};

/// A claim on the guest's obligation that ends so much later than now.
async fn claimed_for(db: &TestDb, how_long: &str) {
    sqlx::query(
        "UPDATE virtuozo_core.obligations SET owner_id = gen_random_uuid(), lease_until = now() + $1::text::interval",
    )
    .bind(how_long)
    .execute(&db.pool)
    .await
    .unwrap();
}

async fn reason(db: &TestDb) -> String {
    sqlx::query_scalar("SELECT waiting_reason FROM virtuozo.guest_runs WHERE state = 'waiting'")
        .fetch_one(&db.pool)
        .await
        .unwrap()
}

async fn in_work(db: &TestDb) -> bool {
    sqlx::query_scalar("SELECT in_work FROM virtuozo.obligations")
        .fetch_one(&db.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_claim_that_would_last_for_years_keeps_no_guest_from_being_admitted() {
    let db = site().await;
    let host_id = id_of(&db, "alpha").await;
    claimed_for(&db, "1 hour").await;
    assert!(reason(&db).await.contains("is being undone"));
    let hosts = admission::hosts_to_admit(&db.pool).await.unwrap();
    assert!(hosts.is_empty(), "{hosts:?}");
    let mut tx = db.pool.begin().await.unwrap();
    let admitted = admission::admit(&mut tx, host_id).await.unwrap();
    assert!(admitted.is_empty(), "{admitted:?}");
    tx.commit().await.unwrap();

    claimed_for(&db, "5 years").await;
    assert!(reason(&db).await.contains("its turn comes"));
    assert_eq!(
        admission::hosts_to_admit(&db.pool).await.unwrap(),
        [host_id]
    );
    let mut tx = db.pool.begin().await.unwrap();
    let admitted = admission::admit(&mut tx, host_id).await.unwrap();
    assert_eq!(admitted, [id_of(&db, "run").await]);
}

#[tokio::test]
async fn a_claim_that_would_last_for_years_keeps_no_guest_from_being_admitted_under_caps() {
    let db = site().await;
    sqlx::query("UPDATE virtuozo_core.settings SET fleet_guest_threads = 5")
        .execute(&db.pool)
        .await
        .unwrap();
    for (how_long, admitted) in [("1 hour", 0), ("5 years", 1)] {
        claimed_for(&db, how_long).await;
        assert_eq!(sweeps::admit_all(&db.pool).await.unwrap(), admitted);
    }
}

#[tokio::test]
async fn what_is_claimed_for_years_can_be_given_up_and_is_not_shown_as_in_work() {
    let db = site().await;
    sqlx::query("DELETE FROM virtuozo_core.guest_runs WHERE state = 'waiting'")
        .execute(&db.pool)
        .await
        .unwrap();
    claimed_for(&db, "1 hour").await;
    assert!(in_work(&db).await);
    let obligation = id_of(&db, "obligation").await;
    let refused = operators::forgive(&db.pool, obligation, "gone")
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("is at it just now"),
        "{refused}"
    );

    claimed_for(&db, "5 years").await;
    assert!(!in_work(&db).await);
    operators::forgive(&db.pool, obligation, "gone")
        .await
        .unwrap();
}
