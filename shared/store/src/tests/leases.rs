//! Leases: only the owner renews one, and one that would last for years is over wherever it is asked.

use crate::{
    admission, circuit_breakers, hooks, host_runs,
    leases::{self, Leased, Renewal},
    obligations, operators, sweeps,
};
use uuid::Uuid;
use virtuozo_model::{Hook, HookMoment, OnFailure};
use virtuozo_postgres::testing::TestDb;
use virtuozo_telemetry::metrics::Metrics;

/// A run, a host with a slot, a guest that waits for it, and something that the guest is owed by an earlier run.
const SITE: &str = "
    INSERT INTO virtuozo_core.runs (id, requested_by) VALUES (md5('old')::uuid, 'test'), (md5('run')::uuid, 'test');
    INSERT INTO virtuozo_core.hosts (id, name, kind) VALUES (md5('alpha')::uuid, 'alpha', 'esxi');
    SELECT virtuozo_core.sync_slots(NULL);
    INSERT INTO virtuozo_core.guests (id, host_id, locator, name)
    VALUES (md5('mail')::uuid, md5('alpha')::uuid, 'mail.vmx', 'mail');
    INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, state, ended_at)
    SELECT id, id, md5('alpha')::uuid, 'succeeded', now() FROM virtuozo_core.runs;
    INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, state, ended_at)
    SELECT id, id, id, md5('alpha')::uuid, md5('mail')::uuid,
           CASE id WHEN md5('old')::uuid THEN 'failed' ELSE 'waiting' END, CASE id WHEN md5('old')::uuid THEN now() END
      FROM virtuozo_core.runs;
    INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, guest_run_fence)
    VALUES (md5('owed')::uuid, 'power_on', md5('alpha')::uuid, md5('mail')::uuid, md5('old')::uuid, 1);
    INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version)
    SELECT gen_random_uuid(), k, k, 'here', 1, '1' FROM unnest('{worker,scheduler}'::text[]) k;";

async fn site() -> TestDb {
    let db = TestDb::new().await;
    sqlx::raw_sql(SITE).execute(&db.pool).await.unwrap();
    db
}

async fn id_of(db: &TestDb, name: &str) -> Uuid {
    sqlx::query_scalar("SELECT md5($1)::uuid")
        .bind(name)
        .fetch_one(&db.pool)
        .await
        .unwrap()
}

/// The lease is renewed as it is, and by nobody else: not under another fence, nor by another owner.
async fn only_the_owner_renews<L: Leased + Clone>(
    db: &TestDb,
    lease: &L,
    change: impl Fn(&mut L, i64, Uuid),
) {
    let renewed: Option<Renewal> = leases::renew(&db.pool, lease).await.unwrap();
    assert!(renewed.is_some(), "its own");
    let changes = [
        (lease.fence() + 1, lease.owner_id()),
        (lease.fence(), Uuid::now_v7()),
    ];
    for (fence, owner_id) in changes {
        let mut other = lease.clone();
        change(&mut other, fence, owner_id);
        let renewed = leases::renew(&db.pool, &other).await.unwrap();
        assert_eq!(renewed, None, "{fence} {owner_id}");
    }
}

#[tokio::test]
async fn the_lease_of_a_host_run_is_renewed_by_its_owner_only() {
    let db = site().await;
    let host_run_id = id_of(&db, "run").await;
    sqlx::query(
        "UPDATE virtuozo_core.host_runs SET state = 'queued', ended_at = NULL WHERE id = $1",
    )
    .bind(host_run_id)
    .execute(&db.pool)
    .await
    .unwrap();
    let taken = host_runs::take(&db.pool, host_run_id, Uuid::now_v7()).await;
    let lease = taken.unwrap().expect("it is due");
    only_the_owner_renews(&db, &lease, |other, fence, owner_id| {
        (other.fence, other.owner_id) = (fence, owner_id);
    })
    .await;
}

#[tokio::test]
async fn the_lease_of_a_hook_run_is_renewed_by_its_owner_only() {
    let db = site().await;
    let hook = Hook {
        moment: HookMoment::Before,
        command: vec!["/bin/true".to_owned()],
        limit_secs: 60,
        on_failure: OnFailure::Fail,
    };
    hooks::set(&db.pool, None, &hook).await.unwrap();
    sqlx::query("SELECT virtuozo_core.hold_run(md5('run')::uuid)")
        .execute(&db.pool)
        .await
        .unwrap();
    let taken = hooks::take(&db.pool, hooks::HookScope::Site, Uuid::now_v7()).await;
    let lease = taken.unwrap().expect("it is owed");
    only_the_owner_renews(&db, &lease, |other, fence, owner_id| {
        (other.fence, other.owner_id) = (fence, owner_id);
    })
    .await;
}

#[tokio::test]
async fn a_claim_and_a_probe_are_renewed_by_their_owner_only() {
    let db = site().await;
    let (host_id, guest_id) = (id_of(&db, "alpha").await, id_of(&db, "mail").await);
    let claimed = obligations::claim(&db.pool, host_id, guest_id).await;
    let claim = claimed.unwrap().expect("it is due");
    only_the_owner_renews(&db, &claim, |other, fence, owner_id| {
        (other.fence, other.owner_id) = (fence, owner_id);
    })
    .await;
    obligations::release(&db.pool, &claim).await.unwrap();
    assert_eq!(leases::renew(&db.pool, &claim).await.unwrap(), None);

    circuit_breakers::open(
        &db.pool,
        &Metrics::default(),
        host_id,
        None,
        "no route",
        false,
        0.0,
    )
    .await
    .unwrap();
    let passage = circuit_breakers::ask(&db.pool, host_id, Uuid::now_v7())
        .await
        .unwrap();
    let circuit_breakers::BreakerState::HalfOpen(probe) = passage else {
        panic!("the pause is over: {passage:?}");
    };
    only_the_owner_renews(&db, &probe, |other, fence, owner_id| {
        (other.fence, other.owner_id) = (fence, owner_id);
    })
    .await;
    let passage = circuit_breakers::ask(&db.pool, host_id, Uuid::now_v7())
        .await
        .unwrap();
    assert!(
        matches!(passage, circuit_breakers::BreakerState::Open(_)),
        "{passage:?}"
    );
}

/// A claim on what the guest is owed that ends so much later than now.
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
    let owed = id_of(&db, "owed").await;
    let refused = operators::forgive(&db.pool, owed, "gone")
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("is at it just now"),
        "{refused}"
    );

    claimed_for(&db, "5 years").await;
    assert!(!in_work(&db).await);
    operators::forgive(&db.pool, owed, "gone").await.unwrap();
}
