//! Sending spans: those of work in progress by batches in the background, finished trees at once; and what
//! of them is sent where only a part of the traces is wanted.
//!
//! Which traces are wanted is decided by their id, the same in each process. Of the others a [`Unit`] of work
//! keeps its spans to itself until its end, and they are sent if it went wrong.

use std::{
    collections::HashMap,
    env,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    Context, global,
    trace::{SpanContext, TraceContextExt, TraceState},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter as OtlpExporter};
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    trace::{
        BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
    },
};
use uuid::Uuid;

use super::otlp::{self, Signal};

/// Spans that a unit of work keeps to itself at most; further ones are lost.
const KEPT_MAX: usize = 512;
/// The member of the trace state that names the unit of work a span belongs to.
const UNIT: &str = "virtuozo";

/// What of this process sends spans; none: nothing is to be sent.
static SENDING: OnceLock<Sending> = OnceLock::new();

#[derive(Debug)]
struct Sending {
    wanted: Ratio,
    sorting: Arc<Sorting>,
    /// For finished trees, beside the one of the batches: an exporter does one thing at a time.
    direct: tokio::sync::Mutex<Arc<Watched>>,
}

/// Sends the spans of this process until [`end`](Self::end).
#[derive(Debug)]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Begins, if that is wanted; once in a process, on its runtime. What cannot be set up is told, and the
    /// process goes on without. `process` is `scheduler`, `worker` or `up`.
    pub fn begin(process: &'static str) -> Self {
        if !otlp::is_wanted(Signal::Traces) {
            return Self(None);
        }
        otlp::choose_tls();
        let away = Arc::new(AtomicBool::new(false));
        let resource = otlp::resource(process);
        let exporter = |tells_refusals| {
            let mut inner = OtlpExporter::builder().build()?;
            inner.set_resource(&resource);
            Ok::<_, ExporterBuildError>(Watched {
                inner,
                tells_refusals,
                away: Arc::clone(&away),
            })
        };
        let (batches, direct) = match (exporter(true), exporter(false)) {
            (Ok(batches), Ok(direct)) => (batches, direct),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(
                    %error,
                    "no traces are sent: look at the variables OTEL_EXPORTER_OTLP_*"
                );
                return Self(None);
            }
        };
        let sorting = Arc::new(Sorting {
            batches: BatchSpanProcessor::builder(batches).build(),
            kept: Mutex::default(),
        });
        let provider = SdkTracerProvider::builder()
            // What is sent is decided when it is known how it went.
            .with_sampler(Sampler::AlwaysOn)
            .with_span_processor(Sorter(Arc::clone(&sorting)))
            .build();
        let sending = Sending {
            wanted: Ratio::from_environment(),
            sorting,
            direct: tokio::sync::Mutex::new(Arc::new(direct)),
        };
        if SENDING.set(sending).is_err() {
            return Self(None);
        }
        global::set_tracer_provider(provider.clone());
        tracing::info!("traces are sent");
        Self(Some(provider))
    }

    /// Sends what is left, for a short time.
    pub async fn end(self) {
        if let Self(Some(provider)) = self {
            otlp::end(move |limit| provider.shutdown_with_timeout(limit)).await;
        }
    }
}

/// Whether this process sends spans.
pub fn are_sent() -> bool {
    SENDING.get().is_some()
}

/// Whether a trace is wanted as a whole. Of the others only what went wrong is sent.
pub fn is_wanted(trace: Uuid) -> bool {
    SENDING
        .get()
        .is_some_and(|sending| sending.wanted.has(trace))
}

/// Why spans did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The receiver does not take these, and would not take them another time.
    #[error("the receiver of traces refuses them: {0}")]
    Refused(OTelSdkError),
    /// It is away, or takes nothing now. That is told where it is found.
    #[error(transparent)]
    Away(OTelSdkError),
}

/// Sends finished spans at once.
///
/// # Errors
/// They did not arrive.
pub async fn send(spans: Vec<SpanData>) -> Result<(), SendError> {
    let Some(sending) = SENDING.get() else {
        return Ok(());
    };
    let direct = sending.direct.lock().await;
    let exporter = Arc::clone(&direct);
    // Over HTTP it blocks, and refuses to where a runtime drives it.
    let sent =
        tokio::task::spawn_blocking(move || futures_executor::block_on(exporter.export(spans)));
    let sent = sent
        .await
        .unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string())));
    sent.map_err(|error| match otlp::is_refused(&error) {
        true => SendError::Refused(error),
        false => SendError::Away(error),
    })
}

/// A unit of work in this process whose spans are sent together, or not at all; it ends when dropped.
#[derive(Debug)]
pub struct Unit {
    /// Its name, if its spans are kept until it is known how it went.
    name: Option<String>,
}

impl Unit {
    /// Begins one. `name` is unique in this process, of small letters, digits and dashes.
    pub fn begin(trace: Uuid, name: String) -> Self {
        let keeping = SENDING.get().filter(|sending| !sending.wanted.has(trace));
        let name = keeping.map(|sending| {
            sending.sorting.keep(&name);
            name
        });
        Self { name }
    }

    /// The context of work below the span at `place`.
    pub fn below(&self, place: &SpanContext) -> Context {
        if !are_sent() {
            return Context::new();
        }
        let name = self.name.as_deref();
        let state = name.and_then(|name| TraceState::from_key_value([(UNIT, name)]).ok());
        Context::new().with_remote_span_context(SpanContext::new(
            place.trace_id(),
            place.span_id(),
            place.trace_flags(),
            true,
            state.unwrap_or_default(),
        ))
    }

