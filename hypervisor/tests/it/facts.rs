//! What validation learns about hosts and guests.

use std::{fs, time::Duration};

use virtuozo_hypervisor::{ErrorKind, PowerState, conformance};
use vix::{Product, lab::Broken};

use crate::lab::{TestLab, at, cold_image, guest, guest_ref, two_disks};

#[tokio::test]
async fn a_host_lists_its_datastores_and_guests() {
    let lab = TestLab::new(Product::Server2);
    lab.guest(&two_disks("web"));
    lab.guest(&two_disks("mail"));
    let host = lab.connect("server2").await;
    let facts = host.facts().await.unwrap();
    // Both lists of the host name them, and each is there once.
    let both = vec![guest_ref("mail"), guest_ref("web")];
    assert_eq!(facts.guests, both);
    assert!(facts.guests_are_complete);
    assert_eq!(facts.datastores.keys().collect::<Vec<_>>(), ["standard"]);
    assert!(facts.warnings.is_empty(), "{:?}", facts.warnings);

    fs::write(lab.host.config_dir.join("datastores.xml"), "<not xml").unwrap();
    fs::remove_file(lab.host.config_dir.join("vmInventory.xml")).unwrap();
    let facts = host.facts().await.unwrap();
    // Nobody may conclude that a guest is gone.
    assert!(!facts.guests_are_complete);
    assert_eq!(facts.warnings.len(), 1, "{:?}", facts.warnings);
    assert!(
        facts.warnings[0].contains("datastores.xml"),
        "{:?}",
        facts.warnings
    );
}

#[tokio::test]
async fn a_sound_guest_is_described() {
    let lab = TestLab::new(Product::Esxi);
    let mut spec = two_disks("web");
    spec.foreign_snapshots = vec!["first".into(), "second".into()];
    lab.guest(&spec);
    let host = lab.connect("esxi").await;
    let web = guest(&host, "web").await;
    let facts = web.facts().await.unwrap();
    assert_eq!(facts.problem, None);
    assert_eq!(facts.name, "web");
    assert_eq!(facts.power, PowerState::Off);
    assert!(!facts.tools_running);
    assert_eq!(facts.snapshots, ["first", "second"]);
    let disks: Vec<_> = facts
        .disks
        .iter()
        .map(|disk| {
            (
                disk.device.as_str(),
                disk.capacity_bytes,
                disk.snapshots,
                disk.problem.clone(),
            )
        })
        .collect();
    assert_eq!(
        disks,
        [
            ("scsi0:0", Some(4 * crate::lab::MIB), true, None),
            ("scsi0:1", Some(3 * crate::lab::MIB), true, None),
        ]
    );
    web.power_on(Duration::from_secs(60)).await.unwrap();
    let facts = web.facts().await.unwrap();
    assert_eq!(facts.power, PowerState::On);
    assert!(facts.tools_running);
}

#[tokio::test]
async fn what_is_broken_is_said_where_it_belongs() {
    let lab = TestLab::new(Product::Esxi);
    for (name, broken) in [
        ("truncated", Broken::TruncatedDisk),
        ("missing", Broken::MissingDisk),
        ("config", Broken::BrokenVmx),
        ("cid", Broken::WrongCid),
    ] {
        let mut spec = two_disks(name);
        spec.broken = Some(broken);
        lab.guest(&spec);
    }
    let host = lab.connect("esxi").await;
    for name in ["truncated", "missing", "cid"] {
        let guest = guest(&host, name).await;
        let facts = guest.facts().await.unwrap();
        let problem = facts.disks[0].problem.clone();
        assert!(
            problem.is_some_and(|problem| problem.message.contains(name)),
            "{name}: {facts:?}"
        );
        assert_eq!(facts.disks[1].problem, None, "{name}");
        assert_eq!(facts.problem, None, "{name}");
        match cold_image(guest.as_ref(), &[]).await {
            Err(error) => assert_eq!(error.kind, ErrorKind::GuestInvalid, "{name}: {error}"),
            // What is cut off shows when it is read, at the latest.
            Ok(image) => assert!(
                conformance::an_image_is_well_made(&image).is_err(),
                "{name}"
            ),
        }
        // The sound disk alone can be backed up.
        cold_image(guest.as_ref(), &["scsi0:0".into()])
            .await
            .unwrap();
    }
    let facts = guest(&host, "config").await.facts().await.unwrap();
    assert!(
        facts
            .problem
            .is_some_and(|problem| problem.message.contains("config.vmx"))
    );
}

#[tokio::test]
async fn an_unmapped_datastore_is_a_problem_with_a_hint() {
    let lab = TestLab::new(Product::Esxi);
    lab.guest(&two_disks("web"));
    let mut target = lab.target("esxi");
    target.properties.clear();
    let host = virtuozo_hypervisor::Connector::connect(&lab.connector(), &target)
        .await
        .unwrap();
    let web = guest(&host, "web").await;
    let problem = web.facts().await.unwrap().problem.unwrap();
    assert!(
        problem
            .message
            .contains("virtuozo datastore map alpha standard"),
        "{problem:?}"
    );
    let error = cold_image(web.as_ref(), &[]).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::NotMapped);

    target.datastores = lab.host.datastores.iter().cloned().collect();
    let host = virtuozo_hypervisor::Connector::connect(&lab.connector(), &target)
        .await
        .unwrap();
    let facts = guest(&host, "web").await.facts().await.unwrap();
    assert_eq!((facts.problem, facts.disks.len()), (None, 2));
}

#[tokio::test]
async fn a_workstation_lists_only_what_runs_by_host_path() {
    let lab = TestLab::new(Product::Workstation);
    let web = lab.guest(&two_disks("web"));
    let host = lab.connect("workstation").await;
    let facts = host.facts().await.unwrap();
    assert!(facts.guests.is_empty());
    assert!(!facts.guests_are_complete);
    let reference = at(web.vmx().to_str().unwrap());
    let guest = host.guest(&reference).await.unwrap();
    assert_eq!(guest.facts().await.unwrap().problem, None);
    guest.power_on(Duration::from_secs(60)).await.unwrap();
    assert_eq!(host.facts().await.unwrap().guests, [reference]);
}
