//! From rows to spans. docs/reference/traces.md shows the tree and lists the attributes.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{Event, Link, SpanContext, SpanId, SpanKind, Status},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use serde_json::Value;
use virtuozo_model::StepName;
use virtuozo_store::traces::{TracedGuest, TracedHost, TracedRun, TracedStep};
use virtuozo_telemetry::{traces::Traces, tree};

/// Whether a guest run is told: its trace is wanted as a whole, or something in it went wrong.
pub(super) fn is_told(guest: &TracedGuest, traces: &Traces) -> bool {
    traces.wants(guest.trace_id)
        || guest.state == "failed"
        || guest.attempts > 0
        || guest.crashes > 0
}

/// The spans of a run and its hosts.
pub(super) fn of_run(run: &TracedRun, hosts: &[TracedHost]) -> Vec<SpanData> {
    let root = tree::run(run.trace_id);
    let mut whole = span(&root, SpanId::INVALID, "run", run.began_at, run.ended_at);
    whole.attributes.extend([
        text("virtuozo.run.id", run.id),
        text("virtuozo.requested_by", &run.requested_by),
        text("virtuozo.state", &run.state),
        KeyValue::new("virtuozo.guests", run.guests),
    ]);
    if let Some(due_at) = run.due_at {
        whole
            .attributes
            .push(text("virtuozo.due_at", due_at.to_rfc3339()));
    }
    if let Some(before) = run.trace_before {
        link(&mut whole, tree::run(before), "reopened");
    }
    judge(&mut whole, &run.state, run.error.as_deref());
    let mut spans = vec![whole];
    for host in hosts {
        let place = tree::host(run.trace_id, host.id);
        let ended_at = host.ended_at.unwrap_or(run.ended_at);
        let mut of_host = span(&place, root.span_id(), "host run", host.began_at, ended_at);
        of_host.attributes.extend([
            text("virtuozo.host", &host.host),
            text("virtuozo.host_run.id", host.id),
            text("virtuozo.state", &host.state),
            KeyValue::new("virtuozo.fence", host.fence),
            KeyValue::new("virtuozo.attempts.failed", i64::from(host.attempts)),
            KeyValue::new("virtuozo.crashes", i64::from(host.crashes)),
        ]);
        judge(&mut of_host, &host.state, host.error.as_deref());
        spans.push(of_host);
        let began_at = host.started_at.unwrap_or(ended_at);
        let mut waiting = span(
            &tree::waiting(run.trace_id, host.id, 1),
            place.span_id(),
            "wait",
            host.began_at,
            began_at,
        );
        waiting
            .attributes
            .push(text("virtuozo.waits_for", "worker"));
        spans.push(waiting);
        // In a run that was reopened only hosts that failed are looked at again.
        if host.started_at.is_some() && host.inspected_at.is_some_and(|at| at >= host.began_at) {
            let mut inspection = span(
                &tree::inspection(run.trace_id, host.id),
                place.span_id(),
                "inspect host",
                began_at,
                host.inspected_at.unwrap_or(ended_at),
            );
            inspection
                .attributes
                .push(text("virtuozo.host", &host.host));
            fail(
                &mut inspection,
                &host.state,
                host.error.as_deref(),
                host.error_class.as_deref(),
            );
            spans.push(inspection);
        }
    }
    spans
}

/// What one worker did under one lease.
struct Attempt<'a> {
    fence: i64,
    steps: &'a [&'a TracedStep],
    began_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
    /// Its worker died with it.
    cut_off: bool,
}

impl Attempt<'_> {
    fn worker(&self) -> Option<&str> {
        self.steps.first().and_then(|step| step.worker.as_deref())
    }

    fn failed(&self) -> Option<&TracedStep> {
        self.steps
            .iter()
            .find(|step| step.state == "failed")
            .copied()
    }

    /// Why there is another attempt after this one.
    fn followed_because(&self) -> &'static str {
        match self.failed().map(|step| step.error_type.as_deref()) {
            _ if self.cut_off => "takeover",
            Some(Some("stop.draining")) => "handover",
            Some(Some("host_down")) => "host",
            _ => "retry",
        }
    }
}

