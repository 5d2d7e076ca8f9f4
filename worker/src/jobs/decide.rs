//! What becomes of a run, or of an obligation, after an attempt that did not succeed.

use virtuozo_model::StepName;
use virtuozo_model::{ErrorClass, Severity};
use virtuozo_store::{events::NewEvent, guest_runs::Ending, obligations::UndoAction};
use virtuozo_telemetry::metrics::Outcome;

use crate::error::{StepError, Stop};

/// From this many failures on, people are told that a guest is not brought back, each time.
pub(super) const LOUD_FROM: i32 = 3;

/// What the attempt was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject<'a> {
    /// The backup of a guest, by its name.
    Guest(&'a str),
    /// The validation of a host, by its name.
    Host(&'a str),
    /// An obligation to a guest. It is tried until it is met.
    Obligation(&'a str, UndoAction<'a>),
    /// What somebody has asked of a host, by its name, and waits to hear. They are told themselves.
    Request(&'a str),
}

/// The attempt, without the error that ended it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) subject: Subject<'a>,
    /// The step that failed; none outside of steps.
    pub(super) step: Option<StepName>,
    /// Its number, from 1.
    pub(super) number: i32,
    /// How many there may be.
    pub(super) limit: i32,
    /// The next attempt could go on after the steps that are done.
    pub(super) keeps_steps: bool,
    /// Somebody wants the run to end.
    pub(super) is_cancelled: bool,
    /// The machine lacks something, and another worker runs that may have it.
    pub(super) leaves_to_others: bool,
    /// Earlier copies of this guest run that did not read back as they were written.
    pub(super) bad_copies_before: i64,
    /// The pause before a next attempt, in seconds.
    pub(super) delay_secs: f64,
    /// The error, and what was found out about it since.
    pub(super) message: &'a str,
}

/// What becomes of it.
#[derive(Debug)]
pub(super) struct Decision {
    /// The change of state.
    pub(super) ending: Ending,
    /// What is recorded as its reason; none where nothing has failed.
    pub(super) failure: Option<ErrorClass>,
    /// What people are told; none if that comes from elsewhere.
    pub(super) event: Option<NewEvent>,
    /// How loud the log is about it.
    pub(super) log: Loudness,
    /// What is counted.
    pub(super) outcome: Outcome,
}

/// How loud the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loudness {
    /// It went as somebody wanted, or will go on by itself.
    Info,
    /// It failed, and is tried again.
    Warn,
    /// It failed for good.
    Error,
}

impl Decision {
    /// Says it in the log.
    pub(super) fn log(&self, attempt: &Attempt<'_>) {
        let step = attempt.step.map(StepName::as_str);
        let reason = attempt.message;
        let (guest, host) = match attempt.subject {
            Subject::Guest(name) | Subject::Obligation(name, _) => (Some(name), None),
            Subject::Host(name) | Subject::Request(name) => (None, Some(name)),
        };
        match self.log {
            Loudness::Info => tracing::info!(guest, host, step, reason, "attempt ended"),
            Loudness::Warn => {
                tracing::warn!(guest, host, step, error = reason, "attempt failed");
            }
            Loudness::Error => tracing::error!(guest, host, step, error = reason, "backup failed"),
        }
    }
}

impl Subject<'_> {
    /// The kind of thing, and its name.
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Guest(name) | Self::Obligation(name, _) => ("guest", name),
            Self::Host(name) | Self::Request(name) => ("host", name),
        }
    }
}

/// Decides by the error and the circumstances alone. A lost lease is nobody's to decide about: its run is another
/// worker's.
pub(super) fn decide(error: &StepError, attempt: &Attempt<'_>) -> Decision {
    match error {
        StepError::Stop(Stop::Cancelled) => cancelled(attempt, &in_step(attempt)),
        StepError::HostDown(_) if attempt.is_cancelled => cancelled(
            attempt,
            match attempt.subject {
                Subject::Host(_) | Subject::Request(_) => " while it does not answer",
                Subject::Guest(_) | Subject::Obligation(..) => " while its host does not answer",
            },
        ),
        StepError::HostDown(down) if !down.is_given_up() || attempt.is_endless() => {
            waits_for_host(error.class(), attempt)
        }
        StepError::HostDown(_) => failed(Ending::HostGivenUp, error.class(), attempt),
        StepError::Stop(Stop::Draining | Stop::Fenced) => handed_over_by_stopping(attempt),
        StepError::BadCopy(bad) => {
            let detail = serde_json::json!({
                "repository": bad.repository,
                "file": bad.file,
                "problems": bad.problems,
            });
            let mut decision = if attempt.bad_copies_before == 0 {
                begins_again_after_bad_copy(attempt)
            } else {
                // Its storage does not heal by itself.
                failed(Ending::Failed, ErrorClass::Operator, attempt)
            };
            decision.event = decision.event.map(|event| event.detail(detail));
            decision
        }
        _ if attempt.leaves_to_others && !attempt.is_endless() => handed_over_to_others(attempt),
        _ if attempt.is_endless() => tried_until_done(error.class(), attempt),
        _ if error.class().may_heal() && attempt.number < attempt.limit => {
            tried_again(error.class(), attempt)
        }
        _ => failed(Ending::Failed, error.class(), attempt),
    }
}

