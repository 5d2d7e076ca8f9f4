//! What happens to a connection when the library, the login or the worker fails.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use virtuozo_hypervisor::{
    Connector, ErrorClass, ErrorKind, HypervisorError, PowerOff, PowerState, snapshot_name,
};
use vix::Product;

use crate::lab::{TestLab, freeze, guest, guest_ref, lab_process, library, two_disks, until};

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_library_is_probed_and_its_absence_explained() {
    let lab = TestLab::new(Product::Esxi);
    let said = lab.connector().probe().await.unwrap();
    assert!(said.contains("libvix.so"), "{said}");
    for (path, why) in [
        ("/no/libvix.so", "no such file"),
        ("/etc/passwd", "cannot load"),
        ("/etc/passwd", "invalid ELF header"),
    ] {
        let error = lab.connector_with(path.as_ref()).probe().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::LibraryMissing);
        assert_eq!(error.class, ErrorClass::Elsewhere);
        assert!(
            error.message.contains(path) && error.message.contains(why),
            "{error}"
        );
        assert!(error.message.contains("Install"), "{error}");
    }
}

#[tokio::test]
async fn wrong_logins_and_wrong_hosts_are_told_apart() {
    let lab = TestLab::new(Product::Esxi);
    let connect = async |change: fn(&mut virtuozo_hypervisor::HostTarget)| {
        let mut target = lab.target("esxi");
        change(&mut target);
        lab.connector().connect(&target).await.err().unwrap()
    };
    let error = connect(|target| target.password = Some("secret guess".to_owned().into())).await;
    assert_eq!(
        (error.kind, error.class),
        (ErrorKind::Login, ErrorClass::Operator),
        "{error}"
    );
    assert!(!error.message.contains("secret guess"), "{error}");
    let error = connect(|target| target.address = Some("https://nobody.lab:8333/sdk".into())).await;
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    let error = connect(|target| target.address = Some("no url at all".into())).await;
    assert_eq!(
        (error.kind, error.class),
        (ErrorKind::Unreachable, ErrorClass::Operator),
        "{error}"
    );
}

