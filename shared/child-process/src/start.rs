//! How a process is started with an environment of its own, and how it is ended.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::OwnedFd,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::timeout,
};
use virtuozo_runtime::LIMITS;

/// Environment variables that a process has from ours: what the system, the loader and the log look at.
const NAMES_PASSED_ON: [&str; 11] = [
    "HOME",
    "LANG",
    "LANGUAGE",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "PATH",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "TMPDIR",
    "TZ",
    "USER",
];

/// A process that was started, and its pipes.
#[derive(Debug)]
pub struct Started {
    /// The process. It is killed when this is dropped.
    pub child: Child,
    /// What it is told.
    pub stdin: ChildStdin,
    /// What it answers.
    pub stdout: ChildStdout,
    /// What it says beside.
    pub stderr: ChildStderr,
}

/// Starts `program arguments…`. Of our environment it has what the system, the loader and the log look at, and variables
/// whose names begin with one of `prefixes`: nothing that says how we reach the database. Needs a tokio runtime.
///
/// # Errors
/// The program cannot be started.
pub fn start(
    program: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    prefixes: &[&str],
) -> io::Result<Started> {
    let is_passed_on = |name: &OsStr| {
        let name = name.to_string_lossy();
        NAMES_PASSED_ON.contains(&name.as_ref())
            || prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    let environment: Vec<(OsString, OsString)> = std::env::vars_os()
        .filter(|(name, _)| is_passed_on(name))
        .collect();
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment)
        // It needs no settings, which may hold passwords.
        .env("VIRTUOZO_CONFIG", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A Ctrl-C at the terminal is for the process that started it, which still needs it to clean up.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let pipe = || io::Error::other("no pipe to it");
    let stdin = child.stdin.take().ok_or_else(pipe)?;
    let stdout = child.stdout.take().ok_or_else(pipe)?;
    let stderr = child.stderr.take().ok_or_else(pipe)?;
    Ok(Started {
        child,
        stdin,
        stdout,
        stderr,
    })
}

/// The processes that did not end when they were killed, because the kernel waits in them for a file system.
#[derive(Debug, Clone, Default)]
pub struct LeftBehind(Arc<AtomicU64>);

impl LeftBehind {
    /// How many there are now.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Kills a process and waits until it is gone. One that the kernel does not let go is counted, told and left behind:
/// whoever waits is not held up by it. It is waited for in the background, since it ends as soon as the kernel lets it.
pub async fn end(mut child: Child, left_behind: &LeftBehind) {
    let pid = child.id();
    // It may have ended by itself in between.
    let _ = child.start_kill();
    if timeout(LIMITS.files.end, child.wait()).await.is_ok() {
        return;
    }
    left_behind.0.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(
        pid,
        "process was killed and does not end: the kernel waits in it for a file system that does not answer. It is left \
         behind, and ends when that does"
    );
    let left_behind = left_behind.clone();
    tokio::spawn(async move {
        let _ = child.wait().await;
        left_behind.0.fetch_sub(1, Ordering::Relaxed);
        tracing::info!(pid, "process that was left behind has ended");
    });
}

/// What a process says on standard error goes to the log, as of `whom`.
pub async fn log_stderr(whom: &str, mut stderr: ChildStderr) {
    let mut buffer = vec![0; 4096];
    while let Ok(len @ 1..) = stderr.read(&mut buffer).await {
        let text = String::from_utf8_lossy(buffer.get(..len).unwrap_or_default());
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            tracing::debug!(process = whom, line, "said by a process");
        }
    }
}

/// Takes standard input and output for messages, out of reach of libraries and of programs they start: what those print
/// goes to standard error.
///
/// # Errors
/// They are closed, or there is no `/dev/null`.
pub fn take_stdio() -> io::Result<(File, File)> {
    let keep = |fd| rustix::io::fcntl_dupfd_cloexec(fd, 3);
    let input: OwnedFd = keep(rustix::stdio::stdin())?;
    let output: OwnedFd = keep(rustix::stdio::stdout())?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok((input.into(), output.into()))
}
