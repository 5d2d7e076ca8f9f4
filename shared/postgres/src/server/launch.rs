//! Makes, starts, guards and stops the server of a private cluster.

use std::{
    fs::{DirBuilder, File, Permissions},
    io::{ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process_group};
use virtuozo_runtime::LIMITS;

use super::{Cluster, PgError, SOCKET_NAME, SOCKET_PATH_MAX, answers, io_error, programs::Account};

/// How much of a program's output goes into an error.
const OUTPUT_MAX: usize = 2000;

/// What directories above that of a cluster are made with.
const PASSABLE_MODE: u32 = 0o711;

/// Durability is never traded away here; tests that want to do so say it themselves.
const SETTINGS: [&str; 9] = [
    "fsync=on",
    "listen_addresses=",
    // Relative to the data directory: any directory name will do, and the path stays short.
    "unix_socket_directories=../run",
    "unix_socket_permissions=0700",
    "logging_collector=on",
    "log_directory=../log",
    // One file for each day of the week, so that the log does not grow for ever.
    "log_filename=postgres-%a.log",
    "log_truncate_on_rotation=on",
    "timezone=UTC",
];

/// Creates the directory of the cluster where there is none, and returns its real path and the
/// account that its server runs as.
pub(super) fn prepare(dir: &Path) -> Result<(PathBuf, Account), PgError> {
    create_directories(dir)?;
    let new = dir
        .read_dir()
        .map_err(io_error("read", dir))?
        .next()
        .is_none();
    let account = if new {
        Account::for_new()?
    } else {
        Account::of(dir)?
    };
    if new {
        std::os::unix::fs::chown(dir, Some(account.uid), Some(account.gid))
            .map_err(io_error("hand over", dir))?;
    }
    let dir = dir.canonicalize().map_err(io_error("find", dir))?;
    let socket = dir.join("run").join(SOCKET_NAME);
    if socket.as_os_str().len() > SOCKET_PATH_MAX {
        return Err(PgError::Directory(format!(
            "the path of the database's socket, {}, has {} bytes, but Linux permits {}: choose a \
             data directory with a shorter path",
            socket.display(),
            socket.as_os_str().len(),
            SOCKET_PATH_MAX
        )));
    }
    for above in dir.ancestors().skip(1) {
        let meta = above.metadata().map_err(io_error("look at", above))?;
        let bit = match (meta.uid() == account.uid, meta.gid() == account.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        if meta.mode() & bit == 0 {
            return Err(PgError::Directory(format!(
                "the database in {} would run as the user with id {}, who cannot enter {}: choose \
                 a data directory elsewhere, for example /var/lib/virtuozo",
                dir.display(),
                account.uid,
                above.display()
            )));
        }
    }
    std::fs::set_permissions(&dir, Permissions::from_mode(0o700))
        .map_err(io_error("protect", &dir))?;
    // As that user, so that root never writes where another user could have put a link.
    let script = r#"umask 077; cd "$1" && mkdir -p run log && touch start.lock users.lock"#;
    let output = account
        .command(Path::new("/bin/sh"))
        .args(["-c", script, "prepare"])
        .arg(&dir)
        .output()
        .map_err(io_error("run", Path::new("/bin/sh")))?;
    if !output.status.success() {
        return Err(failed("preparing the directory", &dir, &output.stderr));
    }
    Ok((dir, account))
}

/// Creates the directory of the cluster and those above it, as far as they are missing. Their permissions do not
/// depend on the umask: nobody else can rename what lies in them, and the server's user can pass through.
fn create_directories(dir: &Path) -> Result<(), PgError> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = dir.ancestors().take_while(is_missing).collect();
    for path in missing.into_iter().rev() {
        let mode = if path == dir { 0o700 } else { PASSABLE_MODE };
        match DirBuilder::new().mode(mode).create(path) {
            // Of another process that starts now, or a name with "..".
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => continue,
            created => created.map_err(io_error("create", path))?,
        }
        std::fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(io_error("set the permissions of", path))?;
    }
    Ok(())
}

/// A shell that waits until nobody uses the cluster and then stops the server. It outlives this process, and
/// this value. Any number of guards may wait: the first stops the server, the others find nothing to do.
#[derive(Debug)]
pub(super) struct Guard(Option<Child>);

impl Guard {
    pub(super) fn start(cluster: &Cluster) -> Result<Self, PgError> {
        let script =
            r#"exec 9<"$1/users.lock" && flock 9 && exec "$2" stop -s -w -m fast -D "$1/data""#;
        cluster
            .account
            .command(Path::new("/bin/sh"))
            .args(["-c", script, "virtuozo-pg-guard"])
            .arg(&cluster.dir)
            .arg(cluster.programs.path("pg_ctl"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(|child| Self(Some(child)))
            .map_err(io_error("run", Path::new("/bin/sh")))
    }

    /// Ends the guard and waits until it is gone. The caller holds the exclusive lock, so this guard is
    /// waiting for it, or has done its work.
    pub(super) fn dismiss(mut self) {
        if let Some(mut child) = self.0.take() {
            // Its process group: the shell waits for flock, which is a process of its own.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            let _ = child.wait();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = self.0.take() {
            reap(child);
        }
    }
}

/// Creates the cluster's files where there are none and starts the server.
pub(super) fn server(cluster: &Cluster, settings: &[&str]) -> Result<(), PgError> {
    let data = cluster.dir.join("data");
    if !data.join("PG_VERSION").exists() {
        create(cluster, &data)?;
    }
    remove_stale_pid_file(&data)?;
    let deadline = Instant::now() + LIMITS.private_server.start;
    let log = cluster.dir.join("log/start.log");
    loop {
        let output = cluster_log(cluster, &log)?;
        let mut command = cluster.programs.command("postgres", &cluster.account);
        command.arg("-D").arg(&data);
        for setting in SETTINGS.iter().chain(settings) {
            command.args(["-c", setting]);
        }
        let errors = output.try_clone().map_err(io_error("use", &log))?;
        let mut child = command
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(io_error("run", &cluster.programs.path("postgres")))?;
        loop {
            if is_ready(&data, child.id()) {
                reap(child);
                return Ok(());
            }
            if child
                .try_wait()
                .map_err(io_error("wait for", &data))?
                .is_some()
            {
                break;
            }
            if Instant::now() > deadline {
                return Err(failed(
                    "postgres (still starting)",
                    &cluster.dir,
                    &tail(&log),
                ));
            }
            std::thread::sleep(LIMITS.private_server.look_every);
        }
        // The server of a killed predecessor holds its shared memory for a moment longer.
        let why = tail(&log);
        let again = String::from_utf8_lossy(&why).contains("pre-existing shared memory block");
        if !again || Instant::now() > deadline {
            return Err(failed("postgres", &cluster.dir, &why));
        }
        std::thread::sleep(LIMITS.private_server.look_every);
    }
}

/// Runs initdb beside the final place, so that a crash in the middle leaves no half cluster.
fn create(cluster: &Cluster, data: &Path) -> Result<(), PgError> {
    let new = cluster.dir.join("data.new");
    match std::fs::remove_dir_all(&new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(io_error("remove", &new)(e));
        }
        _ => {}
    }
    let output = cluster
        .programs
        .command("initdb", &cluster.account)
        .arg("-D")
        .arg(&new)
        .args([
            "--username=virtuozo",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
        ])
        .output()
        .map_err(io_error("run", &cluster.programs.path("initdb")))?;
    if !output.status.success() {
        return Err(failed("initdb", &cluster.dir, &output.stderr));
    }
    std::fs::rename(&new, data).map_err(io_error("name", data))?;
    File::open(&cluster.dir)
        .and_then(|d| d.sync_all())
        .map_err(io_error("sync", &cluster.dir))
}

/// Postgres itself ignores a left-over pid file unless the number now belongs to another process of
/// the same user; then it would refuse to start for ever.
fn remove_stale_pid_file(data: &Path) -> Result<(), PgError> {
    let file = data.join("postmaster.pid");
    let Some(pid) = pid_in(&file) else {
        return Ok(());
    };
    // A server works inside its data directory.
    match std::fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(cwd) if cwd == data => Ok(()),
        Ok(_) => std::fs::remove_file(&file).map_err(io_error("remove", &file)),
        Err(_) => Ok(()),
    }
}

fn pid_in(file: &Path) -> Option<u32> {
    std::fs::read_to_string(file)
        .ok()?
        .lines()
        .next()?
        .trim()
        .parse()
        .ok()
}

/// Whether the server with this process id says that it accepts connections: line 8 of its pid file
/// (PostgreSQL, `src/include/utils/pidfile.h`).
fn is_ready(data: &Path, pid: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(data.join("postmaster.pid")) else {
        return false;
    };
    let mut lines = text.lines().map(str::trim);
    lines.next().and_then(|line| line.parse().ok()) == Some(pid) && lines.nth(6) == Some("ready")
}

/// Waits in the background for a child that outlives its caller's interest, so that it leaves no
/// zombie.
fn reap(mut child: Child) {
    std::thread::spawn(move || child.wait());
}

/// Stops the server; one that is not there is fine.
pub(super) fn stop(cluster: &Cluster) -> Result<(), PgError> {
    let data = cluster.dir.join("data");
    if !answers(&cluster.dir) && !data.join("postmaster.pid").exists() {
        return Ok(());
    }
    let output = cluster
        .programs
        .command("pg_ctl", &cluster.account)
        .args(["stop", "-s", "-w", "-m", "fast", "-D"])
        .arg(&data)
        .output()
        .map_err(io_error("run", &cluster.programs.path("pg_ctl")))?;
    if output.status.success() || !answers(&cluster.dir) {
        return Ok(());
    }
    Err(failed("pg_ctl stop", &cluster.dir, &output.stderr))
}

/// Whether the cluster has a server, by the file that one keeps as long as it runs.
pub(super) fn is_there(cluster: &Cluster) -> bool {
    cluster.dir.join("data/postmaster.pid").exists()
}

/// The processes of the server: itself and its children, one of which, the logger, outlives it for a moment.
pub(super) fn server_processes(cluster: &Cluster) -> Vec<u32> {
    let data = cluster.dir.join("data");
    let Some(server) = pid_in(&data.join("postmaster.pid")) else {
        return Vec::new();
    };
    let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children"));
    children
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .chain([server])
        .filter(|pid| works_in(*pid, &data))
        .collect()
}

/// Waits until processes of the server have ended: it removes its pid file, on which `pg_ctl` waits, shortly
/// before it does.
pub(super) fn wait_until_gone(cluster: &Cluster, processes: &[u32]) {
    let data = cluster.dir.join("data");
    let deadline = Instant::now() + LIMITS.private_server.gone;
    while processes.iter().any(|pid| works_in(*pid, &data)) && Instant::now() < deadline {
        std::thread::sleep(LIMITS.private_server.gone_look_every);
    }
}

/// Whether the process has this working directory, as all processes of a server have that of their data.
fn works_in(pid: u32, data: &Path) -> bool {
    std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)
}

/// The file for what the server says before it has a log of its own, begun afresh.
fn cluster_log(cluster: &Cluster, path: &Path) -> Result<File, PgError> {
    let script = r#"umask 077; : > "$1""#;
    let _ = cluster
        .account
        .command(Path::new("/bin/sh"))
        .args(["-c", script, "log"])
        .arg(path)
        .status();
    File::options()
        .append(true)
        .open(path)
        .map_err(io_error("open", path))
}

fn tail(path: &Path) -> Vec<u8> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(OUTPUT_MAX as u64)))?;
        let mut bytes = Vec::new();
        file.take(OUTPUT_MAX as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().unwrap_or_default()
}

fn failed(program: &'static str, dir: &Path, output: &[u8]) -> PgError {
    let text = String::from_utf8_lossy(output);
    let text = text.trim();
    let from = text
        .char_indices()
        .rev()
        .nth(OUTPUT_MAX)
        .map_or(0, |(at, _)| at);
    // An error is one line.
    let lines = text.get(from..).unwrap_or_default().lines();
    let lines: Vec<_> = lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let output = lines.join("; ");
    PgError::Failed {
        program,
        dir: dir.to_owned(),
        output,
    }
}
