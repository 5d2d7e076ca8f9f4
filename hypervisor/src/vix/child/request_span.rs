//! The span of a request to a `vix-host` process, and below it one for each call into the VIX library.

use std::time::{Duration, UNIX_EPOCH};

use opentelemetry::{
    Context, KeyValue,
    trace::{Span, SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::trace::SdkTracer;

use super::{
    calls::Call,
    protocol::{Answer, Operation},
};
use crate::Result;

/// The span of one request, from its sending to its answer; `None` where the work is not traced.
pub(crate) struct RequestSpan(Option<Traced>);

struct Traced {
    tracer: SdkTracer,
    /// That of the request's span.
    context: Context,
}

impl RequestSpan {
    /// Begins the span below the current context. `None`: nobody traces.
    pub(crate) fn begin(
        tracer: Option<&SdkTracer>,
        host: &str,
        operation: &Operation,
        pid: Option<u32>,
    ) -> Self {
        let below = Context::current();
        let Some(tracer) = tracer.filter(|_| below.span().span_context().is_valid()) else {
            return Self(None);
        };
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
        let span = tracer
            .span_builder(operation.name())
            .with_kind(SpanKind::Client)
            .with_attributes(attributes)
            .start_with_context(tracer, &below);
        Self(Some(Traced {
            tracer: tracer.clone(),
            context: below.with_span(span),
        }))
    }

    /// Ends the span with the answer.
    pub(crate) fn end(&self, outcome: &Result<Answer>) {
        let Some(Traced { context, .. }) = &self.0 else {
            return;
        };
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

    /// Adds a span for each call that the request made.
    pub(crate) fn calls(&self, calls: &[Call], pid: Option<u32>) {
        let Some(Traced { tracer, context }) = &self.0 else {
            return;
        };
        for call in calls {
            let began_at = UNIX_EPOCH + Duration::from_micros(call.began_at_us);
            let mut span = tracer
                .span_builder(call.name.clone())
                .with_start_time(began_at)
                .with_attributes([KeyValue::new("virtuozo.process", "vix-host")])
                .start_with_context(tracer, context);
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
