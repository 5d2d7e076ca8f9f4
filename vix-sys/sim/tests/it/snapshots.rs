//! Snapshots through the C API: instants of a writing guest, the tree, and merging.

use vix::lab::{DiskSpec, GuestSpec, Power, Product};
use vix_sys::*;

use crate::common::*;

fn names(handles: &[VixHandle]) -> Vec<String> {
    handles
        .iter()
        .map(|handle| {
            vix()
                .string_property(*handle, VIX_PROPERTY_SNAPSHOT_DISPLAYNAME)
                .unwrap()
        })
        .collect()
}

#[test]
fn a_snapshot_of_a_writing_guest_freezes_one_instant_over_all_kinds_of_disks() {
    let site = Site::new(Product::WorkstationShared);
    let mut spec = GuestSpec::new("busy", four_disks());
    spec.power = Power::On;
    spec.writes_per_second = Some(4000);
    let guest = site.guest(&spec);
    let before = files(&guest);
    let host = site.connect();
    let vm = site.open(host, &guest);
    let mut last = 0;
    for round in 0..4 {
        writes_go_on(&guest, 40);
        let name = format!("round {round}");
        let handle = snapshot(vm, &name).unwrap();
        vix().release(handle);
        let frozen = guest.frozen_disks(&name).unwrap();
        let instant = guest.check(&frozen).unwrap();
        assert!(instant > last, "{instant} after {last}");
        writes_go_on(&guest, 40);
        assert_eq!(guest.check(&frozen), Ok(instant), "the frozen disks stay");
        assert_ne!(frozen, guest.current_disks().unwrap());
        remove(vm, &name).unwrap();
        assert_eq!(files(&guest), before, "nothing of the snapshot stays");
        last = instant;
    }
    done(vix().power_off(vm, 0)).unwrap();
    let end = guest.check(&guest.current_disks().unwrap()).unwrap();
    assert_eq!(guest.last_stamp().unwrap(), Some(end));
    vix().disconnect(host);
}

#[test]
fn snapshots_are_found_by_name_and_path_and_children_move_up_when_one_is_removed() {
    let site = Site::new(Product::Esxi);
    let mut spec = GuestSpec::new("tree", two_disks());
    spec.foreign_snapshots = vec!["a".to_owned(), "b".to_owned(), "same".to_owned()];
    let guest = site.guest(&spec);
    let host = site.connect();
    let vm = site.open(host, &guest);
    let top = snapshot(vm, "same").unwrap();
    let named = |name: &str| vix().named_snapshot(vm, &c(name));
    assert_eq!(
        named("same").map_err(code),
        Err(VIX_E_SNAPSHOT_NONUNIQUE_NAME)
    );
    assert_eq!(named("absent").map_err(code), Err(VIX_E_SNAPSHOT_NOTFOUND));
    assert_eq!(named(r"a/b\same").map_err(code), Err(VIX_E_INVALID_ARG));
    let lower = named("a/b/same").unwrap();
    assert!(named(r"a\b\same\same").is_ok());

    assert_eq!(vix().root_snapshot_count(vm), Ok(1));
    let root = vix().root_snapshot(vm, 0).unwrap();
    let b = vix().child(root, 0).unwrap();
    assert_eq!(names(&[root, b, lower, top]), ["a", "b", "same", "same"]);
    assert_eq!(vix().parent(root), Ok(0));
    assert_eq!(
        vix().child(root, 1).map_err(code),
        Err(VIX_E_SNAPSHOT_NOTFOUND)
    );
    let current = vix().current_snapshot(vm).unwrap();
    let text = |handle| vix().string_property(handle, VIX_PROPERTY_SNAPSHOT_DESCRIPTION);
    assert_eq!(text(current).unwrap(), "made by a test");

    let newest = guest.check(&guest.current_disks().unwrap()).unwrap();
    let b_holds = guest.check(&guest.frozen_disks("b").unwrap()).unwrap();
    // The root and then one in the middle; the views of all others stay.
    done(vix().remove_snapshot(vm, root, 0)).unwrap();
    assert_eq!(vix().parent(b), Ok(0), "b is the root now");
    assert_eq!(guest.check(&guest.frozen_disks("b").unwrap()), Ok(b_holds));
    done(vix().remove_snapshot(vm, lower, 0)).unwrap();
    assert_eq!(guest.snapshots().unwrap(), ["b", "same"]);
    assert_eq!(guest.check(&guest.frozen_disks("b").unwrap()), Ok(b_holds));
    assert_eq!(
        guest.check(&guest.frozen_disks("same").unwrap()),
        Ok(newest)
    );
    assert_eq!(guest.check(&guest.current_disks().unwrap()), Ok(newest));
    assert_eq!(vix().child_count(b), Ok(1));
    assert_eq!(
        vix()
            .string_property(lower, VIX_PROPERTY_SNAPSHOT_DISPLAYNAME)
            .map_err(code),
        Err(VIX_E_SNAPSHOT_NOTFOUND),
        "a handle to a removed snapshot"
    );

    done(vix().remove_snapshot(vm, b, VIX_SNAPSHOT_REMOVE_CHILDREN)).unwrap();
    assert_eq!(guest.snapshots().unwrap(), [""; 0]);
    assert_eq!(guest.check(&guest.current_disks().unwrap()), Ok(newest));
    let left = files(&guest);
    assert!(!left.iter().any(|name| name.contains("-00000")), "{left:?}");
    assert_eq!(
        vix().current_snapshot(vm).map_err(code),
        Err(VIX_E_SNAPSHOT_NOTFOUND)
    );
    vix().disconnect(host);
}

