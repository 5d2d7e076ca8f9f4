//! The `vix-host` process: loads the VIX library, holds one host connection and serves requests from
//! its standard input until that ends.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::Write,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use rustix::process::{Signal, getpid, kill_process};
use virtuozo_child_process::{frames, take_stdio};
use vix_sys::Vix;

use super::{
    super::session::{Session, Snapshots},
    calls,
    protocol::{Answer, Operation, Request, Response},
};
use crate::{ErrorClass, ErrorKind, HypervisorError, Result, vix::limits::LIMITS};

/// Runs the process behind one host connection: `virtuozo vix-host --library PATH`. Returns when
/// standard input ends; a library that hangs then is killed with the process.
pub fn run_vix_host() -> ExitCode {
    let Some(library) = library_argument(env::args_os()) else {
        eprintln!("vix-host is started by a worker, with --library PATH");
        return ExitCode::from(2);
    };
    let (requests, responses) = match take_stdio() {
        Ok(pipes) => pipes,
        Err(error) => {
            eprintln!("vix-host cannot use its standard input and output: {error}");
            return ExitCode::FAILURE;
        }
    };
    let server = Arc::new(Server {
        library,
        vix: OnceLock::new(),
        session: OnceLock::new(),
        responses: Mutex::new(responses),
    });
    serve(requests, &server);
    server.leave();
    // The library's threads and exit handlers may hang; nothing of theirs is worth waiting for.
    let _ = kill_process(getpid(), Signal::KILL);
    ExitCode::SUCCESS
}

/// The value of `--library`.
fn library_argument(arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let mut arguments = arguments.skip_while(|argument| argument != "--library");
    arguments.next()?;
    arguments.next().map(PathBuf::from)
}

/// Reads requests until the other side is gone, each served on a thread of its own.
fn serve(mut requests: File, server: &Arc<Server>) {
    while let Ok(request) = frames::read::<Request>(&mut requests) {
        let own = Arc::clone(server);
        let id = request.id;
        let started = thread::Builder::new()
            .name(format!("request {id}"))
            .spawn(move || {
                let last = matches!(request.operation, Operation::Disconnect);
                let answer = own.answer(request);
                own.respond(&Response {
                    id,
                    answer,
                    calls: calls::take(),
                });
                if last {
                    let _ = kill_process(getpid(), Signal::KILL);
                }
            });
        if let Err(error) = started {
            server.respond(&Response {
                id,
                answer: Err(HypervisorError::new(
                    ErrorKind::Other,
                    ErrorClass::Retry,
                    format!("cannot start a thread for a VIX call: {error}"),
                )),
                calls: Vec::new(),
            });
        }
    }
}

struct Server {
    library: PathBuf,
    /// Loaded once and never unloaded: the library has threads of its own.
    vix: OnceLock<std::result::Result<&'static Vix, String>>,
    session: OnceLock<Session>,
    responses: Mutex<File>,
}

impl Server {
    fn respond(&self, response: &Response) {
        let frame = frames::encode(response).or_else(|error| {
            frames::encode(&Response {
                id: response.id,
                answer: Err(HypervisorError::new(
                    ErrorKind::Other,
                    ErrorClass::Retry,
                    error.to_string(),
                )),
                calls: Vec::new(),
            })
        });
        if let Ok(frame) = frame {
            let mut responses = self.responses.lock();
            // Nobody reads any more: the loop of requests ends just now.
            let _ = responses.write_all(&frame);
        }
    }

    fn vix(&self) -> Result<&'static Vix> {
        self.vix
            .get_or_init(|| {
                Vix::load(&self.library)
                    .map(|vix| &*Box::leak(Box::new(vix)))
                    .map_err(|error| error.to_string())
            })
            .clone()
            .map_err(|message| {
                HypervisorError::new(ErrorKind::LibraryMissing, ErrorClass::Elsewhere, message)
            })
    }

    fn session(&self) -> Result<&Session> {
        self.session.get().ok_or_else(|| {
            HypervisorError::new(
                ErrorKind::Other,
                ErrorClass::Permanent,
                "a request came before the connection to the host",
            )
        })
    }

    fn answer(self: &Arc<Self>, request: Request) -> Result<Answer> {
        let limit = Duration::from_millis(request.limit_ms);
        match request.operation {
            Operation::Probe => {
                let vix = self.vix()?;
                Ok(Answer::Text(format!(
                    "{} (answers: {})",
                    self.library.display(),
                    Session::greeting(vix)
                )))
            }
            Operation::TakePart(provider) => {
                Session::take_part(self.vix()?, provider, limit).map(|()| Answer::Done)
            }
            Operation::Connect(to) => {
                let session = Session::connect(
                    self.vix()?,
                    &to.label,
                    to.provider,
                    to.address.as_deref(),
                    to.user.as_deref(),
                    to.password.as_ref(),
                    limit,
                )?;
                if let Err(second) = self.session.set(session) {
                    second.disconnect();
                }
                Ok(Answer::Done)
            }
            Operation::Find(what) => self.session()?.find(what, limit).map(Answer::List),
            Operation::PowerBits { vmx_path } => self
                .session()?
                .power_bits(&vmx_path, limit)
                .map(Answer::Number),
            Operation::ToolsRunning { vmx_path } => self
                .session()?
                .tools_running(&vmx_path, limit)
                .map(Answer::Flag),
            Operation::PowerOn { vmx_path } => self
                .session()?
                .power_on(&vmx_path, limit)
                .map(|()| Answer::Done),
            Operation::PowerOff { vmx_path, soft } => self
                .session()?
                .power_off(&vmx_path, soft, limit)
                .map(|()| Answer::Done),
            Operation::Snapshots { vmx_path } => {
                let found = self.session()?.snapshots(&vmx_path, limit)?;
                Ok(match found {
                    Snapshots::Named(names) => Answer::List(names),
                    // There are never more than the session counts.
                    Snapshots::Unnamed(number) => {
                        Answer::Number(i32::try_from(number).unwrap_or(i32::MAX))
                    }
                })
            }
            Operation::HasSnapshot { vmx_path, name } => self
                .session()?
                .has_snapshot(&vmx_path, &name, limit)
                .map(Answer::Flag),
            Operation::CreateSnapshot {
                vmx_path,
                name,
                description,
            } => self
                .session()?
                .create_snapshot(&vmx_path, &name, &description, limit)
                .map(|()| Answer::Done),
            Operation::RemoveSnapshot { vmx_path, name } => self
                .session()?
                .remove_snapshot(&vmx_path, &name, limit)
                .map(Answer::Flag),
            Operation::Disconnect => {
                self.leave();
                Ok(Answer::Done)
            }
        }
    }

    /// Disconnects from the host, if the library lets us within `LIMITS.disconnect`.
    fn leave(self: &Arc<Self>) {
        let own = Arc::clone(self);
        let (done, wait) = mpsc::channel();
        // On a thread of its own, which is left behind if it hangs.
        let started = thread::Builder::new().spawn(move || {
            if let Some(session) = own.session.get() {
                session.disconnect();
            }
            let _ = done.send(());
        });
        if started.is_ok() {
            let _ = wait.recv_timeout(LIMITS.disconnect);
        }
    }
}