fn attempts<'a>(guest: &TracedGuest, steps: &'a [&'a TracedStep]) -> Vec<Attempt<'a>> {
    let mut attempts: Vec<Attempt<'a>> = Vec::new();
    for own in steps.chunk_by(|a, b| a.fence == b.fence) {
        let Some(first) = own.first() else { continue };
        if let Some(before) = attempts.last_mut() {
            // Nothing says why it ended, and yet there is a successor.
            before.cut_off |= before.failed().is_none();
            if before.cut_off {
                before.ended_at = first.started_at;
            }
        }
        let cut_off = own.iter().any(|step| step.state == "running");
        let last_end = own.iter().filter_map(|step| step.ended_at).max();
        attempts.push(Attempt {
            fence: first.fence,
            steps: own,
            began_at: first.started_at,
            ended_at: last_end.filter(|_| !cut_off).unwrap_or(guest.ended_at),
            cut_off,
        });
    }
    attempts
}

/// The spans of a guest run; its `steps` in the order in which they began.
pub(super) fn of_guest(guest: &TracedGuest, steps: &[&TracedStep]) -> Vec<SpanData> {
    let (trace, id) = (guest.trace_id, guest.id);
    let place = tree::guest(trace, id, guest.trace_fence);
    let mut whole = span(
        &place,
        tree::host(trace, guest.host_run_id).span_id(),
        "guest run",
        guest.began_at,
        guest.ended_at,
    );
    whole.attributes.extend(about(guest));
    whole.attributes.extend([
        text("virtuozo.run.id", guest.run_id),
        text("virtuozo.state", &guest.state),
        KeyValue::new("virtuozo.bytes", guest.bytes_copied),
        KeyValue::new("virtuozo.attempts.failed", i64::from(guest.attempts)),
        KeyValue::new("virtuozo.crashes", i64::from(guest.crashes)),
    ]);
    let attempts = attempts(guest, steps);
    if attempts.is_empty() {
        // It failed before any step: the host run found why.
        fail(
            &mut whole,
            &guest.state,
            guest.error.as_deref(),
            guest.error_class.as_deref(),
        );
    } else {
        judge(&mut whole, &guest.state, guest.error.as_deref());
    }
    let mut spans = vec![whole];
    let mut wait = |fence, waits_for, from, until| {
        if from < until {
            let mut waiting = span(
                &tree::waiting(trace, id, fence),
                place.span_id(),
                "wait",
                from,
                until,
            );
            waiting.attributes.extend(about(guest));
            waiting
                .attributes
                .push(text("virtuozo.waits_for", waits_for));
            spans.push(waiting);
        }
    };
    let first = attempts.first();
    wait(
        first.map_or(guest.trace_fence + 1, |first| first.fence),
        "slot",
        guest.began_at,
        first.map_or(guest.ended_at, |first| first.began_at),
    );
    for pair in attempts.windows(2) {
        if let [before, after] = pair {
            wait(
                after.fence,
                before.followed_because(),
                before.ended_at,
                after.began_at,
            );
        }
    }
    let mut before: Option<&Attempt<'_>> = None;
    for attempt in &attempts {
        spans.push(of_attempt(guest, &place, attempt, before));
        for step in attempt.steps {
            spans.extend(of_step(guest, attempt, step));
        }
        before = Some(attempt);
    }
    spans
}

fn of_attempt(
    guest: &TracedGuest,
    parent: &SpanContext,
    attempt: &Attempt<'_>,
    before: Option<&Attempt<'_>>,
) -> SpanData {
    let mut whole = span(
        &tree::attempt(guest.trace_id, guest.id, attempt.fence),
        parent.span_id(),
        "attempt",
        attempt.began_at,
        attempt.ended_at,
    );
    whole.attributes.extend(about(guest));
    whole.attributes.extend(under(attempt));
    if let Some(before) = before {
        let why = before.followed_because();
        link(
            &mut whole,
            tree::attempt(guest.trace_id, guest.id, before.fence),
            why,
        );
        if before.cut_off {
            let event = format!(
                "taken over from worker {}, fence {}",
                before.worker().unwrap_or("unknown"),
                before.fence
            );
            whole
                .events
                .events
                .push(Event::new(event, attempt.began_at.into(), Vec::new(), 0));
        }
    } else if guest.trace_fence > 0 {
        link(
            &mut whole,
            tree::attempt(guest.trace_id, guest.id, guest.trace_fence),
            "requeued",
        );
    }
    if let Some(step) = attempt.failed() {
        whole.status = Status::error(step.error.clone().unwrap_or_default());
    } else if attempt.cut_off {
        whole.status = Status::error("the worker died");
    }
    whole
}

fn of_step(guest: &TracedGuest, attempt: &Attempt<'_>, step: &TracedStep) -> Option<SpanData> {
    let name = StepName::from_name(&step.name)?;
    let ended_at = step.ended_at.unwrap_or(attempt.ended_at);
    let mut whole = span(
        &tree::step(guest.trace_id, guest.id, step.fence, name),
        tree::attempt(guest.trace_id, guest.id, step.fence).span_id(),
        name.as_str(),
        step.started_at,
        ended_at,
    );
    whole.attributes.extend(about(guest));
    whole.attributes.extend(under(attempt));
    whole.attributes.push(text("virtuozo.step", name));
    if let Some(output) = &step.output {
        let took = (ended_at - step.started_at).as_seconds_f64();
        whole.attributes.extend(of_output(name, output, took));
    }
    if let Some(code) = step.error_code {
        whole
            .attributes
            .push(KeyValue::new("virtuozo.vix.code", code));
    }
    match step.state.as_str() {
        "failed" => fail(
            &mut whole,
            "failed",
            step.error.as_deref(),
            step.error_type.as_deref(),
        ),
        "running" => {
            fail(
                &mut whole,
                "failed",
                Some("the worker died in this step"),
                Some("worker.died"),
            );
        }
        _ => {}
    }
    Some(whole)
}

fn of_output(step: StepName, output: &Value, took_secs: f64) -> Vec<KeyValue> {
    let words =
        |key: &'static str, field: &str| output[field].as_str().map(|value| text(key, value));
    let number = |field: &str| output[field].as_i64();
    let mut all = Vec::new();
    match step {
        StepName::Snapshot => all.extend(words("virtuozo.snapshot", "snapshot")),
        StepName::Copy => {
            if let (Some(size), Some(resumed)) = (number("size_bytes"), number("resumed_bytes")) {
                all.extend([
                    KeyValue::new("virtuozo.bytes", size),
                    KeyValue::new("virtuozo.bytes.resumed", resumed),
                ]);
                all.extend(rate(size - resumed, took_secs));
            }
        }
        StepName::Verify => {
            if let Some(read) = number("bytes_read").filter(|read| *read > 0) {
                all.push(KeyValue::new("virtuozo.bytes", read));
                all.extend(rate(read, took_secs));
            }
        }
        StepName::Publish => all.extend(
            [
                words("virtuozo.point.id", "point_id"),
                words("virtuozo.point.path", "path"),
            ]
            .into_iter()
            .flatten(),
        ),
        StepName::Validate => all.extend(words("virtuozo.destination", "destination")),
        StepName::PowerOff | StepName::Commit | StepName::PowerOn => {}
    }
    all
}

/// Bytes in a second.
fn rate(bytes: i64, took_secs: f64) -> Option<KeyValue> {
    #[allow(
        clippy::cast_precision_loss,
        reason = "a rate needs no more digits than that"
    )]
    (took_secs > 0.0).then(|| KeyValue::new("virtuozo.rate", bytes as f64 / took_secs))
}

