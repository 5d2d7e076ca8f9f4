//! Runs one hook, and says what became of it: for the administrator as a sentence, for the log of events as an event.

use std::time::Duration;

use serde_json::{Value, json};
use virtuozo_model::{Hook, OnFailure, Severity, human};
use virtuozo_store::{events::NewEvent, workers};

use crate::{
    environment::Environment,
    process::{self, Call, Ended, Finished},
    programs::HookPrograms,
    subject::{Subject, command_line},
};

/// How many of the last characters of the output a message quotes; the event's detail has more.
const QUOTED_CHARS: usize = 400;

/// A hook that has ended.
#[derive(Debug)]
pub struct HookResult<T> {
    /// How it ended.
    pub ended: Ended<T>,
    /// The failure, as a sentence for the administrator; `None` after a success.
    pub failure: Option<String>,
    /// The event to be recorded.
    pub event: NewEvent,
}

impl<T> HookResult<T> {
    /// The exit code, if the hook ended by itself.
    pub fn exit_code(&self) -> Option<i32> {
        match self.ended {
            Ended::Exited(code) => Some(code),
            Ended::TimedOut | Ended::Stopped(_) => None,
        }
    }
}

/// Runs a hook to its end, its limit, or until `stop`.
pub async fn perform<T>(
    hook: &Hook,
    subject: Subject<'_>,
    environment: &Environment,
    programs: &HookPrograms,
    stop: impl Future<Output = T>,
) -> HookResult<T> {
    let limit = Duration::from_secs(u64::try_from(hook.limit_secs).unwrap_or_default());
    let finished = match programs.command(&hook.command) {
        Ok(command) => {
            let call = Call {
                command: &command,
                environment: environment.variables(),
                limit,
                guard: programs.guard.as_deref(),
            };
            process::run(&call, stop).await
        }
        Err(why) => Finished::refused(why),
    };
    let machine = workers::machine();
    let took = human::span(chrono::TimeDelta::from_std(finished.took).unwrap_or_default());
    let name = subject.hook(hook.moment);
    let why = match &finished.ended {
        Ended::Exited(0) => None,
        Ended::Exited(code) => Some(format!("ended with exit code {code} after {took}")),
        Ended::TimedOut => Some(format!("was killed at its limit of {} s", hook.limit_secs)),
        Ended::Stopped(_) => Some(format!("was stopped after {took}")),
    };
    let failure = why.as_ref().map(|why| {
        format!(
            "{name}, `{}`, {why} on the machine {machine}{}; mend it, or take it away with `{}`",
            command_line(&hook.command),
            quoted(&finished.output),
            subject.clear(hook.moment)
        )
    });
    let event = match (&failure, &finished.ended) {
        (None, _) => {
            let ended = format!("{name} ended well after {took} on {machine}");
            NewEvent::flow(subject.sentence(&ended))
        }
        (Some(_), Ended::Stopped(_)) => {
            let stopped = format!("{name} was stopped after {took} on {machine}");
            NewEvent::threading(subject.sentence(&stopped))
        }
        (Some(why), _) => NewEvent::user(severity(hook), subject.sentence(why)),
    };
    let exit_code = match finished.ended {
        Ended::Exited(code) => Value::from(code),
        Ended::TimedOut | Ended::Stopped(_) => Value::Null,
    };
    let detail = json!({
        "hook": subject.kind(hook.moment),
        "command": hook.command,
        "exit_code": exit_code,
        "timed_out": matches!(finished.ended, Ended::TimedOut),
        "duration_secs": finished.took.as_secs_f64(),
        "machine": machine,
        "output": finished.output,
    });
    HookResult {
        event: event.detail(detail),
        failure,
        ended: finished.ended,
    }
}

/// The severity of a failure of this hook.
pub(crate) fn severity(hook: &Hook) -> Severity {
    match hook.on_failure {
        OnFailure::Fail => Severity::Error,
        OnFailure::Ignore => Severity::Warning,
    }
}

/// The failure of a hook that is not run again, because each of `times` processes that ran it died.
pub(crate) fn given_up(hook: &Hook, subject: Subject<'_>, times: i64) -> String {
    format!(
        "{}, `{}`, was begun {times} times and lost with its process each time; see whether it brings the \
         machine down, or take it away with `{}`",
        subject.hook(hook.moment),
        command_line(&hook.command),
        subject.clear(hook.moment)
    )
}

/// The end of the output on one line, as the end of a sentence.
fn quoted(output: &str) -> String {
    let line: String = output
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let surplus = line.chars().count().saturating_sub(QUOTED_CHARS);
    let cut = if surplus > 0 { "…" } else { "" };
    let end: String = line.chars().skip(surplus).collect();
    if end.is_empty() {
        " and said nothing".to_owned()
    } else {
        format!(" and said: {cut}{end}")
    }
}