#[test]
fn vmware_server_keeps_one_snapshot_and_a_second_takes_its_place() {
    let site = Site::new(Product::Server2);
    let mut spec = GuestSpec::new("one", two_disks());
    spec.foreign_snapshots = vec!["precious".to_owned()];
    spec.power = Power::On;
    let guest = site.guest(&spec);
    let host = site.connect();
    let vm = site.open(host, &guest);
    let features = vix()
        .int_property(vm, VIX_PROPERTY_VM_SUPPORTED_FEATURES)
        .unwrap();
    assert_eq!(features & VIX_VM_SUPPORT_MULTIPLE_SNAPSHOTS, 0);
    snapshot(vm, "ours").unwrap();
    assert_eq!(guest.snapshots().unwrap(), ["ours"]);
    guest.check(&guest.frozen_disks("ours").unwrap()).unwrap();
    vix().disconnect(host);
}

#[test]
fn independent_disks_forbid_snapshots_of_a_running_guest_only() {
    let site = Site::new(Product::WorkstationShared);
    let mut disks = two_disks();
    disks.push(DiskSpec {
        independent: true,
        ..DiskSpec::new(
            "scsi0:3",
            virtuozo_disk::vmdk::DiskKind::MonolithicSparse,
            MIB,
        )
    });
    let guest = site.guest(&GuestSpec::new("apart", disks));
    let host = site.connect();
    let vm = site.open(host, &guest);
    snapshot(vm, "while off").unwrap();
    assert_eq!(guest.frozen_disks("while off").unwrap().len(), 2);
    remove(vm, "while off").unwrap();
    done(vix().power_on(vm, 0)).unwrap();
    assert_eq!(snapshot(vm, "x"), Err(VIX_E_SNAPSHOT_INDEPENDENTDISK));
    let memory = vix().create_snapshot(vm, c"x", c"", VIX_SNAPSHOT_INCLUDE_MEMORY);
    assert_eq!(made(memory), Err(VIX_E_SNAPSHOT_MEMORY_ON_INDEPENDENT_DISK));
    assert_eq!(guest.snapshots().unwrap(), [""; 0]);
    vix().disconnect(host);
}

#[test]
fn a_snapshot_with_memory_has_a_memory_file_that_goes_with_it() {
    let site = Site::new(Product::WorkstationShared);
    let mut spec = GuestSpec::new("memory", two_disks());
    spec.power = Power::On;
    let guest = site.guest(&spec);
    let host = site.connect();
    let vm = site.open(host, &guest);
    let job = vix().create_snapshot(vm, c"m", c"", VIX_SNAPSHOT_INCLUDE_MEMORY);
    made(job).unwrap();
    for file in ["memory-Snapshot1.vmsn", "memory-Snapshot1.vmem"] {
        assert!(files(&guest).contains(&file.to_owned()), "{file}");
    }
    remove(vm, "m").unwrap();
    assert!(!files(&guest).iter().any(|name| name.contains("Snapshot")));
    vix().disconnect(host);
}
