//! Questions to a host, answered by any worker that can reach it: the question is a row, a worker takes it under a lease
//! and writes the answer into it, and who asked waits for that.

use std::time::Duration;

use serde::de::DeserializeOwned;
use sqlx::PgPool;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virtuozo_model::{
    DatastoresProposed, ErrorClass, Host, HostChecked, HostTested, ProcessKind, RequestKind,
    RequestState, Worker,
};
use virtuozo_postgres::StoreError;
use virtuozo_runtime::LIMITS;
use virtuozo_store::{
    requests::{self, NewRequest, Request},
    wakeup::WakeupListener,
    workers,
};

/// Why what was asked of a host has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The database said something else than that it does not answer, which is waited for.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody could do it.
    #[error(
        "no worker is running: start one with `virtuozo worker` or `virtuozo up`, or use --local"
    )]
    NoWorker,
    /// Workers run, and their machines lack what this kind of host needs.
    #[error("no worker that serves hosts of the kind {kind} is running: start one, or use --local{}", why_not(.why))]
    NotServed {
        /// The kind of host.
        kind: String,
        /// What the workers lack that run, as sentences.
        why: Vec<String>,
    },
    /// It was tried and failed: what the host, or the machine of the worker, has to say.
    #[error("{message}")]
    Failed {
        /// What happened, and what to do.
        message: String,
        /// What is to be done about it.
        class: ErrorClass,
    },
    /// It took too long.
    #[error("host {host} has given no answer within {secs} s: {status}")]
    TimedOut {
        /// The host.
        host: String,
        /// The limit, in seconds.
        secs: u64,
        /// How far it was.
        status: String,
    },
    /// Whoever asked has stopped waiting.
    #[error("stopped before host {0} has answered")]
    Stopped(String),
    /// The row is gone.
    #[error("host {0} was removed meanwhile")]
    Removed(String),
    /// A worker of another version has written something else.
    #[error("the answer of worker {worker} about host {host} cannot be read: {source}")]
    Answer {
        /// The host.
        host: String,
        /// Who has written it.
        worker: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

fn why_not(why: &[String]) -> String {
    match why {
        [] => String::new(),
        why => format!(" ({})", why.join("; ")),
    }
}

impl RequestError {
    /// What is to be done about it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Failed { class, .. } => *class,
            Self::Store(_) | Self::TimedOut { .. } | Self::Stopped(_) => ErrorClass::Retry,
            Self::NoWorker | Self::NotServed { .. } | Self::Removed(_) => ErrorClass::Operator,
            Self::Answer { .. } => ErrorClass::Permanent,
        }
    }
}

