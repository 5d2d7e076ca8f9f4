//! The line of work in a process of files to the one that waits for it.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
    sync::Arc,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use serde_json::Value;
use virtuozo_runtime::LIMITS;

use crate::{
    frames,
    messages::{FromProcess, Within, millis},
};

/// What a process of files does: work, by its name and request, to its answer. It blocks.
pub type Handler = Arc<dyn Fn(&str, Value, &Line) -> Value + Send + Sync>;

/// Nobody waits for the work any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody waits for it any more")]
pub struct NotAllowed;

/// What work says and hears. It is used by all threads of the work.
pub struct Line {
    output: Mutex<Box<dyn Write + Send>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// The other side is gone.
    closed: bool,
    allowed: Allowed,
    /// The number of the next question, or of what is waited for.
    next: u64,
    answers: HashMap<u64, Value>,
    /// What threads are in, in the order of its beginning.
    within: BTreeMap<u64, Within>,
    /// What the work as a whole is in.
    phase: String,
}

#[derive(Debug, Clone, Copy)]
enum Allowed {
    ToTheEnd,
    /// By the clock that goes on while the machine sleeps.
    Until(Duration),
}

impl Line {
    pub(crate) fn new(output: Box<dyn Write + Send>) -> Self {
        Self {
            output: Mutex::new(output),
            state: Mutex::new(State {
                closed: false,
                allowed: Allowed::ToTheEnd,
                next: 0,
                answers: HashMap::new(),
                within: BTreeMap::new(),
                phase: String::new(),
            }),
            changed: Condvar::new(),
        }
    }

    /// Tells news.
    pub fn tell(&self, news: &impl Serialize) {
        if let Ok(news) = serde_json::to_value(news) {
            self.send(&FromProcess::News(news));
        }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// Nobody will answer.
    pub fn ask(&self, about: &impl Serialize) -> Result<Value, NotAllowed> {
        let about = serde_json::to_value(about).map_err(|_| NotAllowed)?;
        let question = self.number();
        self.send(&FromProcess::Question { question, about });
        let mut state = self.state.lock();
        loop {
            if let Some(answer) = state.answers.remove(&question) {
                return Ok(answer);
            }
            if state.closed {
                return Err(NotAllowed);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Waits until the work may go on.
    ///
    /// # Errors
    /// It is to end.
    pub fn wait_allowed(&self) -> Result<(), NotAllowed> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return Err(NotAllowed);
            }
            match state.allowed {
                Allowed::ToTheEnd => return Ok(()),
                Allowed::Until(until) if since_boot() < until => return Ok(()),
                Allowed::Until(_) => self.changed.wait(&mut state),
            }
        }
    }

    /// The work as a whole is now in this: what does not answer if nothing moves, as the subject of a sentence, such as
    /// `writes to /srv/backup`.
    pub fn phase(&self, what: impl Into<String>) {
        self.state.lock().phase = what.into();
    }

    /// This thread is in this until the value is dropped. It may stand still for `beyond` longer than the limit.
    pub fn within(&self, what: &str, beyond: Duration) -> InWait<'_> {
        let number = self.number();
        let within = Within {
            what: what.to_owned(),
            beyond_ms: millis(beyond),
        };
        self.state.lock().within.insert(number, within);
        InWait { line: self, number }
    }

    /// How long a sync of so many bytes may stand still beyond the limit.
    pub fn for_sync(unsynced_bytes: u64) -> Duration {
        Duration::from_millis(unsynced_bytes.saturating_mul(1000) / LIMITS.files.sync_bytes_per_sec)
    }

    pub(crate) fn waits_longest_for(&self) -> Within {
        let state = self.state.lock();
        match state.within.first_key_value() {
            Some((_, within)) => Within {
                // A sync that another thread is in may hold up the one that began to wait before it.
                beyond_ms: state
                    .within
                    .values()
                    .map(|one| one.beyond_ms)
                    .max()
                    .unwrap_or(0),
                ..within.clone()
            },
            None => Within {
                what: state.phase.clone(),
                beyond_ms: 0,
            },
        }
    }

    pub(crate) fn begin(&self, allowed_ms: Option<u64>) {
        let mut state = self.state.lock();
        state.answers.clear();
        state.within.clear();
        state.phase.clear();
        state.allowed = match allowed_ms {
            None => Allowed::ToTheEnd,
            Some(ms) => until(ms),
        };
    }

    pub(crate) fn allow(&self, allowed_ms: u64) {
        self.state.lock().allowed = until(allowed_ms);
        self.changed.notify_all();
    }

    pub(crate) fn answer(&self, question: u64, answer: Value) {
        self.state.lock().answers.insert(question, answer);
        self.changed.notify_all();
    }

    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    pub(crate) fn send(&self, message: &FromProcess) {
        let Ok(frame) = frames::encode(message) else {
            return;
        };
        // Nobody listens any more: the input ends just now.
        let _ = self.output.lock().write_all(&frame);
    }

    /// Says nothing more, so that the other side does not wait.
    pub(crate) fn hang_up(&self) {
        self.close();
        *self.output.lock() = Box::new(std::io::sink());
    }

    fn number(&self) -> u64 {
        let mut state = self.state.lock();
        state.next += 1;
        state.next
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

fn until(ms: u64) -> Allowed {
    Allowed::Until(match ms {
        0 => Duration::ZERO,
        ms => since_boot().saturating_add(Duration::from_millis(ms)),
    })
}

/// By the clock that goes on while the machine sleeps, as leases are counted.
fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// That a thread is in something that may not answer, until it is dropped.
#[derive(Debug)]
pub struct InWait<'a> {
    line: &'a Line,
    number: u64,
}

impl Drop for InWait<'_> {
    fn drop(&mut self) {
        self.line.state.lock().within.remove(&self.number);
    }
}
