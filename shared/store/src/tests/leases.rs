//! Leases: each is taken with the next number, and only its owner renews and releases it.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{
    circuit_breakers::{self, BreakerState},
    events::NewEvent,
    guest_runs::GuestLease,
    hooks,
    host_runs::HostLease,
    leadership,
    leases::{self, Fence, Leased, Released, Renewal, TakenByKey},
    notices, obligations,
    requests::{self, RequestLease},
};
use virtuozo_model::{
    Hook, HookMoment, NoticeChannel, NoticeState, OnFailure, RequestKind, Severity, StepName,
};
use virtuozo_postgres::testing::TestDb;
use virtuozo_telemetry::metrics::Metrics;

/// A run, a host with a slot, a guest that waits for it, and an obligation of an earlier run to the guest.
const SITE: &str = "
    UPDATE virtuozo_core.settings SET lease_secs = 77;
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
    VALUES (md5('obligation')::uuid, 'power_on', md5('alpha')::uuid, md5('mail')::uuid, md5('old')::uuid, 1);
    INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version)
    SELECT gen_random_uuid(), k, k, 'here', 1, '1' FROM unnest('{worker,scheduler}'::text[]) k;";

pub(super) async fn site() -> TestDb {
    let db = TestDb::new().await;
    sqlx::raw_sql(SITE).execute(&db.pool).await.unwrap();
    db
}

pub(super) async fn id_of(db: &TestDb, name: &str) -> Uuid {
    sqlx::query_scalar("SELECT md5($1)::uuid")
        .bind(name)
        .fetch_one(&db.pool)
        .await
        .unwrap()
}

/// Who does not have the lease: of another fence, and another owner.
fn others(lease: &impl Leased) -> [(i64, Uuid); 2] {
    [
        (lease.fence() + 1, lease.owner_id()),
        (lease.fence(), Uuid::now_v7()),
    ]
}

/// The lease is renewed as it is, and by nobody else: not under another fence, nor by another owner.
async fn only_the_owner_renews<L: Leased + Clone>(
    db: &TestDb,
    lease: &L,
    change: impl Fn(&mut L, i64, Uuid),
) {
    let renewed: Option<Renewal> = leases::renew(&db.pool, lease).await.unwrap();
    assert!(renewed.is_some(), "its own");
    for (fence, owner_id) in others(lease) {
        let mut other = lease.clone();
        change(&mut other, fence, owner_id);
        let renewed = leases::renew(&db.pool, &other).await.unwrap();
        assert_eq!(renewed, None, "{fence} {owner_id}");
    }
}

/// The columns of a lease; of the end, in how many seconds it is.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
struct Columns {
    fence: i64,
    owner_id: Option<Uuid>,
    secs: Option<f64>,
}

async fn columns(db: &TestDb, table: &str) -> Columns {
    let sql = format!(
        "SELECT fence, owner_id, extract(epoch FROM lease_until - now())::float8 AS secs FROM virtuozo_core.{table}"
    );
    sqlx::query_as(AssertSqlSafe(sql))
        .fetch_one(&db.pool)
        .await
        .unwrap()
}

/// How long the leases of these tests last, but for the lead.
const LEASE_SECS: f64 = 77.0;

/// Taken with the next number, by this owner, until a lease's length from now.
async fn is_taken<L: Leased>(db: &TestDb, table: &str, before: &Columns, lease: &L, length: f64) {
    let now = columns(db, table).await;
    assert_eq!(now.fence, before.fence + 1, "{table}");
    assert_eq!(now.fence, lease.fence(), "{table}");
    assert_eq!(now.owner_id, Some(lease.owner_id()), "{table}");
    let secs = now.secs.expect("it has an end");
    assert!(secs > length - 30.0 && secs <= length, "{table}: {secs}");
    assert_eq!(f64::from(lease.taken().lease_secs), length, "{table}");
}

async fn is_free(db: &TestDb, table: &str, fence: i64) {
    let free = Columns {
        fence,
        owner_id: None,
        secs: None,
    };
    assert_eq!(columns(db, table).await, free, "{table}");
}

/// Nobody releases the lease but its owner, and then it is free.
async fn only_the_owner_releases<L: Released + Clone>(
    db: &TestDb,
    table: &str,
    lease: &L,
    change: impl Fn(&mut L, i64, Uuid),
) {
    only_the_owner_renews(db, lease, &change).await;
    for (fence, owner_id) in others(lease) {
        let mut other = lease.clone();
        change(&mut other, fence, owner_id);
        let released = leases::release(&db.pool, &other).await.unwrap();
        assert_eq!(released, Fence::Lost, "{table}: {fence} {owner_id}");
    }
    let held = columns(db, table).await;
    assert_eq!(held.owner_id, Some(lease.owner_id()), "{table}");
    let released = leases::release(&db.pool, lease).await.unwrap();
    assert_eq!(released, Fence::Held, "{table}");
    is_free(db, table, lease.fence()).await;
    assert_eq!(leases::renew(&db.pool, lease).await.unwrap(), None);
    let again = leases::release(&db.pool, lease).await.unwrap();
    assert_eq!(again, Fence::Lost, "{table}");
}

