//! Where telemetry goes: OTLP, set up by the standard `OTEL_*` variables, off unless an endpoint is named.

use std::{env, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
};
use uuid::Uuid;
use virtuozo_runtime::LIMITS;

/// A kind of telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
}

impl Signal {
    /// The part of a variable's name that says which signal it is for.
    fn infix(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
        }
    }
}

/// Whether a signal is to be exported: an endpoint is named for it or for all, and nothing turns it off.
pub fn is_wanted(signal: Signal) -> bool {
    is_wanted_by(signal, |name| env::var(name).ok())
}

fn is_wanted_by(signal: Signal, variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let infix = signal.infix();
    let disabled = set("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"))
        || set(&format!("OTEL_{infix}_EXPORTER")).is_some_and(|v| !v.eq_ignore_ascii_case("otlp"));
    !disabled
        && (set("OTEL_EXPORTER_OTLP_ENDPOINT").is_some()
            || set(&format!("OTEL_EXPORTER_OTLP_{infix}_ENDPOINT")).is_some())
}

/// What this process is, for whoever receives its telemetry; `OTEL_SERVICE_NAME` and
/// `OTEL_RESOURCE_ATTRIBUTES` change and add to it. `process` is `scheduler`, `worker` or `up`.
pub fn resource(process: &'static str) -> Resource {
    let named = env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty())
        || env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|all| all.contains("service.name="));
    // What the variables say is read first, and what is set here goes before it.
    let builder = Resource::builder().with_attributes([
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", Uuid::now_v7().to_string()),
        KeyValue::new("process.pid", i64::from(std::process::id())),
        KeyValue::new("virtuozo.process", process),
    ]);
    if named {
        builder.build()
    } else {
        builder.with_service_name("virtuozo").build()
    }
}

/// Chooses how exporters do TLS. To be called before one is built; further calls change nothing.
pub fn choose_tls() {
    // An error says that it has been chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Whether a receiver has answered that it does not take what it was sent, and would not take it another time:
/// HTTP 4xx but 408 and 429, or a code of gRPC that means as much. The exporters tell it in words only; an answer
/// that is not understood counts as none.
pub(super) fn is_refused(error: &OTelSdkError) -> bool {
    let OTelSdkError::InternalFailure(text) = error else {
        return false;
    };
    let after = |words: &str| Some(text.split_once(words)?.1);
    if let Some(code) = after("export failed with status code: ") {
        let code: Option<u16> = code.trim().parse().ok();
        return code.is_some_and(|code| (400..500).contains(&code) && !matches!(code, 408 | 429));
    }
    if let Some(code) = after("export failed with gRPC code: ") {
        let code = code.split(|sign: char| !sign.is_alphabetic()).next();
        return matches!(
            code,
            Some(
                "InvalidArgument"
                    | "NotFound"
                    | "AlreadyExists"
                    | "PermissionDenied"
                    | "FailedPrecondition"
                    | "Unimplemented"
                    | "Unauthenticated"
            )
        );
    }
    false
}

/// Ends a provider with its `shutdown`: sends what is left, for a short time.
pub async fn end(shutdown: impl FnOnce(Duration) -> OTelSdkResult + Send + 'static) {
    // It waits for a thread, and must not do that on the runtime.
    let ending = tokio::task::spawn_blocking(move || shutdown(LIMITS.process.telemetry_flush));
    if !matches!(ending.await, Ok(Ok(()))) {
        tracing::debug!("the last telemetry could not be sent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(signal: Signal, set: &[(&str, &str)]) -> bool {
        is_wanted_by(signal, |name| {
            set.iter()
                .find(|(set, _)| *set == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_is_refused_for_good_is_told_from_what_may_be_taken_later() {
        let refused = |text: &str| is_refused(&OTelSdkError::InternalFailure(text.to_owned()));
        for (code, expected) in [
            (400, true),
            (413, true),
            (408, false),
            (429, false),
            (503, false),
        ] {
            let text = format!("HTTP export failed with status code: {code}");
            assert_eq!(refused(&text), expected, "{text}");
        }
        let grpc = "TonicTracesClient export failed with gRPC code: ";
        assert!(refused(&format!("{grpc}InvalidArgument")));
        assert!(refused(&format!("{grpc}Unauthenticated: some source")));
        assert!(!refused(&format!("{grpc}Unavailable: transport error")));
        assert!(!refused(&format!("{grpc}ResourceExhausted")));
        assert!(!refused("HTTP export failed: network error"));
        assert!(!is_refused(&OTelSdkError::AlreadyShutdown));
    }

    #[test]
    fn telemetry_is_off_until_an_endpoint_is_named_and_can_be_turned_off_again() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert!(!wanted(Signal::Traces, &[]));
        assert!(!wanted(
            Signal::Traces,
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]
        ));
        assert!(wanted(Signal::Traces, &[all]) && wanted(Signal::Metrics, &[all]));
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://jaeger:4317");
        assert!(wanted(Signal::Traces, &[own]) && !wanted(Signal::Metrics, &[own]));
        assert!(!wanted(
            Signal::Traces,
            &[all, ("OTEL_SDK_DISABLED", "TRUE")]
        ));
        assert!(!wanted(
            Signal::Traces,
            &[all, ("OTEL_TRACES_EXPORTER", "none")]
        ));
        assert!(wanted(
            Signal::Traces,
            &[all, ("OTEL_TRACES_EXPORTER", "otlp")]
        ));
    }
}
