//! What happens to a connection when the library, the login or the worker fails.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use virtuozo_hypervisor::{Connector, ErrorClass, ErrorKind, PowerOff, PowerState, snapshot_name};
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