/// What is taken by its key: with the next number each time, and put back by its owner only.
async fn taken_and_put_back<L: TakenByKey + Clone>(db: &TestDb, table: &str, key: Uuid) -> L {
    let (owner_id, other) = (Uuid::now_v7(), Uuid::now_v7());
    for _ in 0..2 {
        let before = columns(db, table).await;
        let taken = leases::take::<L>(&db.pool, key, owner_id).await.unwrap();
        let lease = taken.expect("it is due");
        is_taken(db, table, &before, &lease, LEASE_SECS).await;
        assert_eq!(lease.owner_id(), owner_id);
        let taken = leases::take::<L>(&db.pool, key, other).await.unwrap();
        assert!(taken.is_none(), "{table} is taken twice");
        leases::put_back::<L>(&db.pool, key, other).await.unwrap();
        let held = columns(db, table).await;
        assert_eq!(held.owner_id, Some(owner_id), "{table}");
        leases::put_back::<L>(&db.pool, key, owner_id)
            .await
            .unwrap();
        is_free(db, table, lease.fence()).await;
    }
    let taken = leases::take::<L>(&db.pool, key, owner_id).await.unwrap();
    taken.expect("it was put back")
}

async fn execute(db: &TestDb, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&db.pool)
        .await
        .unwrap_or_else(|e| panic!("{e}: {sql}"));
}

