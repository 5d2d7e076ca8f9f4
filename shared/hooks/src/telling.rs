//! What a hook is told in its environment, and what people are told of it.

use std::{fmt, path::Path, time::Duration};

use opentelemetry::trace::SpanContext;
use serde_json::{Value, json};
use uuid::Uuid;

use super::process::{self, Call, Ended};
use virtuozo_model::{Hook, HookMoment, OnFailure, Severity, human};
use virtuozo_store::{events::NewEvent, workers};

/// The last characters of the output that a message has; the event's detail has more.
const SAID_CHARS: usize = 400;

/// The variables of a hook's environment.
#[derive(Debug, Default)]
pub struct Environment(Vec<(&'static str, String)>);

impl Environment {
    /// What every hook is told; `kind` is the value of `VIRTUOZO_HOOK`, `attempt` and `fence` tell one call
    /// for the same thing from another.
    pub fn new(kind: String, run_id: Uuid, attempt: i64, fence: i64, span: &SpanContext) -> Self {
        let traceparent = format!("00-{}-{}-01", span.trace_id(), span.span_id());
        let mut all = Self::default();
        all.say("VIRTUOZO_HOOK", kind);
        all.say("VIRTUOZO_RUN_ID", run_id);
        all.say("VIRTUOZO_ATTEMPT", attempt);
        all.say("VIRTUOZO_FENCE", fence);
        all.say("VIRTUOZO_MACHINE", workers::machine());
        all.say("VIRTUOZO_TRACEPARENT", &traceparent);
        all.say("TRACEPARENT", traceparent);
        all
    }

    /// One more. What no variable can hold is replaced.
    pub fn say(&mut self, name: &'static str, value: impl fmt::Display) {
        self.0
            .push((name, value.to_string().replace('\0', "\u{fffd}")));
    }

    /// One more, if there is anything to say.
    pub fn say_if(&mut self, name: &'static str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.say(name, value);
        }
    }
}

/// Whose hook it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The site's, of a run.
    Run,
    /// That of a guest, by its full name.
    Guest(&'a str),
}

impl Subject<'_> {
    /// The value of `VIRTUOZO_HOOK`.
    pub fn kind(&self, moment: HookMoment) -> String {
        match self {
            Self::Run => format!("run-{moment}"),
            Self::Guest(_) => format!("guest-{moment}"),
        }
    }

    /// The hook, to begin a sentence with.
    fn hook(&self, moment: HookMoment) -> String {
        match self {
            Self::Run => format!("the command {moment} the run"),
            Self::Guest(_) => format!("the command {moment} its backup"),
        }
    }

    /// A sentence about the hook, where nothing else says whose it is.
    pub(super) fn says(&self, sentence: &str) -> String {
        match self {
            Self::Run => sentence.to_owned(),
            Self::Guest(name) => format!("guest {name}: {sentence}"),
        }
    }

    /// The command that takes it away.
    fn clear(&self, moment: HookMoment) -> String {
        match self {
            Self::Run => format!("virtuozo hook clear --{moment}"),
            Self::Guest(name) => format!("virtuozo hook clear --{moment} --guest '{name}'"),
        }
    }
}

/// What became of a hook.
#[derive(Debug)]
pub struct Performed<T> {
    /// How it ended.
    pub ended: Ended<T>,
    /// Why that is a failure, as a sentence for the administrator; none if it is none.
    pub failure: Option<String>,
    /// What people are told.
    pub event: NewEvent,
}

impl<T> Performed<T> {
    /// The exit code, if it ended by itself.
    pub fn exit_code(&self) -> Option<i32> {
        match self.ended {
            Ended::Exited(code) => Some(code),
            Ended::TimedOut | Ended::Stopped(_) => None,
        }
    }
}

/// Runs a hook to its end, its limit, or until `stop`; `guard` as in [`Call::guard`].
pub async fn perform<T>(
    hook: &Hook,
    subject: Subject<'_>,
    environment: &Environment,
    guard: Option<&Path>,
    stop: impl Future<Output = T>,
) -> Performed<T> {
    let limit = Duration::from_secs(u64::try_from(hook.limit_secs).unwrap_or_default());
    let call = Call {
        command: &hook.command,
        environment: &environment.0,
        limit,
        guard,
    };
    let finished = process::run(&call, stop).await;
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
            shown(&hook.command),
            said(&finished.output),
            subject.clear(hook.moment)
        )
    });
    let event = match (&failure, &finished.ended) {
        (None, _) => {
            let ended = format!("{name} ended well after {took} on {machine}");
            NewEvent::flow(subject.says(&ended))
        }
        (Some(_), Ended::Stopped(_)) => {
            let stopped = format!("{name} was stopped after {took} on {machine}");
            NewEvent::threading(subject.says(&stopped))
        }
        (Some(why), _) => NewEvent::user(severity(hook), subject.says(why)),
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
    Performed {
        event: event.detail(detail),
        failure,
        ended: finished.ended,
    }
}

/// How bad it is that a hook fails.
pub(super) fn severity(hook: &Hook) -> Severity {
    match hook.on_failure {
        OnFailure::Fail => Severity::Error,
        OnFailure::Ignore => Severity::Warning,
    }
}

/// What a hook is that was lost with its process too often to be run again.
pub(super) fn given_up(hook: &Hook, subject: Subject<'_>, times: i64) -> String {
    format!(
        "{}, `{}`, was begun {times} times and lost with its process each time; see whether it brings the \
         machine down, or take it away with `{}`",
        subject.hook(hook.moment),
        shown(&hook.command),
        subject.clear(hook.moment)
    )
}

/// A command as a person would type it.
pub fn shown(command: &[String]) -> String {
    let words: Vec<String> = command
        .iter()
        .map(|word| {
            let is_plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
            if !word.is_empty() && word.chars().all(is_plain) {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        })
        .collect();
    words.join(" ")
}

/// The end of an output, on one line.
fn said(output: &str) -> String {
    let line: String = output
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let surplus = line.chars().count().saturating_sub(SAID_CHARS);
    let cut = if surplus > 0 { "…" } else { "" };
    let end: String = line.chars().skip(surplus).collect();
    if end.is_empty() {
        " and said nothing".to_owned()
    } else {
        format!(" and said: {cut}{end}")
    }
}
