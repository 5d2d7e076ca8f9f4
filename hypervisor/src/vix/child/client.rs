//! A `vix-host` process as the worker sees it: starts it, sends requests, and turns its crash or hang
//! into an error of every call on it.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter, MeterProvider, NoopMeterProvider},
};
use opentelemetry_sdk::trace::SdkTracer;
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    io::{AsyncRead, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout},
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};
use virtuozo_child_process::{LeftBehind, Started, end, frames, log_stderr, start};

use super::{
    protocol::{Answer, Operation, Request, Response},
    request_span::RequestSpan,
};
use crate::{ErrorClass, ErrorKind, HypervisorError, Result, vix::limits::LIMITS};

type Waiting = HashMap<u64, oneshot::Sender<Response>>;

struct Shared {
    /// Name of the host, for messages.
    label: String,
    /// Calls that wait for a response; none once the process is gone.
    waiting: Mutex<Option<Waiting>>,
    /// Asks the keeper to kill the process.
    kill: Notify,
    left_behind: LeftBehind,
}

/// A running `vix-host` process. Dropping it lets the process disconnect and end.
pub(crate) struct ChildProcess {
    shared: Arc<Shared>,
    /// Frames on their way to the process; closing it ends the process.
    frames: Mutex<Option<mpsc::UnboundedSender<Vec<u8>>>>,
    next_id: AtomicU64,
    /// Its process id.
    pid: Option<u32>,
    /// What the process is given beyond an operation's own limit before it counts as hung.
    grace: Duration,
    instruments: Instruments,
}

/// What counts and traces the requests to processes.
#[derive(Debug, Clone)]
pub(crate) struct Instruments {
    /// Failed calls into the library, by its error code; those of a process that is gone have none.
    errors: Counter<u64>,
    /// None: nobody traces.
    tracer: Option<SdkTracer>,
}

impl Default for Instruments {
    /// Nobody counts or traces.
    fn default() -> Self {
        Self::new(&NoopMeterProvider::new().meter("virtuozo"), None)
    }
}

impl Instruments {
    /// Instruments of `meter` and `tracer`.
    pub(crate) fn new(meter: &Meter, tracer: Option<SdkTracer>) -> Self {
        let errors = meter
            .u64_counter("virtuozo.vix.errors")
            .with_unit("{error}")
            .with_description("Calls into the VIX library that failed, by its error code; lost: its process died or hung")
            .build();
        Self { errors, tracer }
    }

    /// Enters the error that is known before it first happens: who adds up increases misses it otherwise.
    fn begin_at_zero(&self) {
        self.errors.add(0, &[KeyValue::new("code", LOST)]);
    }

    fn failed(&self, error: &HypervisorError) {
        let code = match (error.code, error.kind) {
            (Some(code), _) => code.to_string(),
            (None, ErrorKind::ConnectionLost) => LOST.to_owned(),
            (None, _) => "none".to_owned(),
        };
        self.errors.add(1, &[KeyValue::new("code", code)]);
    }
}

impl ChildProcess {
    /// Starts `program arguments… --library library`. Needs a tokio runtime.
    pub(crate) fn start(
        label: &str,
        program: &Path,
        arguments: &[OsString],
        library: &Path,
        instruments: Instruments,
    ) -> Result<Self> {
        let cannot = |error: io::Error| {
            HypervisorError::new(
                // A trouble of this machine, not of the host.
                ErrorKind::LibraryMissing,
                ErrorClass::Elsewhere,
                format!(
                    "host {label}: cannot start the process for its connection ({}): {error}",
                    program.display()
                ),
            )
        };
        let arguments = arguments
            .iter()
            .map(OsString::as_os_str)
            .chain([OsStr::new("--library"), library.as_os_str()]);
        let Started {
            child,
            stdin,
            stdout,
            stderr,
        } = start(program, arguments, &PREFIXES_PASSED_ON).map_err(cannot)?;
        instruments.begin_at_zero();
        let pid = child.id();

        let shared = Arc::new(Shared {
            label: label.to_owned(),
            waiting: Mutex::new(Some(HashMap::new())),
            kill: Notify::new(),
            left_behind: LeftBehind::default(),
        });
        let (frames, queue) = mpsc::unbounded_channel();
        tokio::spawn(write_frames(stdin, queue));
        let of_log = label.to_owned();
        tokio::spawn(async move { log_stderr(&of_log, stderr).await });
        tokio::spawn(keep(child, stdout, Arc::clone(&shared)));
        Ok(Self {
            shared,
            frames: Mutex::new(Some(frames)),
            next_id: AtomicU64::new(1),
            pid,
            grace: LIMITS.grace,
            instruments,
        })
    }