#[tokio::test]
async fn the_lease_of_a_guest_run_is_taken_and_put_back_and_begins_with_the_first_step() {
    let db = site().await;
    execute(
        &db,
        "DELETE FROM virtuozo_core.obligations;
         DELETE FROM virtuozo_core.guest_runs WHERE state <> 'waiting';
         UPDATE virtuozo_core.guest_runs SET state = 'admitted', admitted_at = now()",
    )
    .await;
    let key = id_of(&db, "run").await;
    let lease: GuestLease = taken_and_put_back(&db, "guest_runs", key).await;
    only_the_owner_renews(&db, &lease, |other, fence, owner_id| {
        (other.fence, other.owner_id) = (fence, owner_id);
    })
    .await;
    let step: Vec<(String, String)> = sqlx::query_as(
        "SELECT g.step, s.name FROM virtuozo_core.guest_runs g JOIN virtuozo_core.steps s ON s.guest_run_id = g.id",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    let first = StepName::FIRST.as_str().to_owned();
    assert_eq!(step, [(first.clone(), first)]);
}

#[tokio::test]
async fn the_lease_of_a_host_run_is_taken_put_back_renewed_and_released_by_its_owner_only() {
    let db = site().await;
    execute(
        &db,
        "DELETE FROM virtuozo_core.obligations; DELETE FROM virtuozo_core.guest_runs;
         DELETE FROM virtuozo_core.host_runs WHERE id = md5('old')::uuid;
         UPDATE virtuozo_core.host_runs SET state = 'queued', ended_at = NULL",
    )
    .await;
    let key = id_of(&db, "run").await;
    let lease: HostLease = taken_and_put_back(&db, "host_runs", key).await;
    only_the_owner_releases(&db, "host_runs", &lease, |other, fence, owner_id| {
        (other.fence, other.owner_id) = (fence, owner_id);
    })
    .await;
}

#[tokio::test]
async fn the_lease_of_a_request_is_taken_put_back_renewed_and_released_by_its_owner_only() {
    let db = site().await;
    let new = requests::NewRequest {
        kind: RequestKind::HostTest,
        host_id: id_of(&db, "alpha").await,
        requested_by: "test",
        wanted_secs: 600.0,
    };
    let key = requests::ask(&db.pool, &new).await.unwrap();
    let lease: RequestLease = taken_and_put_back(&db, "requests", key).await;
    only_the_owner_releases(&db, "requests", &lease, |other, fence, owner_id| {
        (other.fence, other.owner_id) = (fence, owner_id);
    })
    .await;
}

#[tokio::test]
async fn the_lease_of_a_hook_run_is_taken_renewed_and_released_by_its_owner_only() {
    let db = site().await;
    let hook = Hook {
        moment: HookMoment::Before,
        command: vec!["/bin/true".to_owned()],
        limit_secs: 60,
        on_failure: OnFailure::Fail,
    };
    hooks::set(&db.pool, None, &hook).await.unwrap();
    execute(&db, "SELECT virtuozo_core.hold_run(md5('run')::uuid)").await;
    let process = "SELECT process FROM virtuozo.hook_runs";
    let process = async || -> Option<String> {
        sqlx::query_scalar(process)
            .fetch_one(&db.pool)
            .await
            .unwrap()
    };
    let scheduler: Uuid =
        sqlx::query_scalar("SELECT id FROM virtuozo_core.workers WHERE kind = 'scheduler'")
            .fetch_one(&db.pool)
            .await
            .unwrap();
    for fence in 0..2 {
        let before = columns(&db, "hook_runs").await;
        assert_eq!(before.fence, fence);
        let taken = hooks::take(&db.pool, hooks::HookScope::Site, scheduler).await;
        let lease = taken.unwrap().expect("it is still to be done");
        is_taken(&db, "hook_runs", &before, &lease, LEASE_SECS).await;
        assert_eq!(process().await.as_deref(), Some("scheduler"));
        only_the_owner_releases(&db, "hook_runs", &lease, |other, fence, owner_id| {
            (other.fence, other.owner_id) = (fence, owner_id);
        })
        .await;
        assert_eq!(process().await, None);
    }
    let taken = hooks::take(&db.pool, hooks::HookScope::Site, scheduler).await;
    let lease = taken.unwrap().expect("it was released");
    let told = NewEvent::user(Severity::Info, "told");
    let ended = hooks::end(&db.pool, &Metrics::default(), &lease, Some(0), None, &told).await;
    assert_eq!(ended.unwrap(), Fence::Held);
    is_free(&db, "hook_runs", lease.fence).await;
    assert_eq!(process().await.as_deref(), Some("scheduler"), "who ran it");
}

#[tokio::test]
async fn the_lease_of_a_notice_is_taken_and_renewed_by_its_owner_only_and_ends_with_the_attempt() {
    let db = site().await;
    let id = notices::test(&db.pool, NoticeChannel::Mail).await.unwrap();
    for state in [NoticeState::Waiting, NoticeState::Sent] {
        let before = columns(&db, "notices").await;
        let taken = notices::take(&db.pool, id, Uuid::now_v7()).await.unwrap();
        let lease = taken.expect("it is due");
        is_taken(&db, "notices", &before, &lease, LEASE_SECS).await;
        only_the_owner_renews(&db, &lease, |other, fence, owner_id| {
            (other.fence, other.owner_id) = (fence, owner_id);
        })
        .await;
        let attempt = notices::Attempt {
            state,
            delay_secs: 0,
            sent_to: Vec::new(),
            refused_to: Vec::new(),
            error: None,
        };
        let ended = notices::end(&db.pool, &lease, &attempt, None)
            .await
            .unwrap();
        assert_eq!(ended, Fence::Held);
        is_free(&db, "notices", lease.fence()).await;
        assert_eq!(leases::renew(&db.pool, &lease).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_claim_and_a_probe_are_taken_renewed_and_released_by_their_owner_only() {
    let db = site().await;
    let (host_id, guest_id) = (id_of(&db, "alpha").await, id_of(&db, "mail").await);
    for _ in 0..2 {
        let before = columns(&db, "obligations").await;
        let claimed = obligations::claim(&db.pool, host_id, guest_id).await;
        let claim = claimed.unwrap().expect("it is due");
        is_taken(&db, "obligations", &before, &claim, LEASE_SECS).await;
        only_the_owner_releases(&db, "obligations", &claim, |other, fence, owner_id| {
            (other.fence, other.owner_id) = (fence, owner_id);
        })
        .await;
    }

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
    for _ in 0..2 {
        let before = columns(&db, "circuit_breakers").await;
        let owner_id = Uuid::now_v7();
        let ask = async |owner_id| {
            let asked = circuit_breakers::ask(&db.pool, host_id, owner_id).await;
            asked.unwrap()
        };
        let asked = ask(owner_id).await;
        let BreakerState::HalfOpen(probe) = asked.clone() else {
            panic!("the pause is over: {asked:?}");
        };
        is_taken(&db, "circuit_breakers", &before, &probe, LEASE_SECS).await;
        assert_eq!(ask(owner_id).await, asked, "asked again, it has its number");
        let other = ask(Uuid::now_v7()).await;
        assert!(matches!(other, BreakerState::Open(_)), "{other:?}");
        only_the_owner_releases(&db, "circuit_breakers", &probe, |other, fence, owner_id| {
            (other.fence, other.owner_id) = (fence, owner_id);
        })
        .await;
    }
}

#[tokio::test]
async fn the_lead_is_taken_by_another_only_when_its_lease_is_over_and_keeps_its_number_for_its_owner()
 {
    let db = site().await;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    let take = async |who| leadership::take(&db.pool, who).await.unwrap();
    let first = take(one).await.expect("nobody leads");
    let none = Columns {
        fence: 0,
        owner_id: None,
        secs: None,
    };
    is_taken(&db, "lead", &none, &first, 8.0).await;
    assert_eq!(take(other).await, None);
    assert_eq!(take(one).await, Some(first), "its own");
    let renewed = leases::renew(&db.pool, &first).await.unwrap();
    assert_eq!(renewed.map(|renewal| renewal.lease_secs), Some(8));
    execute(
        &db,
        "UPDATE virtuozo_core.lead SET lease_until = '1970-01-01Z'",
    )
    .await;
    let before = columns(&db, "lead").await;
    let second = take(other).await.expect("it is over");
    is_taken(&db, "lead", &before, &second, 8.0).await;
    assert_eq!(leases::renew(&db.pool, &first).await.unwrap(), None);
}