impl Attempt<'_> {
    fn is_endless(&self) -> bool {
        matches!(self.subject, Subject::Obligation(..))
    }

    /// An event about the subject.
    fn user_event(&self, severity: Severity, what: &str) -> Option<NewEvent> {
        Some(NewEvent::user(severity, self.says(what)))
    }

    fn says(&self, what: &str) -> String {
        let (kind, name) = self.subject.parts();
        format!("{kind} {name}: {what}")
    }
}

fn in_step(attempt: &Attempt<'_>) -> String {
    attempt
        .step
        .map_or(String::new(), |step| format!(" in step {step}"))
}

fn cancelled(attempt: &Attempt<'_>, when: &str) -> Decision {
    Decision {
        ending: Ending::Cancelled,
        failure: None,
        event: attempt.user_event(Severity::Warning, &format!("cancelled{when}")),
        log: Loudness::Info,
        outcome: Outcome::Cancelled,
    }
}

fn waits_for_host(class: ErrorClass, attempt: &Attempt<'_>) -> Decision {
    let text = attempt.says(&format!(
        "waits until its host answers: {}",
        attempt.message
    ));
    Decision {
        ending: Ending::WaitsForHost,
        failure: Some(class),
        // The circuit breaker has told people about the host.
        event: (!attempt.is_endless()).then(|| NewEvent::threading(text)),
        log: Loudness::Info,
        outcome: Outcome::WaitsForHost,
    }
}

fn handed_over_by_stopping(attempt: &Attempt<'_>) -> Decision {
    let text = attempt.says(&format!(
        "handed over{}, because a worker stops",
        in_step(attempt)
    ));
    Decision {
        ending: Ending::HandedOver {
            keep_steps: attempt.keeps_steps,
        },
        failure: None,
        event: Some(NewEvent::threading(text)),
        log: Loudness::Info,
        outcome: Outcome::HandedOver,
    }
}

fn handed_over_to_others(attempt: &Attempt<'_>) -> Decision {
    let text = format!(
        "another worker takes over{}: {}",
        in_step(attempt),
        attempt.message
    );
    Decision {
        ending: Ending::HandedOver {
            keep_steps: attempt.keeps_steps,
        },
        failure: None,
        event: attempt.user_event(Severity::Warning, &text),
        log: Loudness::Info,
        outcome: Outcome::HandedOver,
    }
}

fn begins_again_after_bad_copy(attempt: &Attempt<'_>) -> Decision {
    let text = format!(
        "{}. This copy is deleted; the backup begins again in about {:.0} s, once",
        attempt.message, attempt.delay_secs
    );
    Decision {
        ending: Ending::Retry {
            delay_secs: attempt.delay_secs,
            keep_steps: false,
        },
        failure: Some(ErrorClass::Retry),
        event: attempt.user_event(Severity::Error, &text),
        log: Loudness::Error,
        outcome: Outcome::Retried,
    }
}

fn tried_again(class: ErrorClass, attempt: &Attempt<'_>) -> Decision {
    let text = format!(
        "attempt {} of {} failed{}, the next begins in about {:.0} s: {}",
        attempt.number,
        attempt.limit,
        in_step(attempt),
        attempt.delay_secs,
        attempt.message
    );
    Decision {
        ending: Ending::Retry {
            delay_secs: attempt.delay_secs,
            keep_steps: attempt.keeps_steps,
        },
        failure: Some(class),
        event: attempt.user_event(Severity::Warning, &text),
        log: Loudness::Warn,
        outcome: Outcome::Retried,
    }
}

fn tried_until_done(class: ErrorClass, attempt: &Attempt<'_>) -> Decision {
    let is_loud = attempt.number >= LOUD_FROM;
    Decision {
        ending: Ending::Retry {
            delay_secs: attempt.delay_secs,
            keep_steps: false,
        },
        failure: Some(class),
        event: is_loud.then(|| NewEvent::user(Severity::Error, still_owed(attempt))),
        log: Loudness::Warn,
        outcome: Outcome::Retried,
    }
}

fn still_owed(attempt: &Attempt<'_>) -> String {
    let (number, why) = (attempt.number, attempt.message);
    match attempt.subject {
        Subject::Obligation(name, UndoAction::RemoveSnapshot(snapshot)) => format!(
            "guest {name} still has the snapshot {snapshot} after {number} attempts to remove \
             it: {why}; remove it by hand, or mend the cause and Virtuozo will"
        ),
        Subject::Obligation(name, UndoAction::PowerOn) => format!(
            "guest {name} is still off after {number} attempts to power it on again: {why}; \
             power it on by hand, or mend the cause and Virtuozo will"
        ),
        Subject::Guest(_) | Subject::Host(_) | Subject::Request(_) => attempt.says(why),
    }
}

fn failed(ending: Ending, class: ErrorClass, attempt: &Attempt<'_>) -> Decision {
    let text = match attempt.subject {
        Subject::Request(_) => {
            return Decision {
                ending,
                failure: Some(class),
                event: None,
                log: Loudness::Info,
                outcome: Outcome::Failed,
            };
        }
        Subject::Host(_) => format!("cannot be backed up: {}", attempt.message),
        Subject::Guest(_) | Subject::Obligation(..) => {
            format!("backup failed{}: {}", in_step(attempt), attempt.message)
        }
    };
    Decision {
        ending,
        failure: Some(class),
        event: attempt.user_event(Severity::Error, &text),
        log: Loudness::Error,
        outcome: Outcome::Failed,
    }
}

#[cfg(test)]
mod tests;