    /// Asks for an operation and waits for its answer, which the process gives within `limit` unless
    /// the library hangs; then it is killed.
    pub(crate) async fn call(&self, limit: Duration, operation: Operation) -> Result<Answer> {
        let span = RequestSpan::begin(
            self.instruments.tracer.as_ref(),
            &self.shared.label,
            &operation,
            self.pid,
        );
        let (outcome, calls) = match self.ask(limit, operation).await {
            Ok(response) => (response.answer, response.calls),
            Err(error) => (Err(error), Vec::new()),
        };
        if let Err(error) = &outcome {
            self.instruments.failed(error);
        }
        // The span before those below it: they are sent in this order, if at all.
        span.end(&outcome);
        span.calls(&calls, self.pid);
        outcome
    }

    async fn ask(&self, limit: Duration, operation: Operation) -> Result<Response> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = Request {
            id,
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            operation,
        };
        let frame = frames::encode(&request).map_err(|error| {
            HypervisorError::new(
                ErrorKind::Other,
                ErrorClass::Permanent,
                format!(
                    "host {}: the request is too long: {error}",
                    self.shared.label
                ),
            )
        })?;
        let (answer, answered) = oneshot::channel();
        match self.shared.waiting().as_mut() {
            Some(waiting) => waiting.insert(id, answer),
            None => return Err(self.shared.lost("is gone")),
        };
        let sent = self
            .frames
            .lock()
            .as_ref()
            .is_some_and(|frames| frames.send(frame).is_ok());
        if !sent {
            self.shared.forget(id);
            return Err(self.shared.lost("is closed"));
        }
        // A caller that gives up must not leave its entry behind.
        let entry = Entry {
            shared: &self.shared,
            id,
        };
        let outcome = match timeout(limit.saturating_add(self.grace), answered).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) => Err(self
                .shared
                .lost("ended unexpectedly; the VIX library crashed")),
            Err(_) => {
                self.shared.kill.notify_one();
                Err(self
                    .shared
                    .lost("was killed because a call into the VIX library hung"))
            }
        };
        drop(entry);
        outcome
    }

    /// Disconnects and ends the process. Idempotent.
    pub(crate) async fn close(&self) {
        if self.frames.lock().is_some() {
            // Whatever it says, it is over now.
            let _ = self.call(LIMITS.leave, Operation::Disconnect).await;
            self.frames.lock().take();
        }
    }
}

/// The code of an error of a process that is gone.
const LOST: &str = "lost";
/// Beginnings of the names of environment variables that it has beside those of any process: the locale, and what the
/// library and its simulator look at.
const PREFIXES_PASSED_ON: [&str; 4] = ["LC_", "VIRTUOZO_SIM_", "VIX_", "VMWARE_"];

struct Entry<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.shared.forget(self.id);
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock()
    }

    fn forget(&self, id: u64) {
        if let Some(waiting) = self.waiting().as_mut() {
            waiting.remove(&id);
        }
    }

    fn lost(&self, how: &str) -> HypervisorError {
        HypervisorError::new(
            ErrorKind::ConnectionLost,
            ErrorClass::Retry,
            format!(
                "host {}: the connection is lost: its process {how}. Other hosts are not concerned",
                self.label
            ),
        )
    }
}

