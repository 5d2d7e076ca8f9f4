//! Power through the C API: the guest process, its locks and its writes.

use vix::lab::{GuestSpec, LabGuest, Power, Product};
use vix_sys::*;

use crate::common::*;

fn power_bits(vm: VixHandle) -> i32 {
    vix().int_property(vm, VIX_PROPERTY_VM_POWER_STATE).unwrap()
}

#[test]
fn a_guest_runs_writes_and_stops_with_all_its_writes_on_disk() {
    let site = Site::new(Product::WorkstationShared);
    let guest = site.guest(&GuestSpec::new("mail", four_disks()));
    let host = site.connect();
    let vm = site.open(host, &guest);
    assert_eq!(power_bits(vm), VIX_POWERSTATE_POWERED_OFF);
    assert_eq!(done(vix().power_off(vm, 0)), Err(VIX_E_VM_NOT_RUNNING));
    let early = guest.check(&guest.current_disks().unwrap()).unwrap();

    done(vix().power_on(vm, 0)).unwrap();
    assert_eq!(
        power_bits(vm),
        VIX_POWERSTATE_POWERED_ON | VIX_POWERSTATE_TOOLS_RUNNING
    );
    assert!(vix().bool_property(vm, VIX_PROPERTY_VM_IS_RUNNING).unwrap());
    assert_eq!(done(vix().power_on(vm, 0)), Err(VIX_E_VM_IS_RUNNING));
    done(vix().wait_for_tools(vm, 5)).unwrap();
    let held = [
        "mail.vmdk.lck",
        "mail.vmx.lck",
        "mail_1.vmdk.lck",
        "mail_2.vmdk.lck",
        "mail_3.vmdk.lck",
    ];
    assert_eq!(locks(&guest), held);
    writes_go_on(&guest, 50);

    done(vix().power_off(vm, VIX_VMPOWEROP_FROM_GUEST)).unwrap();
    assert_eq!(power_bits(vm), VIX_POWERSTATE_POWERED_OFF);
    assert_eq!(locks(&guest), [""; 0]);
    let last = guest.check(&guest.current_disks().unwrap()).unwrap();
    assert_eq!(guest.last_stamp().unwrap(), Some(last));
    assert!(last >= early + 50);
    vix().disconnect(host);
}

#[test]
fn a_guest_without_tools_is_only_powered_off_hard() {
    let site = Site::new(Product::Esxi);
    let mut spec = GuestSpec::new("bare", two_disks());
    spec.tools = false;
    spec.power = Power::On;
    let guest = site.guest(&spec);
    let host = site.connect();
    let vm = site.open(host, &guest);
    assert_eq!(power_bits(vm), VIX_POWERSTATE_POWERED_ON);
    assert_eq!(
        done(vix().wait_for_tools(vm, 1)),
        Err(VIX_E_TIMEOUT_WAITING_FOR_TOOLS)
    );
    assert_eq!(
        done(vix().power_off(vm, VIX_VMPOWEROP_FROM_GUEST)),
        Err(VIX_E_TOOLS_NOT_RUNNING)
    );
    done(vix().power_off(vm, 0)).unwrap();
    vix().disconnect(host);
}

#[test]
fn a_soft_power_off_that_the_guest_ignores_ends_when_it_is_powered_off_hard() {
    let site = Site::new(Product::Server2);
    let mut spec = GuestSpec::new("stubborn", two_disks());
    spec.ignore_shutdown = true;
    spec.power = Power::On;
    let guest = site.guest(&spec);
    let host = site.connect();
    let vm = site.open(host, &guest);
    let soft = vix().power_off(vm, VIX_VMPOWEROP_FROM_GUEST);
    writes_go_on(&guest, 20);
    assert_eq!(vix().is_complete(soft), Ok(false));
    assert_eq!(code(vix().job_error(soft)), VIX_E_UNFINISHED_JOB);
    done(vix().power_off(vm, 0)).unwrap();
    done(soft).unwrap();
    vix().disconnect(host);
}

