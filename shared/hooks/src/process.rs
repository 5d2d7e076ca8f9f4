//! One command in a process group of its own: its output, its limit, and its end with all that it started.

use std::{
    ffi::OsString,
    io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    process::{Child, ChildStdin, Command},
    time::{Instant, timeout},
};

use super::guard;

/// The last bytes of the output that are kept.
const OUTPUT_BYTES: usize = 16 << 10;
/// How long a command has to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How long the output is read after the command's end: what it left in the background may hold it open.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Where programs are looked for if this process does not know.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command to be run.
#[derive(Debug)]
pub struct Call<'a> {
    /// The program and its arguments.
    pub command: &'a [String],
    /// What it is told, beside where programs, home, language and time zone are.
    pub environment: &'a [(&'static str, String)],
    /// How long it may take.
    pub limit: Duration,
    /// The program `virtuozo`, which then ends the command if this process dies. None: the command goes on.
    pub guard: Option<&'a Path>,
}

/// How a command came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended<T> {
    /// By itself, with this exit code; 128 and the signal's number after a signal, 126 and 127 if it could
    /// not be started, as in a shell.
    Exited(i32),
    /// It was killed at its limit.
    TimedOut,
    /// It was killed because it was to stop, for this reason.
    Stopped(T),
}

/// A command that has ended.
#[derive(Debug)]
pub(super) struct Finished<T> {
    pub(super) ended: Ended<T>,
    /// The end of what it wrote, stdout and stderr together.
    pub(super) output: String,
    pub(super) took: Duration,
}

/// Runs a command to its end, its limit, or until `stop`. If this is dropped, it is killed.
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
            let (code, why) = guard::not_started(&program.unwrap_or_default(), &error);
            (Ended::Exited(code), why)
        }
    };
    Finished {
        ended,
        output,
        took: began.elapsed(),
    }
}

/// The exit code as a shell tells it.
pub(super) fn exit_code(status: ExitStatus) -> i32 {
    let signal = || status.signal().map(|signal| 128 + signal);
    status.code().or_else(signal).unwrap_or(-1)
}

struct Running {
    child: Child,
    /// The guard ends with it. Not left to `child`, which closes it as soon as it is waited for.
    _guarded: Option<ChildStdin>,
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
                // It ends with this pipe, and so with this process.
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
            .env("PATH", USUAL_PATH)
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
            _guarded: child.stdin.take(),
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
                    // What it has left in the background is left alone.
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
        let _ = timeout(LAST_WORDS, rest).await;
        ended
    }

    /// Ends the whole group: asks first.
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
        let _ = timeout(GRACE, ending).await;
        // Also after its end, for what it has started.
        drop(group);
        let _ = timeout(GRACE, self.child.wait()).await;
    }
}

/// Reads some of the output; nothing more comes after its end.
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
        // Nothing to be done where nobody is left in it.
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

/// The end of an output.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Tail {
    fn push(&mut self, part: &[u8]) {
        self.bytes.extend_from_slice(part);
        // Not with each part: moving the rest costs more than keeping twice as much.
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

    /// As text that any table can hold.
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