/// Writes frames until the sender is dropped, then closes the pipe, which tells the process to leave.
async fn write_frames(mut stdin: ChildStdin, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        if stdin.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// Reads responses until the process is gone or has to be killed, and sees to it that it is.
async fn keep(mut child: Child, mut stdout: ChildStdout, shared: Arc<Shared>) {
    let killed = tokio::select! {
        () = read_responses(&mut stdout, &shared) => false,
        () = shared.kill.notified() => true,
    };
    // Dropping the senders wakes every caller.
    shared.waiting().take();
    if killed || timeout(LIMITS.leave, child.wait()).await.is_err() {
        end(child, &shared.left_behind).await;
    }
}

async fn read_responses(stdout: &mut (impl AsyncRead + Unpin), shared: &Shared) {
    loop {
        let response = match frames::read_async::<Response>(stdout).await {
            Ok(response) => response,
            Err(error) => {
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    tracing::warn!(host = shared.label, %error, "invalid message from a vix-host process");
                }
                return;
            }
        };
        let caller = shared
            .waiting()
            .as_mut()
            .and_then(|waiting| waiting.remove(&response.id));
        if let Some(caller) = caller {
            // A caller that is gone does not want to know.
            let _ = caller.send(response);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf, time::Instant};

    use virtuozo_disk::vmware::lock::process_start;

    use super::*;

    /// A process that runs a line of shell instead of serving; it writes its pid to a file first.
    fn shell(line: &str) -> (tempfile::TempDir, PathBuf, ChildProcess) {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let line = format!("echo $$ > {}; {line}", pid_file.display());
        let mut child = ChildProcess::start(
            "alpha",
            Path::new("/bin/sh"),
            &["-c".into(), line.into()],
            Path::new("/none"),
            Instruments::default(),
        )
        .unwrap();
        child.grace = Duration::from_millis(100);
        (dir, pid_file, child)
    }

    async fn pid(file: &Path) -> u32 {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(pid) = fs::read_to_string(file)
                .ok()
                .and_then(|text| text.trim().parse().ok())
            {
                return pid;
            }
            assert!(Instant::now() < deadline, "the process did not start");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn gone(pid: u32) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while process_start(pid).is_some() {
            assert!(Instant::now() < deadline, "the process {pid} did not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_hung_process_is_killed_and_every_call_on_it_fails() {
        let (_dir, file, child) = shell("exec sleep 600");
        let pid = pid(&file).await;
        let long = Duration::from_secs(600);
        let (short, other) = tokio::join!(
            child.call(Duration::from_millis(50), Operation::Probe),
            child.call(long, Operation::Probe),
        );
        for error in [short.unwrap_err(), other.unwrap_err()] {
            assert_eq!(error.kind, ErrorKind::ConnectionLost);
            assert_eq!(error.class, ErrorClass::Retry);
        }
        gone(pid).await;
        let late = child.call(long, Operation::Probe).await.unwrap_err();
        assert_eq!(late.kind, ErrorKind::ConnectionLost);
    }

    #[tokio::test]
    async fn a_process_that_dies_or_talks_nonsense_loses_its_calls_at_once() {
        for line in [
            "exit 1",
            "kill -SEGV $$",
            "printf 'this is no frame'; exec sleep 600",
        ] {
            let (_dir, _file, child) = shell(line);
            let before = Instant::now();
            let error = child
                .call(Duration::from_secs(600), Operation::Probe)
                .await
                .unwrap_err();
            assert_eq!(error.kind, ErrorKind::ConnectionLost, "{line}");
            assert!(before.elapsed() < Duration::from_secs(60), "{line}");
        }
    }

    #[tokio::test]
    async fn dropping_the_connection_ends_the_process() {
        let (_dir, file, child) = shell("exec cat");
        let pid = pid(&file).await;
        drop(child);
        gone(pid).await;
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_started_is_an_error_that_names_it() {
        let program = Path::new("/no/program");
        let library = Path::new("/none");
        let instruments = Instruments::default();
        let error = ChildProcess::start("alpha", program, &[], library, instruments)
            .err()
            .unwrap();
        assert!(error.message.contains("/no/program"), "{error}");
    }
}
