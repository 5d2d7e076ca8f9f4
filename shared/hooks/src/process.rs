//! Runs one command in a process group of its own, within a limit, and keeps the end of its output.

use std::{ffi::OsString, io, os::fd::OwnedFd, path::Path, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    process::{Child, ChildStdin, Command},
    time::{Instant, timeout},
};
use virtuozo_runtime::LIMITS;

use crate::{
    exit_code::{exit_code, not_started},
    guard,
};

/// How many of the last bytes of the output are kept.
const OUTPUT_BYTES: usize = 16 << 10;
/// The exit code of a command that may not be executed, as in a shell.
const NOT_EXECUTED: i32 = 126;
/// The `PATH` of a command if this process has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command to be run.
#[derive(Debug)]
pub struct Call<'a> {
    /// The program and its arguments.
    pub command: &'a [String],
    /// Its environment variables, beside PATH, HOME, LANG and TZ.
    pub environment: &'a [(&'static str, String)],
    /// How long it may take.
    pub limit: Duration,
    /// The program `virtuozo`, as a guard that kills the command if this process dies; `None`: the command goes on then.
    pub guard: Option<&'a Path>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended<T> {
    /// By itself, with this exit code; as in a shell, 128 plus the number of a signal, or 126 or 127 if it could not be
    /// started.
    Exited(i32),
    /// It was killed at its limit.
    TimedOut,
    /// It was killed when `stop` completed, with that result.
    Stopped(T),
}

/// A command that has ended.
#[derive(Debug)]
pub(super) struct Finished<T> {
    pub(super) ended: Ended<T>,
    /// The end of its output, stdout and stderr in the order of writing.
    pub(super) output: String,
    pub(super) took: Duration,
}

impl<T> Finished<T> {
    /// A command that was not started.
    pub(super) fn refused(why: String) -> Self {
        Self {
            ended: Ended::Exited(NOT_EXECUTED),
            output: why,
            took: Duration::ZERO,
        }
    }
}

/// Runs a command until it ends, its limit, or until `stop` completes. Dropping the future kills the command.
pub(super) async fn run<T>(call: &Call<'_>, stop: impl Future<Output = T>) -> Finished<T> {
    let began = Instant::now();
    let (ended, output) = match Running::start(call) {
        Ok(mut running) => {
            let ended = running.until_end(began + call.limit, stop).await;
            (ended, running.tail.text())
        }
        Err(error) => {
            let program = call.guard.map(|path| path.as_os_str().to_owned());
            let program = program.or_else(|| call.command.first().map(OsString::from));
            let (code, why) = not_started(&program.unwrap_or_default(), &error);
            (Ended::Exited(code), why)
        }
    };
    Finished {
        ended,
        output,
        took: began.elapsed(),
    }
}

struct Running {
    child: Child,
    /// The guard kills the command when this is closed. `child` would close it as soon as it is waited for.
    _guard_stdin: Option<ChildStdin>,
    group: Option<Group>,
    output: Option<pipe::Receiver>,
    tail: Tail,
}

impl Running {
    fn start(call: &Call<'_>) -> io::Result<Self> {
        let (program, arguments) = call
            .command
            .split_first()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut command = match call.guard {
            Some(guard) => {
                let mut command = Command::new(guard);
                command.args([guard::COMMAND, "--", program]);
                // The system closes this pipe when this process ends.
                command.stdin(Stdio::piped());
                command
            }
            None => {
                let mut command = Command::new(program);
                command.stdin(Stdio::null());
                command
            }
        };
        let (reader, writer) = io::pipe()?;
        let inherited = ["PATH", "HOME", "LANG", "TZ"]
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", DEFAULT_PATH)
            .envs(inherited)
            .envs(call.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true);
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
        let mut child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        Ok(Self {
            _guard_stdin: child.stdin.take(),
            child,
            group: pid.and_then(Pid::from_raw).map(Group),
            output: Some(output),
            tail: Tail::default(),
        })
    }

    async fn until_end<T>(&mut self, limit: Instant, stop: impl Future<Output = T>) -> Ended<T> {
        tokio::pin!(stop);
        let ended = loop {
            tokio::select! {
                biased;
                status = self.child.wait() => {
                    let code = status.map_or(-1, exit_code);
                    // Its background processes are left running.
                    if let Some(group) = self.group.take() {
                        group.forget();
                    }
                    break Ended::Exited(code);
                }
                why = &mut stop => break Ended::Stopped(why),
                () = tokio::time::sleep_until(limit) => break Ended::TimedOut,
                () = read(&mut self.output, &mut self.tail) => {}
            }
        };
        if !matches!(ended, Ended::Exited(_)) {
            self.kill().await;
        }
        let rest = async {
            while self.output.is_some() {
                read(&mut self.output, &mut self.tail).await;
            }
        };
        let _ = timeout(LIMITS.hooks.output, rest).await;
        ended
    }

    /// Sends SIGTERM to the whole group, and SIGKILL after the limit.
    async fn kill(&mut self) {
        let Some(group) = self.group.take() else {
            return;
        };
        group.signal(Signal::TERM);
        let ending = async {
            loop {
                tokio::select! {
                    biased;
                    _ = self.child.wait() => break,
                    () = read(&mut self.output, &mut self.tail) => {}
                }
            }
        };
        let _ = timeout(LIMITS.hooks.termination, ending).await;
        // The command may have ended while processes that it started have not.
        drop(group);
        let _ = timeout(LIMITS.hooks.termination, self.child.wait()).await;
    }
}

/// Reads some of the output; waits for ever after its end.
async fn read(output: &mut Option<pipe::Receiver>, tail: &mut Tail) {
    let Some(from) = output else {
        return std::future::pending().await;
    };
    let mut part = [0; 4096];
    match from.read(&mut part).await {
        Ok(count) if count > 0 => tail.push(part.get(..count).unwrap_or_default()),
        _ => *output = None,
    }
}

/// A process group that is killed when it is dropped.
struct Group(Pid);

impl Group {
    fn signal(&self, signal: Signal) {
        // Fails if the group has no process any more.
        let _ = kill_process_group(self.0, signal);
    }

    fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// The last bytes of an output.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Tail {
    fn push(&mut self, part: &[u8]) {
        self.bytes.extend_from_slice(part);
        // Cutting at twice the size is rare; cutting after each part would move the bytes each time.
        if self.bytes.len() > 2 * OUTPUT_BYTES {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if let Some(surplus) = self.bytes.len().checked_sub(OUTPUT_BYTES) {
            self.bytes.drain(..surplus);
            self.is_cut |= surplus > 0;
        }
    }

    /// As text without NUL, which PostgreSQL cannot store.
    fn text(&mut self) -> String {
        self.cut();
        let text = String::from_utf8_lossy(&self.bytes).replace('\0', "\u{fffd}");
        if self.is_cut {
            format!("…{text}")
        } else {
            text
        }
    }
}
