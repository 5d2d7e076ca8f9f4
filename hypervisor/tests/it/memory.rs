//! Holds the hypervisor in memory against the port: what VIX cannot do is tried here.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use virtuozo_hypervisor::{
    Connector, Connectors, ErrorClass, ErrorKind, Guest, GuestRef, Host, HostTarget, Locator,
    PowerOff, PowerState, conformance,
    testing::{ChangeTracking, FakeConnector, World, path, pattern},
};

const LIMIT: Duration = Duration::from_secs(60);

fn target(kind: &str) -> HostTarget {
    HostTarget {
        name: "lab".into(),
        kind: kind.into(),
        address: None,
        user: None,
        password: None,
        properties: BTreeMap::new(),
        datastores: BTreeMap::new(),
        file_silence: Duration::from_secs(60),
    }
}

/// A world with one running guest of two disks.
async fn site(tracking: ChangeTracking) -> (Arc<World>, Arc<dyn Host>, Arc<dyn Guest>) {
    let world = Arc::new(World::tracking(tracking));
    world.add("web", PowerState::On);
    world.with("web", |guest| {
        guest.disks.insert("disk1".into(), pattern(9));
        guest.snapshot("theirs");
    });
    let host = FakeConnector::new(Arc::clone(&world))
        .connect(&target("memory"))
        .await
        .unwrap();
    let guest = GuestRef::at(Locator::new(path("web")).unwrap());
    let guest = host.guest(&guest).await.unwrap();
    (world, host, guest)
}

#[tokio::test]
async fn a_guest_in_memory_goes_through_all_operations() {
    let (_, host, guest) = site(ChangeTracking::None).await;
    conformance::power_operations_are_idempotent(&*guest)
        .await
        .unwrap();
    conformance::a_guest_is_frozen_and_released_by_exact_names(&*guest)
        .await
        .unwrap();
    conformance::a_hot_image_is_consistent(&*guest, async |_| Ok(()))
        .await
        .unwrap();
    conformance::unknown_changes_have_a_reason(&*guest)
        .await
        .unwrap();
    conformance::a_cold_image_needs_a_guest_that_is_off(&*guest, async |_| Ok(()))
        .await
        .unwrap();
    let how = PowerOff {
        soft_limit: LIMIT,
        hard_limit: LIMIT,
    };
    guest.power_off(how).await.unwrap();
    conformance::ignored_disks_are_left_out(&*guest)
        .await
        .unwrap();
    let nobody = GuestRef::at(Locator::new("nobody").unwrap());
    let another = GuestRef {
        locator: Locator::new(path("web")).unwrap(),
        uuid: Some(uuid::Uuid::from_u128(7)),
    };
    for unknown in [nobody, another] {
        conformance::an_unknown_guest_has_a_problem(&*host, &unknown)
            .await
            .unwrap();
    }
    conformance::a_closed_host_says_so(&*host).await.unwrap();
}

#[tokio::test]
async fn changes_are_followed_whether_the_old_mark_is_named_before_or_after() {
    for tracking in [ChangeTracking::WhenFrozen, ChangeTracking::Afterwards] {
        let (world, _, guest) = site(tracking).await;
        let seed = AtomicU8::new(100);
        conformance::changes_are_reported_from_instant_to_instant(&*guest, async || {
            let seed = seed.fetch_add(1, Ordering::SeqCst);
            world.with("web", |guest| {
                for (number, bytes) in guest.disks.values_mut().enumerate() {
                    let bytes = Arc::make_mut(bytes);
                    bytes[5000 * (number + 1)..][..10].fill(seed);
                    bytes[200_000] = seed;
                }
            });
        })
        .await
        .unwrap_or_else(|error| panic!("{tracking:?}: {error}"));
    }
}

#[tokio::test]
async fn a_guest_is_restored_into_memory() {
    let (_, host, _) = site(ChangeTracking::None).await;
    conformance::a_guest_is_made_written_registered_and_removed(&*host)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_host_is_served_by_the_back_end_for_its_kind_if_the_machine_has_it() {
    let connector = FakeConnector {
        is_usable: Arc::new(AtomicBool::new(false)),
        ..FakeConnector::new(Arc::default())
    };
    let usable = Arc::clone(&connector.is_usable);
    let all = Connectors::new([Arc::new(connector) as Arc<dyn Connector>]);
    let probed = all.probe().await;
    let missing = probed[0].found.clone().unwrap_err();
    assert_eq!(missing.class, ErrorClass::Elsewhere);
    let refused = all.connect(&target("memory")).await.err().unwrap();
    assert_eq!(refused.kind, ErrorKind::LibraryMissing, "{refused}");

    usable.store(true, Ordering::SeqCst);
    assert!(all.probe().await[0].found.is_ok());
    all.connect(&target("memory")).await.unwrap().close().await;

    let unknown = all.connect(&target("of_tomorrow")).await.err().unwrap();
    assert_eq!(unknown.class, ErrorClass::Elsewhere, "{unknown}");
    assert!(unknown.message.contains("of_tomorrow"), "{unknown}");
}
