//! Fault rules through the C API, and a process that dies at every point of a change of the disks.

use vix::lab::{GuestSpec, LabGuest, Power, Product};
use vix_sys::*;

use crate::common::*;

#[test]
fn rules_make_functions_fail_before_or_after_their_effect() {
    let site = Site::new(Product::WorkstationShared);
    let guest = site.guest(&GuestSpec::new("faulty", two_disks()));
    let host = site.connect();
    let vm = site.open(host, &guest);
    let object = guest.vmx().to_str().unwrap();
    fault(&format!(
        r#"{{"function":"VixVM_CreateSnapshot","object":"{object}","nth":1,"error":13002}}"#
    ));
    fault(&format!(
        r#"{{"function":"VixVM_CreateSnapshot","object":"{object}","nth":1,"when":"after","error":14010,"delay_ms":5}}"#
    ));
    fault(&format!(
        r#"{{"function":"VixVM_GetNamedSnapshot","object":"{object}","first":1,"error":13011}}"#
    ));
    assert_eq!(snapshot(vm, "one"), Err(VIX_E_SNAPSHOT_DISKLIB));
    assert_eq!(guest.snapshots().unwrap(), [""; 0], "before the effect");
    assert_eq!(snapshot(vm, "two"), Err(VIX_E_HOST_TCP_SOCKET_ERROR));
    assert_eq!(guest.snapshots().unwrap(), ["two"], "after the effect");
    assert_eq!(remove(vm, "two"), Err(VIX_E_SNAPSHOT_INCONSISTENT));
    remove(vm, "two").unwrap();

    fault(&format!(
        r#"{{"function":"VixVM_PowerOn","object":"{object}","hang":true}}"#
    ));
    let hangs = vix().power_on(vm, 0);
    snapshot(vm, "meanwhile").unwrap();
    assert_eq!(vix().is_complete(hangs), Ok(false));
    vix().disconnect(host);
}

/// The work of a process that is to die: removes or takes a snapshot as the variables say.
#[test]
#[ignore = "run as a process of its own by the tests below"]
fn change_in_a_process_of_its_own() {
    let text = |name: &str| std::env::var(name).unwrap();
    let host = made(vix().connect(&ConnectArgs {
        provider: VIX_SERVICEPROVIDER_VMWARE_WORKSTATION_SHARED,
        host_name: Some(&c(&text("TEST_URL"))),
        host_port: 0,
        user_name: Some(c"backup"),
        password: Some(c"lab password"),
        options: 0,
    }))
    .unwrap();
    let vm = made(vix().open_vm(host, &c(&text("TEST_PATH")))).unwrap();
    change(vm, &text("TEST_CHANGE"), &text("TEST_NAME")).unwrap();
}

fn change(vm: VixHandle, what: &str, name: &str) -> Result<(), VixError> {
    match what {
        "create" => snapshot(vm, name).map(|_| ()),
        _ => remove(vm, name),
    }
}