#[test]
fn a_killed_guest_is_off_and_goes_on_from_its_highest_write() {
    let site = Site::new(Product::WorkstationShared);
    let mut spec = GuestSpec::new("crash", two_disks());
    spec.power = Power::On;
    let guest = site.guest(&spec);
    let host = site.connect();
    let vm = site.open(host, &guest);
    writes_go_on(&guest, 30);
    guest.kill().unwrap();
    eventually("the dead guest is off", || {
        power_bits(vm) == VIX_POWERSTATE_POWERED_OFF
    });
    assert!(!locks(&guest).is_empty(), "its locks stay behind");
    let disks = guest.current_disks().unwrap();
    let at_death = guest.check(&disks).unwrap();
    done(vix().power_on(vm, 0)).unwrap();
    writes_go_on(&guest, 30);
    done(vix().power_off(vm, 0)).unwrap();
    assert!(guest.check(&disks).unwrap() >= at_death + 30);
    assert_eq!(locks(&guest), [""; 0]);
    vix().disconnect(host);
}

#[test]
fn a_suspended_guest_keeps_a_state_file_until_it_is_resumed() {
    let site = Site::new(Product::Workstation);
    let mut spec = GuestSpec::new("sleepy", two_disks());
    spec.power = Power::On;
    let guest = site.guest(&spec);
    let host = site.connect();
    let vm = site.open(host, &guest);
    done(vix().suspend(vm)).unwrap();
    assert_eq!(power_bits(vm), VIX_POWERSTATE_SUSPENDED);
    let state_file = "sleepy-suspend.vmss".to_owned();
    assert!(files(&guest).contains(&state_file));
    assert_eq!(done(vix().power_off(vm, 0)), Err(VIX_E_VM_NOT_RUNNING));
    done(vix().power_on(vm, 0)).unwrap();
    assert!(!files(&guest).contains(&state_file));
    done(vix().power_off(vm, 0)).unwrap();
    vix().disconnect(host);
}

#[test]
fn a_guest_outlives_the_process_that_powered_it_on() {
    let site = Site::new(Product::WorkstationShared);
    let guest = site.guest(&GuestSpec::new("orphan", two_disks()));
    let status = child(
        "power::power_on_in_a_process_of_its_own",
        &[
            ("TEST_URL", site.host.url.clone().into()),
            ("TEST_PATH", site.path_of(&guest).into()),
        ],
    );
    assert!(status.success());
    assert_eq!(guest.power().unwrap(), Power::On);
    writes_go_on(&guest, 20);
    // This process sees and stops what the other one started.
    let host = site.connect();
    let vm = site.open(host, &guest);
    snapshot(vm, "from another process").unwrap();
    guest
        .check(&guest.frozen_disks("from another process").unwrap())
        .unwrap();
    done(vix().power_off(vm, 0)).unwrap();
    vix().disconnect(host);
}

#[test]
#[ignore = "run as a process of its own by the test above"]
fn power_on_in_a_process_of_its_own() {
    let text = |name: &str| c(&std::env::var(name).unwrap());
    let host = made(vix().connect(&ConnectArgs {
        provider: VIX_SERVICEPROVIDER_VMWARE_WORKSTATION_SHARED,
        host_name: Some(&text("TEST_URL")),
        host_port: 0,
        user_name: Some(c"backup"),
        password: Some(c"lab password"),
        options: 0,
    }))
    .unwrap();
    let vm = made(vix().open_vm(host, &text("TEST_PATH"))).unwrap();
    done(vix().power_on(vm, 0)).unwrap();
}

#[test]
fn a_lab_stops_all_its_guests_when_it_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let lab = vix::lab::Lab::create(dir.path()).unwrap();
    let mut guests: Vec<LabGuest> = Vec::new();
    for product in [Product::Workstation, Product::Server2] {
        let spec = vix::lab::HostSpec::new(format!("h{}", guests.len()), product);
        let mut guest = GuestSpec::new("one", two_disks());
        guest.power = Power::On;
        guests.push(lab.host(&spec).unwrap().guest(&guest).unwrap());
    }
    assert!(guests.iter().all(|guest| guest.power() == Ok(Power::On)));
    drop(lab);
    assert!(guests.iter().all(|guest| guest.power() == Ok(Power::Off)));
}