/// How the fleet is asked.
#[derive(Debug, Clone)]
pub struct Asking {
    /// Who asks.
    pub requested_by: String,
    /// For how long an answer is waited for.
    pub limit: Duration,
    /// Cancelled: the answer is waited for no longer.
    pub stop: CancellationToken,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered<T> {
    /// What was found.
    pub answer: T,
    /// The worker that has asked the host: `NAME on MACHINE`.
    pub worker: String,
}

/// Has a worker try the connection to a host, and changes nothing. `progress` hears how far it is.
///
/// # Errors
/// [`RequestError`].
pub async fn test_host(
    pool: &PgPool,
    host: &Host,
    asking: &Asking,
    progress: impl FnMut(&str),
) -> Result<Answered<HostTested>, RequestError> {
    ask(pool, RequestKind::HostTest, host, asking, progress).await
}

/// Has a worker hold the stored configuration of a host against the live one. What it finds is noted with the host and
/// its guests. `progress` hears how far it is.
///
/// # Errors
/// [`RequestError`].
pub async fn check_host(
    pool: &PgPool,
    host: &Host,
    asking: &Asking,
    progress: impl FnMut(&str),
) -> Result<Answered<HostChecked>, RequestError> {
    ask(pool, RequestKind::HostCheck, host, asking, progress).await
}

/// Has a worker look where the datastores of a host are on its machine; nothing is changed. `progress` hears how far it
/// is.
///
/// # Errors
/// [`RequestError`].
pub async fn propose_datastores(
    pool: &PgPool,
    host: &Host,
    asking: &Asking,
    progress: impl FnMut(&str),
) -> Result<Answered<DatastoresProposed>, RequestError> {
    ask(pool, RequestKind::DatastorePropose, host, asking, progress).await
}

async fn ask<T: DeserializeOwned>(
    pool: &PgPool,
    kind: RequestKind,
    host: &Host,
    asking: &Asking,
    progress: impl FnMut(&str),
) -> Result<Answered<T>, RequestError> {
    if let Some(nobody) = nobody_serves(&workers::list(pool).await?, host) {
        return Err(nobody);
    }
    let new = NewRequest {
        kind,
        host_id: host.id,
        requested_by: &asking.requested_by,
        wanted_secs: (asking.limit + LIMITS.services.request_grace).as_secs_f64(),
    };
    let id = requests::ask(pool, &new).await?;
    let done = wait(pool, id, host, asking, progress).await?;
    let worker = done.taken_by.unwrap_or_else(|| "unknown".to_owned());
    match serde_json::from_value(done.answer.unwrap_or_default()) {
        Ok(answer) => Ok(Answered { answer, worker }),
        Err(source) => Err(RequestError::Answer {
            host: host.name.clone(),
            worker,
            source,
        }),
    }
}

/// Why no worker that runs could do anything with a host; none if one could.
fn nobody_serves(all: &[Worker], host: &Host) -> Option<RequestError> {
    let running = all
        .iter()
        .filter(|one| one.kind == ProcessKind::Worker && one.is_alive && !one.drain_requested);
    let kind = host.kind.as_str();
    let (mut are_any, mut why) = (false, Vec::new());
    for worker in running {
        are_any = true;
        let of_kind = worker.kinds.iter().find(|one| one.kind == kind);
        let lacks = match of_kind {
            // A worker that names no kinds takes every job.
            None if worker.kinds.is_empty() => return None,
            Some(served) if served.is_served => return None,
            Some(served) => served.found.as_str(),
            None => "its program knows no hosts of this kind",
        };
        why.push(format!(
            "worker {} on {}: {lacks}",
            worker.name, worker.machine
        ));
    }
    why.sort();
    why.dedup();
    Some(match are_any {
        false => RequestError::NoWorker,
        true => RequestError::NotServed {
            kind: kind.to_owned(),
            why,
        },
    })
}

/// Waits until a request has an answer, and ends it if nobody waits any longer.
async fn wait(
    pool: &PgPool,
    id: Uuid,
    host: &Host,
    asking: &Asking,
    mut progress: impl FnMut(&str),
) -> Result<Request, RequestError> {
    let deadline = Instant::now() + asking.limit;
    let mut wake = WakeupListener::by_requests(pool.clone());
    let mut status;
    let mut has_looked = false;
    loop {
        status = match look(pool, id, host).await {
            Ok(Look::Done(done)) => return Ok(done),
            Ok(Look::Open(status)) => status,
            // It goes on without us, so does the waiting.
            Err(RequestError::Store(error)) if error.is_unavailable() => {
                format!("{error}; still waiting")
            }
            Err(error) => return Err(error),
        };
        // What is answered at once needs no words before that.
        if std::mem::replace(&mut has_looked, true) {
            progress(&status);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        tokio::select! {
            _ = wake.pause(LIMITS.services.request_look_every.min(left)) => {}
            () = asking.stop.cancelled() => {
                give_up(pool, id).await;
                return Err(RequestError::Stopped(host.name.clone()));
            }
        }
    }
    give_up(pool, id).await;
    // It may have ended just before.
    if let Ok(Look::Done(done)) = look(pool, id, host).await {
        return Ok(done);
    }
    Err(RequestError::TimedOut {
        host: host.name.clone(),
        secs: asking.limit.as_secs(),
        status,
    })
}

/// A request that cannot be ended ends by itself when nobody wants it any more.
async fn give_up(pool: &PgPool, id: Uuid) {
    let _ = timeout(LIMITS.services.request_cancel, requests::cancel(pool, id)).await;
}

enum Look {
    Done(Request),
    /// How far it is.
    Open(String),
}

async fn look(pool: &PgPool, id: Uuid, host: &Host) -> Result<Look, RequestError> {
    let removed = || RequestError::Removed(host.name.clone());
    let request = requests::get(pool, id).await?.ok_or_else(removed)?;
    Ok(match request.state {
        RequestState::Succeeded => Look::Done(request),
        RequestState::Failed => {
            let word = request.error_class.as_deref();
            let class = ErrorClass::ALL
                .into_iter()
                .find(|class| Some(class.as_str()) == word);
            return Err(RequestError::Failed {
                message: request.error.unwrap_or_default(),
                class: class.unwrap_or(ErrorClass::Permanent),
            });
        }
        RequestState::Running => {
            let worker = request.taken_by.as_deref().unwrap_or("unknown");
            Look::Open(format!("worker {worker} asks the host"))
        }
        RequestState::Waiting | RequestState::Cancelled => {
            let nobody = nobody_serves(&workers::list(pool).await?, host);
            Look::Open(match (nobody, request.taken_by) {
                (Some(nobody), _) => nobody.to_string(),
                (None, Some(worker)) => {
                    format!("worker {worker} gave it up; another one is waited for")
                }
                (None, None) => {
                    "no worker has taken it yet: those that serve its kind are busy".to_owned()
                }
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use virtuozo_model::{HostState, KindServed, Pause};

    use super::*;

    fn host() -> Host {
        Host {
            id: Uuid::nil(),
            name: "alpha".into(),
            kind: "esxi".parse().unwrap(),
            address: None,
            user_name: None,
            has_password: false,
            properties: Default::default(),
            ignored: false,
            guest_threads: None,
            state: HostState::Unknown,
            state_reason: None,
            checked_at: None,
            pause: Pause {
                paused_since: None,
                paused_by: None,
                paused_with_all: false,
            },
        }
    }

    fn worker(kinds: &[(&str, bool)]) -> Worker {
        let kinds = kinds.iter().map(|(kind, is_served)| KindServed {
            kind: (*kind).to_owned(),
            is_served: *is_served,
            found: "libvix.so is missing".to_owned(),
        });
        Worker {
            lacks: Vec::new(),
            id: Uuid::nil(),
            kind: ProcessKind::Worker,
            name: "one".into(),
            machine: "mars".into(),
            pid: 1,
            version: "0".into(),
            started_at: Utc::now(),
            heartbeat_at: Utc::now(),
            silent_secs: 0.0,
            is_alive: true,
            stopped_at: None,
            drain_requested: false,
            kinds: kinds.collect(),
        }
    }

    fn said(workers: &[Worker]) -> Option<String> {
        nobody_serves(workers, &host()).map(|error| error.to_string())
    }

    #[test]
    fn a_worker_serves_a_host_if_its_machine_has_what_the_kind_needs() {
        assert_eq!(said(&[worker(&[("esxi", true)])]), None);
        assert_eq!(
            said(&[worker(&[("esxi", false)]), worker(&[("esxi", true)])]),
            None
        );
        let lacking = said(&[worker(&[("esxi", false), ("server2", true)])]).unwrap();
        assert!(
            lacking.contains("kind esxi") && lacking.contains("one on mars: libvix.so"),
            "{lacking}"
        );
        let other = said(&[worker(&[("server2", true)])]).unwrap();
        assert!(other.contains("knows no hosts of this kind"), "{other}");
    }

    #[test]
    fn who_is_silent_or_drains_or_schedules_is_no_worker_to_ask() {
        let serves = || worker(&[("esxi", true)]);
        let silent = Worker {
            is_alive: false,
            ..serves()
        };
        let draining = Worker {
            drain_requested: true,
            ..serves()
        };
        let scheduler = Worker {
            kind: ProcessKind::Scheduler,
            ..serves()
        };
        let none = said(&[silent, draining, scheduler]).unwrap();
        assert!(
            none.contains("no worker is running") && none.contains("--local"),
            "{none}"
        );
    }
}
