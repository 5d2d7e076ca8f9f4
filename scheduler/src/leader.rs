//! What the leading scheduler does besides others: a task for each part, all driven in the same way.
//!
//! A task is activated again and again while this scheduler leads. One that fails holds up no other: its error is
//! logged once, and it is activated again after a delay that grows. Each task has a heartbeat of its own in the
//! process's liveness.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use virtuozo_postgres::{StoreError, count_error};
use virtuozo_runtime::{Backoff, BackoffPolicy, Health, LIMITS};

/// The present term of office: a number that grows with every taking of the lead; none while another scheduler leads
/// or it is uncertain who does.
pub(crate) type Term = Option<u64>;

/// Why a task could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    /// What the database says.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Whoever found it has logged it.
    #[error("{0}")]
    Logged(String),
}

/// When a task is to be activated again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// After its usual pause.
    Later,
    /// At once: there is more to do.
    AtOnce,
}

/// A part of what the leading scheduler does.
pub(crate) trait LeaderTask: Send + 'static {
    /// What it does, for logs and liveness.
    const NAME: &'static str;
    /// The pause between two activations.
    const EVERY: Duration;
    /// How long an activation may take.
    const LIMIT: Duration = LIMITS.leader.activation;
    /// The longest pause after failures.
    const LONGEST_PAUSE: Duration = LIMITS.leader.failure_pause;
    /// A notification from the database ends its pause.
    const IS_WOKEN: bool = false;
    /// It is activated once more when the scheduler ends.
    const HAS_LAST: bool = false;

    /// Does what is to be done now.
    fn activate(&mut self) -> impl Future<Output = Result<Next, TaskError>> + Send;

    /// This scheduler does not lead any more, or it is uncertain whether it does. What is known of the time of its
    /// leadership may be wrong from now on.
    fn lost_leadership(&mut self) {}
}

/// The tasks of one scheduler.
pub(crate) struct LeaderTasks {
    health: Health,
    term: watch::Receiver<Term>,
    wakeups: watch::Receiver<u64>,
    stop: CancellationToken,
    refused: Refused,
    running: JoinSet<()>,
}

/// The tasks whose last activation the database refused.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refused {
    names: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Refused {
    /// Whether the database refused what one of the tasks did last.
    pub(crate) fn any(&self) -> bool {
        !self.names().is_empty()
    }

    fn set(&self, name: &'static str, is_refused: bool) {
        if is_refused {
            self.names().insert(name);
        } else {
            self.names().remove(name);
        }
    }

    fn names(&self) -> parking_lot::MutexGuard<'_, BTreeSet<&'static str>> {
        self.names.lock()
    }
}

impl LeaderTasks {
    /// No tasks yet. They are activated while `term` is some, until `stop`; a change of `wakeups` ends their pauses.
    pub(crate) fn new(
        health: Health,
        term: watch::Receiver<Term>,
        wakeups: watch::Receiver<u64>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            health,
            term,
            wakeups,
            stop,
            refused: Refused::default(),
            running: JoinSet::new(),
        }
    }

    /// Drives a task from now on.
    pub(crate) fn spawn<T: LeaderTask>(&mut self, task: T) {
        let driver = Driver {
            task,
            health: self.health.clone(),
            term: self.term.clone(),
            wakeups: self.wakeups.clone(),
            stop: self.stop.clone(),
            refused: self.refused.clone(),
            backoff: Backoff::new(BackoffPolicy::doubling(
                T::EVERY,
                T::LONGEST_PAUSE.max(T::EVERY),
            )),
            is_logged: false,
            led: None,
        };
        self.running.spawn(driver.run());
    }

    /// The tasks whose last activation the database refused.
    pub(crate) fn refused(&self) -> Refused {
        self.refused.clone()
    }

    /// Waits until all tasks have ended, once they are to stop. Within a limit they do: an activation that is under way
    /// has `LIMITS.leader.under_way`, the last one `LIMITS.leader.last`.
    pub(crate) async fn ended(mut self) {
        while let Some(ended) = self.running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the leading scheduler has ended by a panic");
            }
        }
    }
}

