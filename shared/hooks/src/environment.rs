//! The environment variables of a hook. `docs/guide/hooks.md` lists them.

use std::fmt;

use opentelemetry::trace::SpanContext;
use uuid::Uuid;
use virtuozo_store::workers;

/// The variables that a hook finds in its environment, beside those of every process.
#[derive(Debug, Default)]
pub struct Environment(Vec<(&'static str, String)>);

impl Environment {
    /// The variables of every hook. `kind` is the value of `VIRTUOZO_HOOK`; `attempt` and `fence` distinguish repeated
    /// calls of one hook.
    pub fn new(kind: String, run_id: Uuid, attempt: i64, fence: i64, span: &SpanContext) -> Self {
        let traceparent = format!("00-{}-{}-01", span.trace_id(), span.span_id());
        let mut all = Self::default();
        all.set("VIRTUOZO_HOOK", kind);
        all.set("VIRTUOZO_RUN_ID", run_id);
        all.set("VIRTUOZO_ATTEMPT", attempt);
        all.set("VIRTUOZO_FENCE", fence);
        all.set("VIRTUOZO_MACHINE", workers::machine());
        all.set("VIRTUOZO_TRACEPARENT", &traceparent);
        all.set("TRACEPARENT", traceparent);
        all
    }

    /// Sets a variable. NUL, which no variable can hold, is replaced.
    pub fn set(&mut self, name: &'static str, value: impl fmt::Display) {
        self.0
            .push((name, value.to_string().replace('\0', "\u{fffd}")));
    }

    /// Sets a variable if there is a value.
    pub fn set_if_some(&mut self, name: &'static str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// All variables.
    pub(crate) fn variables(&self) -> &[(&'static str, String)] {
        &self.0
    }
}