fn about(guest: &TracedGuest) -> impl Iterator<Item = KeyValue> {
    [
        Some(text("virtuozo.host", &guest.host)),
        Some(text("virtuozo.guest", &guest.guest)),
        Some(text("virtuozo.guest_run.id", guest.id)),
        guest.mode.as_ref().map(|mode| text("virtuozo.mode", mode)),
    ]
    .into_iter()
    .flatten()
}

fn under(attempt: &Attempt<'_>) -> impl Iterator<Item = KeyValue> {
    let worker = attempt
        .worker()
        .map(|worker| text("virtuozo.worker", worker));
    [Some(KeyValue::new("virtuozo.fence", attempt.fence)), worker]
        .into_iter()
        .flatten()
}

fn text(key: &'static str, value: impl ToString) -> KeyValue {
    KeyValue::new(key, value.to_string())
}

fn span(
    place: &SpanContext,
    parent: SpanId,
    name: impl Into<Cow<'static, str>>,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> SpanData {
    SpanData {
        span_context: place.clone(),
        parent_span_id: parent,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: from.into(),
        // The rows' times come from several transactions: none is to end before it began.
        end_time: until.max(from).into(),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("virtuozo")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

fn link(from: &mut SpanData, to: SpanContext, why: &'static str) {
    from.links
        .links
        .push(Link::new(to, vec![KeyValue::new("virtuozo.link", why)], 0));
}

/// The status after how it ended.
fn judge(span: &mut SpanData, state: &str, error: Option<&str>) {
    match state {
        "failed" => span.status = Status::error(error.unwrap_or_default().to_owned()),
        "succeeded" => span.status = Status::Ok,
        _ => {}
    }
}

/// As [`judge`], with the exception that was the cause.
fn fail(span: &mut SpanData, state: &str, error: Option<&str>, error_type: Option<&str>) {
    judge(span, state, error);
    if state == "failed" {
        let at = span.end_time;
        span.events.events.push(Event::new(
            "exception",
            at,
            vec![
                text("exception.type", error_type.unwrap_or("unknown")),
                text("exception.message", error.unwrap_or_default()),
            ],
            0,
        ));
    }
}
