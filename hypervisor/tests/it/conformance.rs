//! Holds the VIX back end against the port, on simulated hosts.

use virtuozo_hypervisor::{ErrorKind, conformance};
use vix::Product;

use crate::lab::{TestLab, guest, guest_ref, instant_of, two_disks};

const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

#[tokio::test]
async fn a_running_guest_goes_through_all_operations() {
    let lab = TestLab::new(Product::Esxi);
    let mut spec = two_disks("web");
    spec.foreign_snapshots = vec!["before update".into(), "a/b".into()];
    let web = lab.guest(&spec);
    let seed = web.seed().unwrap();
    let host = lab.connect("esxi").await;
    let guest = guest(&host, "web").await;
    guest.power_on(LIMIT).await.unwrap();

    conformance::power_operations_are_idempotent(&*guest)
        .await
        .unwrap();
    conformance::a_guest_is_frozen_and_released_by_exact_names(&*guest)
        .await
        .unwrap();
    conformance::a_hot_image_is_consistent(&*guest, async |image| {
        let last = instant_of(image, seed).unwrap();
        assert!(last > 0, "the guest should have written");
        assert_eq!(image.foreign_snapshots, ["before update", "a/b"]);
        Ok(())
    })
    .await
    .unwrap();
    conformance::unknown_changes_have_a_reason(&*guest)
        .await
        .unwrap();
    conformance::a_cold_image_needs_a_guest_that_is_off(&*guest, async |image| {
        let last = instant_of(image, seed).unwrap();
        assert_eq!(
            Some(last),
            web.last_stamp().unwrap(),
            "a cold image holds all writes"
        );
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(web.snapshots().unwrap(), ["before update", "a/b"]);
    let error = host.restorer().err().unwrap();
    assert_eq!(error.kind, ErrorKind::NotSupported, "{error}");
    conformance::a_closed_host_says_so(&*host).await.unwrap();
}

#[tokio::test]
async fn every_product_takes_and_removes_snapshots() {
    for (product, kind) in [
        (Product::Server2, "server2"),
        (Product::WorkstationShared, "workstation_shared"),
    ] {
        let lab = TestLab::new(product);
        let web = lab.guest(&two_disks("web"));
        let seed = web.seed().unwrap();
        let host = lab.connect(kind).await;
        let guest = guest(&host, "web").await;
        guest.power_on(LIMIT).await.unwrap();
        conformance::a_hot_image_is_consistent(&*guest, async |image| {
            instant_of(image, seed).unwrap();
            Ok(())
        })
        .await
        .unwrap();
        host.close().await;
    }
}

#[tokio::test]
async fn disks_can_be_ignored_and_absent_guests_are_told() {
    let lab = TestLab::new(Product::Esxi);
    lab.guest(&two_disks("web"));
    let host = lab.connect("esxi").await;
    conformance::ignored_disks_are_left_out(&*guest(&host, "web").await)
        .await
        .unwrap();
    conformance::an_unknown_guest_has_a_problem(&*host, &guest_ref("nobody"))
        .await
        .unwrap();
    host.close().await;
}