    /// It went wrong: its spans are sent, those that are still to come too.
    pub fn went_wrong(&self) {
        if let (Some(name), Some(sending)) = (&self.name, SENDING.get()) {
            sending.sorting.let_go(name);
        }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if let (Some(name), Some(sending)) = (&self.name, SENDING.get()) {
            sending.sorting.kept().remove(name);
        }
    }
}

/// What share of the traces is wanted: `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ratio(f64);

impl Ratio {
    fn from_environment() -> Self {
        let (sampler, argument) = (
            env::var("OTEL_TRACES_SAMPLER").unwrap_or_default(),
            env::var("OTEL_TRACES_SAMPLER_ARG").ok(),
        );
        Self::of(&sampler, argument.as_deref()).unwrap_or_else(|| {
            tracing::warn!(
                sampler,
                argument,
                "all traces are sent: OTEL_TRACES_SAMPLER is to be always_on, always_off or \
                 traceidratio with a number from 0 to 1 in OTEL_TRACES_SAMPLER_ARG"
            );
            Self(1.0)
        })
    }

    fn of(sampler: &str, argument: Option<&str>) -> Option<Self> {
        // The root of each trace is ours, so there is no parent that could have decided.
        match sampler.strip_prefix("parentbased_").unwrap_or(sampler) {
            "" | "always_on" => Some(Self(1.0)),
            "always_off" => Some(Self(0.0)),
            "traceidratio" => {
                let ratio = argument.map_or(Some(1.0), |text| text.trim().parse().ok())?;
                (0.0..=1.0).contains(&ratio).then_some(Self(ratio))
            }
            _ => None,
        }
    }

    /// By the last four bytes of the id: those before may count (RFC 9562, 6.2).
    fn has(self, trace: Uuid) -> bool {
        let [.., a, b, c, d] = *trace.as_bytes();
        let share = f64::from(u32::from_be_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0);
        share < self.0
    }
}

/// Sends finished spans on, or keeps them for their unit of work.
#[derive(Debug)]
struct Sorting {
    batches: BatchSpanProcessor,
    /// By unit: its spans so far; none where it went wrong and they are sent.
    kept: Mutex<HashMap<String, Option<Vec<SpanData>>>>,
}

impl Sorting {
    fn kept(&self) -> MutexGuard<'_, HashMap<String, Option<Vec<SpanData>>>> {
        // Nothing that holds the lock can leave the map half changed.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, unit: &str) {
        self.kept().insert(unit.to_owned(), Some(Vec::new()));
    }

    fn let_go(&self, unit: &str) {
        let kept = self.kept().insert(unit.to_owned(), None);
        for span in kept.flatten().into_iter().flatten() {
            self.batches.on_end(span);
        }
    }

    fn sort(&self, span: SpanData) {
        if let Some(unit) = span.span_context.trace_state().get(UNIT) {
            match self.kept().get_mut(unit) {
                // It has ended well.
                None => return,
                Some(Some(spans)) => {
                    if spans.len() < KEPT_MAX {
                        spans.push(span);
                    }
                    return;
                }
                Some(None) => {}
            }
        }
        self.batches.on_end(span);
    }
}

/// [`Sorting`] as the tracer provider takes it.
#[derive(Debug)]
struct Sorter(Arc<Sorting>);

impl SpanProcessor for Sorter {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.sort(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.batches.shutdown_with_timeout(timeout)
    }
}

/// Tells once that the receiver is away, and once that it is back.
#[derive(Debug)]
struct Watched {
    inner: OtlpExporter,
    /// That the receiver refuses what it is sent counts as away; otherwise whoever sends tells of it.
    tells_refusals: bool,
    /// Shared by all exporters of the process.
    away: Arc<AtomicBool>,
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let done = self.inner.export(batch).await;
        if !self.tells_refusals && done.as_ref().is_err_and(otlp::is_refused) {
            return done;
        }
        match (&done, self.away.swap(done.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => tracing::warn!(
                %error,
                "traces cannot be sent; backups go on, and traces when their receiver is back"
            ),
            (Ok(()), true) => tracing::info!("traces are sent again"),
            _ => {}
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samplers_of_the_standard_are_understood() {
        assert_eq!(Ratio::of("", None), Some(Ratio(1.0)));
        assert_eq!(Ratio::of("parentbased_always_off", None), Some(Ratio(0.0)));
        assert_eq!(Ratio::of("traceidratio", Some("0.25")), Some(Ratio(0.25)));
        assert_eq!(Ratio::of("traceidratio", Some("25")), None);
        assert_eq!(Ratio::of("jaeger_remote", None), None);
    }

    #[test]
    fn a_quarter_of_the_ids_of_runs_is_about_a_quarter_of_the_traces() {
        let (mut all, mut some, mut none) = (0, 0, 0);
        for _ in 0..4000 {
            let trace = Uuid::now_v7();
            all += u32::from(Ratio(1.0).has(trace));
            some += u32::from(Ratio(0.25).has(trace));
            none += u32::from(Ratio(0.0).has(trace));
        }
        assert_eq!((all, none), (4000, 0));
        assert!((800..1200).contains(&some), "{some}");
    }
}
