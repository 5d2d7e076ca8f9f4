//! Any order of events keeps the promises of the state machine: slots, fences, ended runs, claims, circuit breakers.

mod circuit_breaker;
mod site;

use proptest::prelude::*;
use uuid::Uuid;

use self::site::Site;
use crate::{
    guest_runs::{self, Ending, GuestLease},
    leases::{self, Fence},
    obligations, steps, sweeps,
};
use virtuozo_model::StepName;
use virtuozo_postgres::testing::TestDb;

#[derive(Debug, Clone)]
enum Op {
    StartRun,
    Take(usize),
    Retry {
        which: usize,
        keep_steps: bool,
    },
    Fail(usize),
    HandOver(usize),
    Publish(usize),
    /// Somebody acts under a lease that was lost.
    ActLate,
    OweSnapshot(usize),
    OwePowerOn(usize),
    Renew(usize),
    Die(usize),
    Cancel(usize),
    Admit,
    ClaimUndo(usize),
    Undo(usize),
    DropClaim(usize),
    SetSlots(usize),
    /// A guest is seen on another node, or on none that is named.
    Move(usize),
    /// Who works on a guest finds that the host does not answer.
    MissHost(usize),
    /// Somebody asks for the host, and it answers.
    AnswerHost,
    /// Somebody asks for the host and is not heard of again.
    ProbeAndVanish,
    /// The pause of the circuit breaker is over, or its prober's lease runs out.
    CircuitBreakerIsDue,
    ProbeNow,
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0..16_usize;
    prop_oneof![
        2 => Just(Op::StartRun),
        8 => n.clone().prop_map(Op::Take),
        2 => (n.clone(), any::<bool>()).prop_map(|(which, keep_steps)| Op::Retry { which, keep_steps }),
        2 => n.clone().prop_map(Op::Fail),
        1 => n.clone().prop_map(Op::HandOver),
        4 => n.clone().prop_map(Op::Publish),
        3 => Just(Op::ActLate),
        3 => n.clone().prop_map(Op::OweSnapshot),
        1 => n.clone().prop_map(Op::OwePowerOn),
        1 => n.clone().prop_map(Op::Renew),
        3 => n.clone().prop_map(Op::Die),
        1 => n.clone().prop_map(Op::Cancel),
        2 => Just(Op::Admit),
        3 => n.clone().prop_map(Op::ClaimUndo),
        2 => n.clone().prop_map(Op::Undo),
        2 => n.clone().prop_map(Op::DropClaim),
        1 => (1..4_usize).prop_map(Op::SetSlots),
        2 => (0..9_usize).prop_map(Op::Move),
        3 => n.clone().prop_map(Op::MissHost),
        2 => Just(Op::AnswerHost),
        1 => Just(Op::ProbeAndVanish),
        3 => Just(Op::CircuitBreakerIsDue),
        1 => Just(Op::ProbeNow),
    ]
}

#[test]
fn any_order_of_events_keeps_the_promises() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let db = runtime.block_on(TestDb::new());
    let config = ProptestConfig {
        cases: 12,
        max_shrink_iters: 30,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(ops in prop::collection::vec(op(), 10..60))| {
        runtime.block_on(async {
            let mut site = Site::new(&db.pool).await;
            site.start_run().await;
            for op in &ops {
                site.apply(op).await;
                site.assert_promises().await;
            }
        });
    });
    drop(db);
}

#[tokio::test]
async fn whoever_has_lost_a_lease_can_change_nothing_while_the_next_owner_works() {
    let db = TestDb::new().await;
    let mut site = Site::new(&db.pool).await;
    site.start_run().await;
    site.apply(&Op::Take(1)).await;
    let first = site.held[0].clone();
    site.apply(&Op::Die(0)).await;
    let again = leases::take::<GuestLease>(&db.pool, first.guest_run_id, Uuid::now_v7())
        .await
        .unwrap();
    let second = again.expect("the run is handed on");
    assert_eq!(second.fence, first.fence + 1);
    assert_eq!(second.attempt_fence, first.fence, "the attempt goes on");
    site.act_late().await;
    let step = steps::begin(&db.pool, &first, StepName::Copy, None)
        .await
        .unwrap();
    assert_eq!(step, Fence::Lost);
    assert_eq!(
        guest_runs::restart(&db.pool, &first).await.unwrap(),
        Fence::Lost
    );
    assert_eq!(
        guest_runs::progress(&db.pool, &first, &[]).await.unwrap(),
        Fence::Lost
    );
    let recorded = obligations::record_snapshot(&db.pool, &first, "s")
        .await
        .unwrap();
    assert_eq!(recorded, None);
    assert!(leases::renew(&db.pool, &second).await.unwrap().is_some());
    assert_eq!(site.publish(&second).await, Fence::Held);
}

#[tokio::test]
async fn a_guest_is_undone_or_in_work_but_never_both() {
    let db = TestDb::new().await;
    let mut site = Site::new(&db.pool).await;
    site.start_run().await;
    site.apply(&Op::Take(1)).await;
    site.apply(&Op::OweSnapshot(0)).await;
    let lease = site.held[0].clone();
    let claim = || obligations::claim(&db.pool, site.host_id, lease.guest_id);
    assert!(claim().await.unwrap().is_none(), "its run is in work");
    // All others go, so that a slot is free for it when it is due again.
    sqlx::query("DELETE FROM virtuozo_core.guest_runs WHERE id <> $1")
        .bind(lease.guest_run_id)
        .execute(&db.pool)
        .await
        .unwrap();
    let later = Ending::Retry {
        delay_secs: 3600.0,
        keep_steps: false,
    };
    assert_eq!(site.end(&lease, &later).await, Fence::Held);
    let claimed = claim().await.unwrap().expect("nobody works on it");
    assert!(claim().await.unwrap().is_none(), "it is claimed already");
    sqlx::query("UPDATE virtuozo_core.guest_runs SET run_after = now()")
        .execute(&db.pool)
        .await
        .unwrap();
    assert_eq!(
        sweeps::admit_all(&db.pool).await.unwrap(),
        0,
        "it is being undone"
    );
    assert_eq!(
        leases::release(&db.pool, &claimed).await.unwrap(),
        Fence::Held
    );
    assert_eq!(sweeps::admit_all(&db.pool).await.unwrap(), 1);
}