#[tokio::test]
async fn a_crash_of_the_library_costs_one_connection_only() {
    let lab = TestLab::new(Product::Esxi);
    lab.guest(&two_disks("web"));
    let other = lab.connect("esxi").await;
    let host = lab.connect("esxi").await;
    lab.set_faults(&[r#"{"function": "VixVM_PowerOn", "crash": true, "nth": 1}"#]);
    let crashed = guest(&host, "web").await;
    let error = crashed.power_on(LIMIT).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ConnectionLost, "{error}");
    assert_eq!(
        crashed.power_state().await.unwrap_err().kind,
        ErrorKind::ConnectionLost
    );
    assert_eq!(
        guest(&other, "web").await.power_state().await.unwrap(),
        PowerState::Off
    );
    let again = lab.connect("esxi").await;
    guest(&again, "web").await.power_on(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_job_that_never_ends_reaches_its_limit() {
    let lab = TestLab::new(Product::Esxi);
    lab.guest(&two_disks("web"));
    let host = lab.connect("esxi").await;
    lab.set_faults(&[r#"{"function": "VixVM_CreateSnapshot", "hang": true}"#]);
    let web = guest(&host, "web").await;
    let name = snapshot_name::make(uuid::Uuid::now_v7(), 1);
    let error = freeze(web.as_ref(), &name, Duration::from_millis(300))
        .await
        .unwrap_err();
    assert!(
        matches!(error.kind, ErrorKind::Timeout | ErrorKind::ConnectionLost),
        "{:?}: {error}",
        error.kind
    );
}

#[tokio::test]
async fn an_error_of_the_library_is_passed_on_with_its_code_and_advice() {
    let lab = TestLab::new(Product::Esxi);
    lab.guest(&two_disks("web"));
    lab.set_faults(&[r#"{"function": "VixVM_CreateSnapshot", "error": 8}"#]);
    let host = lab.connect("esxi").await;
    let name = snapshot_name::make(uuid::Uuid::now_v7(), 1);
    let error = freeze(guest(&host, "web").await.as_ref(), &name, LIMIT)
        .await
        .unwrap_err();
    assert_eq!(error.code, Some(8));
    assert_eq!(error.class, ErrorClass::Operator);
    assert!(error.message.contains("[standard] web/web.vmx"), "{error}");
    assert!(error.message.contains("Free space"), "{error}");
}

#[tokio::test]
async fn the_process_ends_with_its_worker_even_while_the_library_hangs() {
    let lab = TestLab::new(Product::Esxi);
    lab.set_faults(&[r#"{"function": "VixHost_Connect", "hang": true}"#]);
    let mut child = Command::new(lab_process())
        .args(["vix-host", "--library"])
        .arg(library())
        .envs(lab.variables())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let request = format!(
        r#"{{"id":1,"limit_ms":600000,"operation":{{"connect":{{"label":"a","provider":10,"address":"{}","user":"backup","password":"lab password"}}}}}}"#,
        lab.host.url
    );
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(&u32::try_from(request.len()).unwrap().to_le_bytes())
        .unwrap();
    stdin.write_all(request.as_bytes()).unwrap();
    until("the call into the library begins", || lab.fault_calls() > 0).await;
    assert!(
        child.try_wait().unwrap().is_none(),
        "the process should hang now"
    );
    // What the kernel does for a worker that is killed.
    drop(stdin);
    let deadline = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the process outlives its worker");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_guest_that_ignores_its_shutdown_is_cut_off_at_the_limit() {
    let lab = TestLab::new(Product::Esxi);
    let mut spec = two_disks("deaf");
    spec.ignore_shutdown = true;
    lab.guest(&spec);
    spec = two_disks("bare");
    spec.tools = false;
    lab.guest(&spec);
    let host = lab.connect("esxi").await;
    for name in ["deaf", "bare"] {
        let guest = guest(&host, name).await;
        guest.power_on(LIMIT).await.unwrap();
        let how = PowerOff {
            soft_limit: Duration::from_millis(300),
            hard_limit: LIMIT,
        };
        guest.power_off(how).await.unwrap();
        assert_eq!(
            guest.power_state().await.unwrap(),
            PowerState::Off,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_host_that_keeps_one_snapshot_is_never_asked_for_a_second() {
    let lab = TestLab::new(Product::Server2);
    let mut spec = two_disks("web");
    spec.foreign_snapshots = vec!["theirs".into()];
    let web = lab.guest(&spec);
    let host = lab.connect("server2").await;
    assert!(!host.capabilities().multiple_snapshots);
    let name = snapshot_name::make(uuid::Uuid::now_v7(), 1);
    let guest = host.guest(&guest_ref("web")).await.unwrap();
    let error = freeze(guest.as_ref(), &name, LIMIT).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotSupported, "{error}");
    assert_eq!(web.snapshots().unwrap(), ["theirs"]);
}

/// What connecting and looking at a kind of host say while the wrapper library has no use for a provider.
async fn without_a_provider(rule: &str) -> (TestLab, Vec<HypervisorError>) {
    let lab = TestLab::new(Product::Esxi);
    let connector = lab.connector();
    assert!(connector.probe_kind("esxi").await.is_ok());
    lab.set_faults(&[rule]);
    let began = Instant::now();
    let errors = vec![
        connector.connect(&lab.target("esxi")).await.err().unwrap(),
        connector.probe_kind("esxi").await.unwrap_err(),
    ];
    assert!(began.elapsed() < Duration::from_secs(10), "{errors:?}");
    // The library answers all the same.
    connector.probe().await.unwrap();
    for error in &errors {
        assert_eq!(
            (error.kind, error.class),
            (ErrorKind::LibraryMissing, ErrorClass::Elsewhere),
            "{error}"
        );
    }
    (lab, errors)
}

#[tokio::test]
async fn a_provider_that_cannot_be_loaded_is_told_at_once_with_the_log_that_says_why() {
    let rule = r#"{"function": "wrapper:VixHost_Connect", "error": 0}"#;
    for error in without_a_provider(rule).await.1 {
        assert!(error.message.contains("could not load"), "{error}");
        assert!(error.message.contains("vmware-vixWrapper-"), "{error}");
    }
}

#[tokio::test]
async fn a_library_without_a_provider_does_not_serve_the_kinds_that_need_one() {
    let rule = r#"{"function": "wrapper:VixHost_Connect", "error": 22005}"#;
    for error in without_a_provider(rule).await.1 {
        assert_eq!(error.code, Some(22005), "{error}");
    }
}

#[tokio::test]
async fn a_version_that_the_wrapper_does_not_know_is_told_with_the_line_to_add_and_the_file() {
    let lab = TestLab::new(Product::Workstation);
    let vix = lab.home().join("vmware-vix");
    std::fs::create_dir_all(lab.home().join(".vmware")).unwrap();
    for directory in ["Workstation-9.0.0", "Workstation-17.0.0"] {
        std::fs::create_dir_all(vix.join(directory).join("64bit")).unwrap();
        std::fs::write(vix.join(directory).join("64bit/libvix.so"), "").unwrap();
    }
    let settings = format!(
        "libdir = \"{0}/none\"\nvix.libdir = \"{0}\"\nproduct.version = \"17.6.3\"\n",
        vix.display()
    );
    std::fs::write(lab.home().join(".vmware/config"), settings).unwrap();
    let table = vix.join("vixwrapper-config.txt");
    std::fs::write(&table, "ws 20 vmdb 17.6.2 Workstation-17.0.0\n").unwrap();
    lab.set_faults(&[r#"{"function": "wrapper:VixHost_Connect", "error": 22002}"#]);
    let connected = lab.connector().connect(&lab.target("workstation")).await;
    let error = connected.err().unwrap();
    assert_eq!(error.kind, ErrorKind::LibraryMissing, "{error}");
    let line = "ws  20  vmdb  17.6.3  Workstation-17.0.0";
    for word in [line, table.to_str().unwrap()] {
        assert!(error.message.contains(word), "{word}: {error}");
    }
}

#[tokio::test]
async fn snapshots_are_found_by_name_where_the_library_does_not_tell_their_names() {
    let lab = TestLab::new(Product::Esxi);
    let mut spec = two_disks("web");
    spec.foreign_snapshots = vec!["theirs".into(), "a/b".into()];
    let web = lab.guest(&spec);
    lab.set_faults(&[r#"{"function": "property:4200", "error": 6000}"#]);
    let host = lab.connect("esxi").await;
    let guest = guest(&host, "web").await;
    assert_eq!(guest.snapshots().await.unwrap(), ["theirs", "a/b"]);
    let name = snapshot_name::make(uuid::Uuid::now_v7(), 1);
    freeze(guest.as_ref(), &name, LIMIT).await.unwrap();
    assert_eq!(guest.snapshots().await.unwrap(), ["theirs", "a/b", &name]);
    let again = freeze(guest.as_ref(), &name, LIMIT).await.unwrap_err();
    assert!(again.message.contains("already"), "{again}");
    assert!(guest.release(&name, LIMIT).await.unwrap());
    assert!(!guest.release(&name, LIMIT).await.unwrap());
    assert_eq!(web.snapshots().unwrap(), ["theirs", "a/b"]);
}
