//! The program as a whole: the demo, and `up` with its private database.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Generous: the machine may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(120);

/// A directory that the private database's user can enter too.
fn directory() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    dir
}

/// `virtuozo` without anything of the machine's own configuration.
fn virtuozo(args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_virtuozo"));
    command
        .args(args)
        .env("VIRTUOZO_CONFIG", "/dev/null")
        .env("VIRTUOZO_EVENT_LOG", "off")
        .env_remove("DATABASE_URL")
        .env_remove("VIRTUOZO_VIX_LIBRARY")
        .env("VIRTUOZO_DATA_DIR", dir)
        .env("VIRTUOZO_KEY_FILE", dir.join("key"))
        .env("TMPDIR", dir)
        .stdin(Stdio::null());
    command
}

fn simulator() -> PathBuf {
    let library = Path::new(env!("CARGO_BIN_EXE_virtuozo")).with_file_name("libvix.so");
    assert!(
        library.exists(),
        "{} is missing: run `cargo build --workspace` first (`make test` does)",
        library.display()
    );
    library
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// The exit code of a process that is about to end.
fn ended(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the process does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Command lines of all processes that have to do with a directory.
fn processes_of(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(dir))
        .collect()
}

/// Nothing is in the directory but what is allowed, and nobody works in it.
fn assert_clean(dir: &Path) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let files: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        let processes = processes_of(dir);
        if files.is_empty() && processes.is_empty() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "left behind in {}: {files:?}, {processes:?}",
            dir.display()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_demo_succeeds_and_leaves_nothing_behind() {
    simulator();
    let dir = directory();
    let Output {
        status,
        stdout,
        stderr,
    } = virtuozo(&["demo", "--json"], dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(
        status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&stdout)
    );
    let result: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(result["ok"], true);
    assert_eq!(result["snapshots_left"], 0);
    assert_eq!(result["power_state_changed"], false);
    let guests = result["guests"].as_array().unwrap();
    assert!(guests.len() >= 6);
    for guest in guests {
        if guest["guest"] == "scratch" {
            assert_eq!(guest["state"], "failed");
            assert!(
                guest["error"].as_str().unwrap().contains("cut off"),
                "{guest}"
            );
        } else {
            assert_eq!(guest["state"], "succeeded", "{guest}");
            assert_eq!(guest["verified"], true, "{guest}");
            assert!(guest["bytes"].as_i64().unwrap() > 0, "{guest}");
        }
    }
    let restores = result["restores"].as_array().unwrap();
    assert_eq!(restores.len(), 2);
    assert!(restores.iter().all(|one| one["identical"] == true));
    assert_clean(dir.path());
}

#[test]
fn ctrl_c_in_the_middle_of_the_demo_leaves_nothing_behind() {
    simulator();
    let dir = directory();
    let mut demo = virtuozo(&["demo"], dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(demo.stderr.take().unwrap());
    let mut lines = said.lines().map_while(Result::ok);
    assert!(
        lines.any(|line| line.ends_with(": copy")),
        "the demo ended before it copied anything"
    );
    signal(&demo, Signal::INT);
    // The pipe must not fill up while it ends.
    lines.for_each(drop);
    assert_eq!(ended(&mut demo), Some(130));
    assert_clean(dir.path());
}

#[test]
fn up_starts_a_database_for_all_commands_and_stops_it_in_the_end() {
    let library = simulator();
    let dir = directory();
    let status = || {
        virtuozo(&["status", "--json"], dir.path())
            .output()
            .unwrap()
    };
    let before = status();
    assert_eq!(before.status.code(), Some(3));
    let told = String::from_utf8_lossy(&before.stderr).into_owned();
    assert!(told.contains("virtuozo up"), "{told}");

    let mut up = virtuozo(&["up"], dir.path())
        .env("VIRTUOZO_VIX_LIBRARY", library)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + LIMIT;
    loop {
        let output = status();
        if output.status.success() {
            let site: Value = serde_json::from_slice(&output.stdout).unwrap();
            if site["processes"].as_array().unwrap().len() == 2 {
                break;
            }
        }
        assert!(Instant::now() < deadline, "`up` does not come up");
        std::thread::sleep(Duration::from_millis(50));
    }
    signal(&up, Signal::TERM);
    assert_eq!(ended(&mut up), Some(0));
    assert_eq!(status().status.code(), Some(3));
    assert!(processes_of(dir.path()).is_empty());
}

#[test]
fn up_without_the_vix_library_runs_and_says_where_it_looked() {
    let dir = directory();
    let mut up = virtuozo(&["up", "--vix-library", "/absent/libvix.so"], dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + LIMIT;
    let told = loop {
        let list = virtuozo(&["worker", "list"], dir.path()).output().unwrap();
        let told = String::from_utf8_lossy(&list.stdout).into_owned();
        if told.contains("/absent/libvix.so") {
            break told;
        }
        assert!(Instant::now() < deadline, "{told}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(told.contains("Install"), "{told}");
    signal(&up, Signal::TERM);
    assert_eq!(ended(&mut up), Some(0));
}
