//! The processes of files of one process of ours. Each does one work at a time; one that is done waits for the next.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::net::UnixStream;

use crate::{
    connection::Connection,
    error::FileError,
    idle::Idle,
    line::{Handler, Line},
    messages::{ToProcess, millis},
    running::{Event, Running},
    serve,
    start::{LeftBehind, start},
};

/// The processes that read and write files for this process, or threads in their place.
#[derive(Clone)]
pub struct FileProcesses(Arc<Inner>);

struct Inner {
    way: Way,
    idle: Idle,
    left_behind: LeftBehind,
}

enum Way {
    /// `program arguments…` runs [`run_file_process`](crate::run_file_process).
    Processes {
        program: PathBuf,
        arguments: Vec<OsString>,
    },
    /// Threads of this process. They cannot be killed, and their silence is not judged.
    Threads(Handler),
}

impl FileProcesses {
    /// Processes `program arguments…`, which run [`run_file_process`](crate::run_file_process).
    pub fn new(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        Self::by(Way::Processes {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
        })
    }

    /// Threads of this process, for files that always answer.
    pub fn threads(handler: Handler) -> Self {
        Self::by(Way::Threads(handler))
    }

    fn by(way: Way) -> Self {
        Self(Arc::new(Inner {
            way,
            idle: Idle::default(),
            left_behind: LeftBehind::default(),
        }))
    }

    /// The processes that did not end when they were killed.
    pub fn left_behind(&self) -> &LeftBehind {
        &self.0.left_behind
    }

    /// Begins work. Nothing may stand still in it for longer than `limit`; with `allowed`, it waits after that time until it
    /// is [allowed](Running::allow) to go on.
    ///
    /// # Errors
    /// No process can be started for it.
    pub fn begin(
        &self,
        work: &str,
        request: &impl Serialize,
        limit: Duration,
        allowed: Option<Duration>,
    ) -> Result<Running, FileError> {
        let request = serde_json::to_value(request).map_err(FileError::not_understood)?;
        let (connection, limit) = match &self.0.way {
            Way::Threads(handler) => (self.thread(Arc::clone(handler))?, None),
            Way::Processes { program, arguments } => {
                let connection = match self.0.idle.take() {
                    Some(connection) => connection,
                    None => {
                        let started = start(program, arguments, &[]).map_err(|error| {
                            FileError::NotStarted {
                                why: format!("{}: {error}", program.display()),
                            }
                        })?;
                        Connection::to_process(started, self.0.left_behind.clone())
                    }
                };
                (connection, Some(limit))
            }
        };
        self.on(connection, work, request, limit, allowed)
    }

    /// Begins work on a thread of this process, for what cannot be told another one. Its silence is not judged.
    ///
    /// # Errors
    /// No thread can be started for it.
    pub fn begin_here(
        &self,
        work: impl FnOnce(&Line) -> Value + Send + 'static,
        allowed: Option<Duration>,
    ) -> Result<Running, FileError> {
        let work = Mutex::new(Some(work));
        let handler: Handler = Arc::new(move |_, _, line| {
            let work = work.lock().take();
            work.map_or(Value::Null, |work| work(line))
        });
        self.on(self.thread(handler)?, "here", Value::Null, None, allowed)
    }

    /// Does work that neither asks nor tells anything, and returns its answer.
    ///
    /// # Errors
    /// The work was lost.
    pub async fn call<A: DeserializeOwned>(
        &self,
        work: &str,
        request: &impl Serialize,
        limit: Duration,
    ) -> Result<A, FileError> {
        let mut running = self.begin(work, request, limit, None)?;
        loop {
            if let Event::Done(answer) = running.next().await? {
                return serde_json::from_value(answer).map_err(FileError::not_understood);
            }
        }
    }

    fn on(
        &self,
        connection: Connection,
        work: &str,
        request: Value,
        limit: Option<Duration>,
        allowed: Option<Duration>,
    ) -> Result<Running, FileError> {
        let mut running = Running::new(connection, limit, self.0.idle.clone());
        running.say(&ToProcess::Begin {
            work: work.to_owned(),
            request,
            allowed_ms: allowed.map(millis),
        })?;
        Ok(running)
    }

    fn thread(&self, handler: Handler) -> Result<Connection, FileError> {
        let not_started = |error: io::Error| FileError::NotStarted {
            why: error.to_string(),
        };
        let (here, there) = UnixStream::pair().map_err(not_started)?;
        let there = there.into_std().map_err(not_started)?;
        there.set_nonblocking(false).map_err(not_started)?;
        let input = there.try_clone().map_err(not_started)?;
        thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || {
                let line = Arc::new(Line::new(Box::new(there)));
                serve::serve(input, &line, &Arc::new(AtomicBool::new(false)), &handler);
            })
            .map_err(not_started)?;
        Ok(Connection::to_thread(here))
    }
}

impl std::fmt::Debug for FileProcesses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileProcesses")
            .field("left_behind", &self.0.left_behind)
            .finish_non_exhaustive()
    }
}