/// Lets a process die at a point of a change and then does the same again.
fn die_and_repeat(site: &Site, guest: &LabGuest, what: &str, name: &str, rule: &str) {
    let object = guest.vmx().to_str().unwrap();
    fault(&format!(r#"{{"object":"{object}","crash":true,{rule}}}"#));
    let status = child(
        "crash::change_in_a_process_of_its_own",
        &[
            ("TEST_URL", site.host.url.clone().into()),
            ("TEST_PATH", site.path_of(guest).into()),
            ("TEST_CHANGE", what.into()),
            ("TEST_NAME", name.into()),
        ],
    );
    assert_eq!(status.code(), None, "{rule}: the process was to die");
    let host = site.connect();
    let vm = site.open(host, guest);
    let running = guest.power().unwrap() == Power::On;
    if running {
        writes_go_on(guest, 10);
    }
    let there = |guest: &LabGuest| guest.snapshots().unwrap().contains(&name.to_owned());
    // An unfinished snapshot that is listed is put right by the next one to lock the guest.
    match change(vm, what, name) {
        Ok(()) => {}
        Err(VIX_E_SNAPSHOT_NOTFOUND) if what == "remove" => {}
        Err(error) => panic!("{rule}: {what} again: {error}"),
    }
    if what == "create"
        && guest
            .snapshots()
            .unwrap()
            .iter()
            .filter(|one| *one == name)
            .count()
            == 2
    {
        // It had been finished; the repetition made another of the same name.
        let newest = vix().current_snapshot(vm).unwrap();
        done(vix().remove_snapshot(vm, newest, 0)).unwrap();
    }
    assert_eq!(there(guest), what == "create", "{rule}");
    if running {
        writes_go_on(guest, 10);
    }
    vix().disconnect(host);
}

const CREATE: [&str; 4] = [
    r#""function":"point:begun","nth":1"#,
    r#""function":"point:deltas-made","nth":1"#,
    r#""function":"point:listed","nth":1"#,
    r#""function":"point:committed","nth":1"#,
];

const REMOVE: [&str; 6] = [
    r#""function":"point:begun","nth":1"#,
    r#""function":"point:merged","nth":1"#,
    r#""function":"point:merged","nth":2"#,
    r#""function":"point:before-commit","nth":1"#,
    r#""function":"point:committed","nth":1"#,
    r#""function":"point:unlisted","nth":1"#,
];

fn each_point(power: Power) {
    let site = Site::new(Product::WorkstationShared);
    for (number, rule) in CREATE.into_iter().enumerate() {
        let mut spec = GuestSpec::new(format!("create {number}"), two_disks());
        spec.power = power;
        spec.foreign_snapshots = vec!["foreign".to_owned()];
        let guest = site.guest(&spec);
        let foreign = guest.frozen_disks("foreign").unwrap();
        let foreign_holds = guest.check(&foreign).unwrap();
        die_and_repeat(&site, &guest, "create", "ours", rule);
        let ours = guest.frozen_disks("ours").unwrap();
        let instant = guest.check(&ours).unwrap();
        assert!(instant >= foreign_holds);
        guest.remove_snapshot("ours").unwrap();
        assert_eq!(guest.check(&foreign), Ok(foreign_holds), "{rule}");
        whole(&guest, power, &["foreign"], 2);
    }
    for (number, rule) in REMOVE.into_iter().enumerate() {
        // Removed from the top, and from the middle.
        for name in ["second", "third"] {
            let mut spec = GuestSpec::new(format!("remove {name} {number}"), two_disks());
            spec.power = power;
            spec.foreign_snapshots = ["first", "second", "third"].map(str::to_owned).into();
            let guest = site.guest(&spec);
            let first = guest.frozen_disks("first").unwrap();
            let first_holds = guest.check(&first).unwrap();
            let other = if name == "second" { "third" } else { "second" };
            let other_holds = guest.check(&guest.frozen_disks(other).unwrap()).unwrap();
            die_and_repeat(&site, &guest, "remove", name, rule);
            assert_eq!(guest.check(&first), Ok(first_holds), "{rule}");
            let others = guest.frozen_disks(other).unwrap();
            assert_eq!(guest.check(&others), Ok(other_holds), "{rule}, {name}");
            whole(&guest, power, &["first", other], 4);
        }
    }
}

/// The guest has these snapshots, so many deltas, and disks of one instant.
fn whole(guest: &LabGuest, power: Power, snapshots: &[&str], deltas: usize) {
    if power == Power::On {
        writes_go_on(guest, 10);
        guest.power_off().unwrap();
    }
    let end = guest.check(&guest.current_disks().unwrap()).unwrap();
    if power == Power::On {
        assert_eq!(guest.last_stamp().unwrap(), Some(end));
    }
    assert_eq!(guest.snapshots().unwrap(), snapshots);
    let left = files(guest);
    let is_delta = |name: &&String| name.contains("-00000") && !name.contains("-s0");
    assert_eq!(left.iter().filter(is_delta).count(), deltas, "{left:?}");
    let states = left.iter().filter(|name| name.ends_with(".vmsn")).count();
    assert_eq!(states, snapshots.len(), "{left:?}");
}

#[test]
fn a_death_at_any_point_of_a_change_of_a_running_guest_is_put_right() {
    each_point(Power::On);
}

#[test]
fn a_death_at_any_point_of_a_change_of_a_guest_that_is_off_is_put_right() {
    each_point(Power::Off);
}
