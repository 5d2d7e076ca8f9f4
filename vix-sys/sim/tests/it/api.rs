//! The C API as such: connections, inventory, handles, jobs, callbacks, properties.

use std::{
    ffi::{CStr, c_char, c_void},
    ptr::{null, null_mut},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use vix::lab::{Broken, GuestSpec, Power, Product};
use vix_sys::*;

use crate::common::*;

#[test]
fn a_connection_needs_the_right_host_login_and_provider() {
    let site = Site::new(Product::Esxi);
    let host = site.connect();
    assert_eq!(vix().handle_type(host), VIX_HANDLETYPE_HOST);
    assert_eq!(vix().int_property(host, VIX_PROPERTY_HOST_HOSTTYPE), Ok(10));
    vix().disconnect(host);
    assert_eq!(vix().handle_type(host), VIX_HANDLETYPE_NONE);
    assert_eq!(
        site.try_connect("backup", "wrong"),
        Err(VIX_E_HOST_USER_PERMISSIONS)
    );
    assert_eq!(
        site.try_connect("who", "lab password"),
        Err(VIX_E_HOST_USER_PERMISSIONS)
    );

    let connect = |provider, url: &str| {
        made(vix().connect(&ConnectArgs {
            provider,
            host_name: Some(&c(url)),
            host_port: 0,
            user_name: Some(c"backup"),
            password: Some(c"lab password"),
            options: 0,
        }))
    };
    assert_eq!(
        connect(11, &site.host.url),
        Err(VIX_E_CANNOT_CONNECT_TO_HOST)
    );
    assert_eq!(
        connect(10, "https://nowhere.lab/sdk"),
        Err(VIX_E_CANNOT_CONNECT_TO_HOST)
    );
    assert_eq!(
        connect(10, "nowhere://x/y"),
        Err(VIX_E_INVALID_HOSTNAME_SPECIFICATION)
    );
}

#[test]
fn a_host_refuses_more_connections_than_it_allows() {
    let site = Site::with(Product::Server2, |spec| spec.max_connections = Some(2));
    let first = site.connect();
    let second = site.connect();
    assert_eq!(
        site.try_connect("backup", "lab password"),
        Err(VIX_E_CANNOT_CONNECT_TO_HOST)
    );
    vix().disconnect(first);
    let third = site.connect();
    vix().disconnect(second);
    vix().disconnect(third);
}

fn found(host: VixHandle, what: VixFindItemType) -> Vec<String> {
    let (job, items) = vix().find_items(host, what);
    let mut paths = Vec::new();
    while let Some(item) = items.next_within(Duration::from_secs(10)) {
        paths.push(item.unwrap());
    }
    done(job).unwrap();
    paths
}

#[test]
fn guests_are_found_and_opened_by_the_paths_of_the_product() {
    for product in [
        Product::Server2,
        Product::WorkstationShared,
        Product::Workstation,
    ] {
        let site = Site::new(product);
        let off = site.guest(&GuestSpec::new("off guest", two_disks()));
        let mut spec = GuestSpec::new("on", two_disks());
        spec.power = Power::On;
        let on = site.guest(&spec);
        let host = site.connect();
        let prefix = if product == Product::Server2 {
            "ha-datacenter/"
        } else {
            ""
        };
        let path = |guest| format!("{prefix}{}", site.path_of(guest));
        assert_eq!(found(host, VIX_FIND_RUNNING_VMS), [path(&on)]);
        if product == Product::Workstation {
            let (job, _items) = vix().find_items(host, VIX_FIND_REGISTERED_VMS);
            assert_eq!(done(job), Err(VIX_E_NOT_SUPPORTED));
        } else {
            assert_eq!(
                found(host, VIX_FIND_REGISTERED_VMS),
                [path(&off), path(&on)]
            );
        }
        let vm = site.open(host, &off);
        assert_eq!(
            vix().string_property(vm, VIX_PROPERTY_VM_NAME).unwrap(),
            "off guest"
        );
        assert_eq!(
            vix()
                .string_property(vm, VIX_PROPERTY_VM_VMX_PATHNAME)
                .unwrap(),
            site.path_of(&off)
        );
        vix().disconnect(host);
    }
}

#[test]
fn only_registered_guests_of_sound_configuration_can_be_opened() {
    let site = Site::new(Product::WorkstationShared);
    let guest = site.guest(&GuestSpec::new("here", two_disks()));
    let mut spec = GuestSpec::new("broken", two_disks());
    spec.broken = Some(Broken::BrokenVmx);
    let broken = site.guest(&spec);
    let host = site.connect();
    let open = |path: &str| made(vix().open_vm(host, &c(path)));
    assert_eq!(
        open(&site.path_of(&broken)),
        Err(VIX_E_CANNOT_READ_VM_CONFIG)
    );
    for path in [
        "[standard] no/no.vmx",
        "[elsewhere] a.vmx",
        "[standard] ../x.vmx",
        guest.vmx().to_str().unwrap(),
    ] {
        assert_eq!(open(path), Err(VIX_E_VM_NOT_FOUND), "{path}");
    }

    let path = c(&site.path_of(&guest));
    done(vix().unregister_vm(host, &path)).unwrap();
    done(vix().unregister_vm(host, &path)).unwrap();
    assert_eq!(open(&site.path_of(&guest)), Err(VIX_E_VM_NOT_FOUND));
    assert_eq!(
        done(vix().register_vm(host, c"[standard] no/no.vmx")),
        Err(VIX_E_NOT_FOUND)
    );
    done(vix().register_vm(host, &path)).unwrap();
    done(vix().register_vm(host, &path)).unwrap();
    let vm = site.open(host, &guest);
    done(vix().power_on(vm, 0)).unwrap();
    assert_eq!(
        done(vix().unregister_vm(host, &path)),
        Err(VIX_E_VM_IS_RUNNING)
    );
    vix().disconnect(host);
}

#[test]
fn broken_disks_are_told_apart_at_power_on() {
    let site = Site::new(Product::Esxi);
    let host = site.connect();
    for (broken, expect) in [
        (Broken::MissingDisk, VIX_E_FILE_NOT_FOUND),
        (Broken::WrongCid, VIX_E_DISK_CID_MISMATCH),
        (Broken::TruncatedDisk, VIX_E_DISK_INVALIDDISK),
    ] {
        let mut spec = GuestSpec::new(format!("{broken:?}"), two_disks());
        spec.broken = Some(broken);
        let guest = site.guest(&spec);
        let vm = site.open(host, &guest);
        assert_eq!(done(vix().power_on(vm, 0)), Err(expect), "{broken:?}");
        assert_eq!(guest.power(), Ok(Power::Off));
    }
    vix().disconnect(host);
}

#[test]
fn handles_are_counted_and_die_with_their_connection() {
    let site = Site::new(Product::Esxi);
    let guest = site.guest(&GuestSpec::new("counted", two_disks()));
    let host = site.connect();
    let vm = site.open(host, &guest);
    assert_eq!(
        site.open(host, &guest),
        vm,
        "the same guest has the same handle"
    );
    vix().release(vm);
    assert_eq!(vix().handle_type(vm), VIX_HANDLETYPE_VM);
    vix().release(vm);
    assert_eq!(vix().handle_type(vm), VIX_HANDLETYPE_NONE);
    assert_eq!(done(vix().power_on(vm, 0)), Err(VIX_E_INVALID_HANDLE));
    assert_eq!(vix().wait(vm), VIX_E_INVALID_HANDLE);
    assert_eq!(
        done(vix().power_on(host, 0)),
        Err(VIX_E_NOT_SUPPORTED_ON_HANDLE_TYPE)
    );
    vix().release(vm);
    vix().release(0);

    let vm = site.open(host, &guest);
    let snapshot = snapshot(vm, "s").unwrap();
    vix().disconnect(host);
    for handle in [host, vm, snapshot] {
        assert_eq!(vix().handle_type(handle), VIX_HANDLETYPE_NONE);
    }
    vix().disconnect(host);
}

#[test]
fn two_connections_see_one_guest_through_different_handles() {
    let site = Site::new(Product::Esxi);
    let guest = site.guest(&GuestSpec::new("shared", two_disks()));
    let (first, second) = (site.connect(), site.connect());
    let (a, b) = (site.open(first, &guest), site.open(second, &guest));
    assert_ne!(a, b);
    done(vix().power_on(a, 0)).unwrap();
    vix().disconnect(first);
    assert_eq!(vix().bool_property(b, VIX_PROPERTY_VM_IS_RUNNING), Ok(true));
    done(vix().power_off(b, 0)).unwrap();
    vix().disconnect(second);
}

#[test]
fn properties_have_their_types_and_unknown_ones_are_refused() {
    let site = Site::new(Product::WorkstationShared);
    let guest = site.guest(&GuestSpec::new("props", two_disks()));
    let host = site.connect();
    let vm = site.open(host, &guest);
    let int = |id| vix().int_property(vm, id).map_err(code);
    assert_eq!(int(VIX_PROPERTY_VM_MEMORY_SIZE), Ok(256));
    assert_eq!(int(VIX_PROPERTY_VM_TOOLS_STATE), Ok(VIX_TOOLSSTATE_UNKNOWN));
    assert_eq!(int(VIX_PROPERTY_VM_NAME), Err(VIX_E_PROPERTY_TYPE_MISMATCH));
    assert_eq!(
        int(VIX_PROPERTY_HOST_HOSTTYPE),
        Err(VIX_E_UNRECOGNIZED_PROPERTY)
    );
    assert_eq!(int(999_999), Err(VIX_E_UNRECOGNIZED_PROPERTY));

    // Many at once: more than the registers of the calling convention hold.
    let (mut cpus, mut memory, mut name, mut running, mut features) =
        (0_i32, 0_i32, null_mut::<c_char>(), [0_u8, 0xAA], 0_i32);
    // SAFETY: pairs of id and storage of its type, ended by 0.
    let error = unsafe {
        (vix().Vix_GetProperties)(
            vm,
            VIX_PROPERTY_VM_NUM_VCPUS,
            &raw mut cpus,
            VIX_PROPERTY_VM_MEMORY_SIZE,
            &raw mut memory,
            VIX_PROPERTY_VM_NAME,
            &raw mut name,
            VIX_PROPERTY_VM_IS_RUNNING,
            running.as_mut_ptr(),
            VIX_PROPERTY_VM_SUPPORTED_FEATURES,
            &raw mut features,
            VIX_PROPERTY_NONE,
        )
    };
    assert_eq!(error, VIX_OK);
    // SAFETY: the library's string.
    let text = unsafe { CStr::from_ptr(name) }.to_str().unwrap().to_owned();
    unsafe { (vix().Vix_FreeBuffer)(name.cast()) };
    assert_eq!((cpus, memory, text.as_str()), (1, 256, "props"));
    assert_eq!(running, [0, 0xAA], "a bool is one byte");
    assert_ne!(features & VIX_VM_SUPPORT_MULTIPLE_SNAPSHOTS, 0);
    vix().disconnect(host);
}

static COMPLETED: AtomicU32 = AtomicU32::new(0);
static SEEN: Mutex<Vec<(VixHandle, VixEventType)>> = Mutex::new(Vec::new());

unsafe extern "C" fn count_events(
    job: VixHandle,
    event: VixEventType,
    _more: VixHandle,
    data: *mut c_void,
) {
    assert_eq!(data as usize, 0x5EED);
    SEEN.lock().push((job, event));
    if event == VIX_EVENTTYPE_JOB_COMPLETED {
        COMPLETED.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_callback_gets_completed_once_and_last_also_when_the_job_fails() {
    let site = Site::new(Product::Esxi);
    let guest = site.guest(&GuestSpec::new("heard", two_disks()));
    let host = site.connect();
    let vm = site.open(host, &guest);
    let data = 0x5EED as *mut c_void;
    // SAFETY: the callback takes any arguments and its data is a number.
    let (items, fails, dead) = unsafe {
        (
            (vix().VixHost_FindItems)(
                host,
                VIX_FIND_REGISTERED_VMS,
                0,
                -1,
                Some(count_events),
                data,
            ),
            (vix().VixVM_PowerOff)(vm, 0, Some(count_events), data),
            (vix().VixVM_PowerOff)(0x00FF_FFFF, 0, Some(count_events), data),
        )
    };
    done(items).unwrap();
    assert_eq!(done(fails), Err(VIX_E_VM_NOT_RUNNING));
    assert_eq!(done(dead), Err(VIX_E_INVALID_HANDLE));
    // Waiting ends only after the callback has returned.
    assert_eq!(COMPLETED.load(Ordering::SeqCst), 3);
    let seen = SEEN.lock();
    let of = |job| {
        let events = seen.iter().filter(|(own, _)| *own == job);
        events.map(|(_, event)| *event).collect::<Vec<_>>()
    };
    assert_eq!(
        of(items),
        [VIX_EVENTTYPE_FIND_ITEM, VIX_EVENTTYPE_JOB_COMPLETED]
    );
    assert_eq!(of(fails), [VIX_EVENTTYPE_JOB_COMPLETED]);
    vix().disconnect(host);
}

#[test]
fn what_is_not_simulated_says_so_and_bad_strings_are_refused() {
    let site = Site::new(Product::Esxi);
    let guest = site.guest(&GuestSpec::new("limits", two_disks()));
    let host = site.connect();
    let vm = site.open(host, &guest);
    // SAFETY: null and numbers only, and a string that is not UTF-8.
    unsafe {
        let revert = (vix().VixVM_RevertToSnapshot)(vm, 0, 0, 0, None, null_mut());
        assert_eq!(done(revert), Err(VIX_E_NOT_SUPPORTED));
        let null_path = (vix().VixVM_Open)(host, null(), None, null_mut());
        assert_eq!(made(null_path), Err(VIX_E_INVALID_ARG));
        let latin = (vix().VixVM_Open)(host, c"\xE4.vmx".as_ptr(), None, null_mut());
        assert_eq!(made(latin), Err(VIX_E_INVALID_UTF8_STRING));
    }
    assert_eq!(
        vix().error_text(0xABCD_0000_0000 | VIX_E_SNAPSHOT_NOTFOUND),
        "There is no such snapshot."
    );
    vix().disconnect(host);
}

#[test]
fn a_library_without_the_api_is_refused_with_the_names_it_lacks() {
    let error = Vix::load("libc.so.6").err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, LoadError::MissingSymbols { .. }), "{text}");
    assert!(text.contains("VixHost_Connect"), "{text}");
    // The loader's own words.
    let error = Vix::load("/etc/passwd").err().unwrap();
    assert_eq!(
        error.to_string(),
        "cannot load the VIX library /etc/passwd: invalid ELF header"
    );
    let error = Vix::load("/no/such/libvix.so").err().unwrap();
    assert!(matches!(error, LoadError::Open { .. }));
    assert!(error.to_string().contains("/no/such/libvix.so"));
}