struct Driver<T> {
    task: T,
    health: Health,
    term: watch::Receiver<Term>,
    wakeups: watch::Receiver<u64>,
    stop: CancellationToken,
    refused: Refused,
    backoff: Backoff,
    /// The present failure is logged.
    is_logged: bool,
    /// The term in which the task was activated last.
    led: Term,
}

impl<T: LeaderTask> Driver<T> {
    async fn run(mut self) {
        let turns = self.health.liveness.watch(
            T::NAME,
            T::LIMIT + T::LONGEST_PAUSE.max(T::EVERY) + 6 * LIMITS.leader.idle_turn,
        );
        loop {
            turns.turned();
            if self.stop.is_cancelled() {
                break;
            }
            let pause = if self.leads() {
                self.turn().await
            } else {
                LIMITS.leader.idle_turn
            };
            self.pause(pause).await;
        }
        if T::HAS_LAST && self.leads() {
            let last = async {
                while self.task.activate().await? == Next::AtOnce {}
                Ok::<_, TaskError>(())
            };
            if !matches!(
                tokio::time::timeout(LIMITS.leader.last, last).await,
                Ok(Ok(()))
            ) {
                tracing::debug!(task = T::NAME, "the rest is left to the next leader");
            }
        }
        if self.led.is_some() {
            self.task.lost_leadership();
        }
        self.refused.set(T::NAME, false);
    }

    /// Whether this scheduler leads. The task hears of it if the term is not that of its last activation.
    fn leads(&mut self) -> bool {
        let term = *self.term.borrow_and_update();
        if self.led.is_some() && self.led != term {
            self.task.lost_leadership();
            self.led = None;
        }
        term.is_some()
    }

    /// One activation; how long to wait after it.
    async fn turn(&mut self) -> Duration {
        self.led = *self.term.borrow();
        let asked_at = Instant::now();
        let activation = tokio::time::timeout(T::LIMIT, self.task.activate());
        let stop = &self.stop;
        let done = tokio::select! {
            done = activation => done.unwrap_or(Err(StoreError::Silent { limit: T::LIMIT }.into())),
            () = told_to_end(stop) => return Duration::ZERO,
        };
        match done {
            Ok(next) => {
                self.refused.set(T::NAME, false);
                if self.backoff.has_failed() {
                    self.health.availability.answered(asked_at);
                    self.backoff.reset();
                    if std::mem::take(&mut self.is_logged) {
                        tracing::info!(task = T::NAME, "the leader's task works again");
                    }
                }
                match next {
                    Next::Later => T::EVERY,
                    Next::AtOnce => Duration::ZERO,
                }
            }
            Err(error) => self.failed(&error, asked_at),
        }
    }

    /// Logs an error once; how long to wait after it.
    fn failed(&mut self, error: &TaskError, asked_at: Instant) -> Duration {
        let pause = self.backoff.next();
        if let TaskError::Store(store) = error {
            count_error(&self.health.availability, store);
            self.refused.set(T::NAME, !store.is_unavailable());
        }
        match error {
            TaskError::Store(store) if store.is_unavailable() => {
                self.health.availability.no_answer(T::NAME, asked_at, store);
            }
            TaskError::Store(_) if !self.is_logged => {
                self.is_logged = true;
                tracing::warn!(task = T::NAME, %error, "a task of the leader has failed; trying again");
            }
            _ => tracing::debug!(task = T::NAME, %error, "a task of the leader has failed again"),
        }
        pause
    }

    /// Waits, but for no longer than until the scheduler is to stop or the lead changes; if the task is well, no longer
    /// than until it is woken.
    async fn pause(&mut self, pause: Duration) {
        if pause.is_zero() {
            return;
        }
        let is_woken = T::IS_WOKEN && !self.backoff.has_failed();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.stop.cancelled() => {}
            Ok(()) = self.term.changed() => {}
            Ok(()) = self.wakeups.changed(), if is_woken => {}
        }
    }
}

/// Some time after `stop`: what is under way then has had its time.
async fn told_to_end(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LIMITS.leader.under_way).await;
}

#[cfg(test)]
mod tests;
