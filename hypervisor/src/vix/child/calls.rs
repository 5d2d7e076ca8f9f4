//! The calls into the VIX library that a request makes: noted where they are made, told with the response,
//! and shown as spans where the worker traces what it does.

use std::{
    cell::RefCell,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use opentelemetry::{
    Context, KeyValue, global,
    trace::{Span, SpanKind, Status, TraceContextExt, Tracer},
};
use serde::{Deserialize, Serialize};

use super::protocol::{Answer, Operation};
use crate::Result;

/// Calls that one request tells at most; what comes after is not told.
const TOLD_MAX: usize = 64;

/// One call into the library, or a wait for what it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Call {
    /// The library's name for it.
    name: String,
    /// When it began, in microseconds since 1970; both processes have one clock.
    began_at_us: u64,
    /// How long it took, in microseconds.
    took_us: u64,
    /// The library's error; none if there was none.
    code: Option<u64>,
}

thread_local! {
    /// Of the request that this thread serves.
    static MADE: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
}

/// Makes a call and notes it.
pub(crate) fn noted<T>(name: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    let (began_at, began) = (SystemTime::now(), Instant::now());
    let outcome = call();
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    MADE.with_borrow_mut(|made| {
        if made.len() < TOLD_MAX {
            made.push(Call {
                name: name.to_owned(),
                began_at_us: us(began_at.duration_since(UNIX_EPOCH).unwrap_or_default()),
                took_us: us(began.elapsed()),
                code: outcome.as_ref().err().and_then(|error| error.code),
            });
        }
    });
    outcome
}

/// What this thread has noted since the last time.
pub(crate) fn made() -> Vec<Call> {
    MADE.take()
}

/// One request as the worker sees it, from its sending to its answer; nothing where nobody traces the work.
pub(crate) struct RequestSpan(Option<Context>);

impl RequestSpan {
    /// Begins below the current context.
    pub(crate) fn begin(host: &str, operation: &Operation, pid: Option<u32>) -> Self {
        let below = Context::current();
        if !below.span().span_context().is_valid() {
            return Self(None);
        }
        let mut attributes = vec![KeyValue::new("virtuozo.host", host.to_owned())];
        if let Some(path) = operation.vmx_path() {
            attributes.push(KeyValue::new("virtuozo.locator", path.to_owned()));
        }
        if let Some(name) = operation.snapshot() {
            attributes.push(KeyValue::new("virtuozo.snapshot", name.to_owned()));
        }
        if let Some(pid) = pid {
            attributes.push(KeyValue::new("virtuozo.vix_host.pid", i64::from(pid)));
        }
        let tracer = global::tracer("virtuozo");
        let span = tracer
            .span_builder(operation.name())
            .with_kind(SpanKind::Client)
            .with_attributes(attributes)
            .start_with_context(&tracer, &below);
        Self(Some(below.with_span(span)))
    }

    /// Ends with the answer.
    pub(crate) fn end(&self, outcome: &Result<Answer>) {
        let Some(context) = &self.0 else { return };
        let span = context.span();
        if let Err(error) = outcome {
            let mut attributes = vec![
                KeyValue::new("exception.type", format!("hypervisor.{}", error.kind)),
                KeyValue::new("exception.message", error.message.clone()),
            ];
            if let Some(code) = code(error.code) {
                span.set_attribute(code.clone());
                attributes.push(code);
            }
            span.add_event("exception", attributes);
            span.set_status(Status::error(error.message.clone()));
        }
        span.end();
    }

    /// Shows the calls behind the answer below it.
    pub(crate) fn made(&self, calls: &[Call], pid: Option<u32>) {
        let Some(context) = &self.0 else { return };
        let tracer = global::tracer("virtuozo");
        for call in calls {
            let began_at = UNIX_EPOCH + Duration::from_micros(call.began_at_us);
            let mut span = tracer
                .span_builder(call.name.clone())
                .with_start_time(began_at)
                .with_attributes([KeyValue::new("virtuozo.process", "vix-host")])
                .start_with_context(&tracer, context);
            if let Some(pid) = pid {
                span.set_attribute(KeyValue::new("virtuozo.vix_host.pid", i64::from(pid)));
            }
            if let Some(code) = code(call.code) {
                span.set_attribute(code);
                span.set_status(Status::error("the library returned an error"));
            }
            span.end_with_timestamp(began_at + Duration::from_micros(call.took_us));
        }
    }
}

fn code(code: Option<u64>) -> Option<KeyValue> {
    let code = i64::try_from(code?).ok()?;
    Some(KeyValue::new("virtuozo.vix.code", code))
}
