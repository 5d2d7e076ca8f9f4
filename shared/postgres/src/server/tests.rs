//! Tests of the private cluster: who starts, shares and stops it.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::*;
use virtuozo_runtime::Health;

/// Set for the process that `holder` starts: the directory of the cluster to hold.
const HELD_DIR: &str = "VIRTUOZO_TEST_HELD_CLUSTER";

/// A directory that the server's user can enter, also when the tests run as root.
fn place() -> TempDir {
    let place = TempDir::new().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    place
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 30 seconds: {what}");
        std::thread::sleep(LIMITS.private_server.look_every);
    }
}

/// Another process that holds the cluster until it is killed.
fn holder(dir: &Path) -> std::process::Child {
    holder_with_umask("022", dir)
}

/// The same, with this umask.
fn holder_with_umask(umask: &str, dir: &Path) -> std::process::Child {
    let mut child = Command::new("/bin/sh")
        .args(["-c", r#"umask "$0"; exec "$@""#, umask])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "server::tests::the_process_that_another_test_kills",
            "--nocapture",
        ])
        .env(HELD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    assert!(
        out.lines().any(|line| line.unwrap().ends_with("held")),
        "the holder did not start"
    );
    child
}

#[test]
fn the_process_that_another_test_kills() {
    let Some(dir) = std::env::var_os(HELD_DIR) else {
        return;
    };
    let _cluster = Cluster::start(Path::new(&dir)).unwrap();
    println!("held");
    loop {
        std::thread::park();
    }
}

async fn one(url: &str) -> i32 {
    let pool = crate::connect_within(url, &Health::default(), Duration::from_secs(10))
        .await
        .unwrap();
    sqlx::query_scalar("SELECT 1")
        .fetch_one(&pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_second_start_attaches_and_the_last_one_stops_the_server() {
    let place = place();
    let dir = place.path().join("site's \"pg\"");
    assert!(Cluster::attach(&dir).unwrap().is_none());
    let first = Cluster::start(&dir).unwrap();
    assert_eq!(one(first.url()).await, 1);
    let pid = std::fs::read_to_string(first.dir().join("data/postmaster.pid")).unwrap();
    let second = Cluster::start(&dir).unwrap();
    let third = Cluster::attach(&dir).unwrap().expect("it runs");
    assert!(!first.stop().unwrap(), "others still use it");
    assert!(!third.stop().unwrap(), "another one still uses it");
    assert_eq!(one(second.url()).await, 1);
    assert_eq!(
        pid,
        std::fs::read_to_string(second.dir().join("data/postmaster.pid")).unwrap()
    );
    assert!(second.stop().unwrap());
    assert!(Cluster::attach(&dir).unwrap().is_none());

    let again = Cluster::start(&dir).unwrap();
    assert_eq!(one(again.url()).await, 1);
    assert!(again.stop().unwrap());
}

#[test]
fn fsync_is_on_and_no_port_is_open() {
    let place = place();
    let cluster = Cluster::start(&place.path().join("pg")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let shown: (String, String) = runtime.block_on(async {
        let pool = crate::connect(cluster.url(), 2, &Health::default())
            .await
            .unwrap();
        sqlx::query_as("SELECT current_setting('fsync'), current_setting('listen_addresses')")
            .fetch_one(&pool)
            .await
            .unwrap()
    });
    assert_eq!(shown, ("on".into(), String::new()));
    let mode = cluster.dir().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "others must not reach the socket");
    assert!(cluster.stop().unwrap());
}

/// Command lines and working directories of all processes that have to do with a directory.
fn processes_of(dir: &Path) -> Vec<String> {
    let dir = dir.canonicalize().unwrap();
    let dir = dir.to_str().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let process = entry.ok()?.path();
            let line = std::fs::read(process.join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let cwd = std::fs::read_link(process.join("cwd")).unwrap_or_default();
            let its = line.contains(dir) || cwd.starts_with(dir);
            its.then(|| format!("{line} in {}", cwd.display()))
        })
        .collect()
}

#[test]
fn a_cluster_that_was_stopped_leaves_no_process_behind() {
    let place = place();
    let dir = place.path().join("pg");
    for _ in 0..10 {
        let first = Cluster::start(&dir).unwrap();
        let second = Cluster::start(&dir).unwrap();
        assert!(processes_of(&dir).len() > 3, "the server and two guards");
        assert!(!first.stop().unwrap(), "another still uses it");
        assert!(second.stop().unwrap());
        // The guard of the first, which could not know that it was not needed.
        eventually("the first guard has ended", || {
            processes_of(&dir).is_empty()
        });

        let only = Cluster::start(&dir).unwrap();
        assert!(only.stop().unwrap());
        assert_eq!(processes_of(&dir), [""; 0]);
    }
}

#[test]
fn a_killed_process_leaves_no_server_behind() {
    let place = place();
    let dir = place.path().join("pg");
    let mut holder = holder(&dir);
    assert!(answers(&dir));
    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("the guard stops the server", || {
        !dir.join("data/postmaster.pid").exists()
    });
}

#[test]
fn a_process_that_attached_to_a_killed_ones_server_keeps_it() {
    let place = place();
    let dir = place.path().join("pg");
    let mut holder = holder(&dir);
    let mine = Cluster::start(&dir).unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(answers(&dir));
    assert!(mine.stop().unwrap());
    assert!(!answers(&dir));
}

#[test]
fn a_killed_server_starts_again_over_its_stale_pid_file() {
    let place = place();
    let dir = place.path().join("pg");
    let first = Cluster::start(&dir).unwrap();
    let file = dir.join("data/postmaster.pid");
    let text = std::fs::read_to_string(&file).unwrap();
    let (pid, rest) = text.split_once('\n').unwrap();
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("the server is gone", || !answers(&dir));
    // The worst case: the number now belongs to a process of somebody else.
    std::fs::write(&file, format!("{}\n{rest}", std::process::id())).unwrap();
    let second = Cluster::start(&dir).unwrap();
    assert!(answers(&dir));
    drop(first);
    assert!(second.stop().unwrap());
}

#[test]
fn a_dropped_cluster_is_no_user_any_more_while_a_program_being_started_has_its_lock_file() {
    let place = place();
    let dir = place.path().join("pg");
    let first = Cluster::start(&dir).unwrap();
    // What a child process has between fork and exec.
    let inherited = first.users.0.try_clone().unwrap();
    let second = Cluster::start(&dir).unwrap();
    drop(first);
    assert!(second.stop().unwrap());
    drop(inherited);
}

#[test]
fn a_path_too_long_for_a_socket_is_refused_with_the_limit() {
    let place = place();
    let error = Cluster::start(&place.path().join("x".repeat(120)))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("107") && error.contains("shorter"),
        "{error}"
    );
}

#[test]
fn a_directory_that_the_servers_user_cannot_enter_is_refused_by_name() {
    if rustix::process::geteuid().as_raw() != 0 {
        return; // Only root starts the server as somebody else.
    }
    let place = place();
    let closed = place.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    let error = Cluster::start(&closed.join("pg")).unwrap_err().to_string();
    assert!(
        error.contains("cannot enter") && error.contains("closed"),
        "{error}"
    );
}

#[test]
fn directories_are_made_with_the_same_permissions_under_every_umask() {
    for umask in ["000", "022", "077"] {
        let place = place();
        let data = place.path().join("above/data");
        let mut holder = holder_with_umask(umask, &data.join("postgres"));
        holder.kill().unwrap();
        holder.wait().unwrap();
        eventually("the server is gone", || {
            processes_of(place.path()).is_empty()
        });
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&place.path().join("above")), 0o711, "umask {umask}");
        assert_eq!(mode(&data), 0o711, "umask {umask}");
        assert_eq!(mode(&data.join("postgres")), 0o700, "umask {umask}");
    }
}
