//! Sending spans: those of work in progress in batches in the background, finished trees at once; and which spans are
//! sent where only a share of the traces is wanted.
//!
//! Which traces are wanted is decided by their id, the same in each process. The spans of the others are sampled at their
//! end: a [`UnitOfWork`] holds its spans back, and they are sent if it failed.

mod delivery;

use std::{
    collections::HashMap,
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt, TraceState, TracerProvider},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter as OtlpExporter};
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    trace::{
        BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter,
        SpanProcessor,
    },
};
use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

use self::delivery::{Deliveries, RetryingExporter};
use super::otlp::{self, Signal};

/// Spans that a unit of work holds back at most; further ones are lost, and count as such if it fails.
const HELD_MAX: usize = 512;
/// The member of the trace state that names the unit of work a span belongs to.
const UNIT: &str = "virtuozo";

/// Sends the spans of a process. Clones share it. By default nothing is sent.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<Arc<Exporting>>);

#[derive(Debug)]
struct Exporting {
    provider: SdkTracerProvider,
    wanted: SamplingRatio,
    sampler: Arc<TailSampler>,
    /// For finished trees, beside the one of the batches: an exporter does one thing at a time.
    direct: tokio::sync::Mutex<Arc<LoggingExporter>>,
}

impl Traces {
    /// Sends spans until [`end`](Self::end), if that is wanted. To be called on the process's runtime. What cannot be set
    /// up is logged, and the process goes on without. `process` is `scheduler`, `worker` or `up`.
    pub fn begin(process: &'static str) -> Self {
        if !otlp::is_wanted(Signal::Traces) {
            return Self(None);
        }
        otlp::choose_tls();
        let is_away = Arc::new(AtomicBool::new(false));
        let resource = otlp::resource(process);
        let exporter = |logs_refusals| {
            let mut inner = OtlpExporter::builder().build()?;
            inner.set_resource(&resource);
            Ok::<_, ExporterBuildError>(LoggingExporter {
                inner,
                logs_refusals,
                is_away: Arc::clone(&is_away),
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
        let deliveries = Arc::new(Deliveries::from_environment());
        let batches = RetryingExporter::new(batches, Arc::clone(&deliveries));
        let sampler = Arc::new(TailSampler {
            batches: BatchSpanProcessor::builder(batches).build(),
            deliveries,
            units: Mutex::default(),
        });
        let provider = SdkTracerProvider::builder()
            // Which spans are sent is decided at their end.
            .with_sampler(Sampler::AlwaysOn)
            .with_span_processor(Sampling(Arc::clone(&sampler)))
            .build();
        tracing::info!("traces are sent");
        Self(Some(Arc::new(Exporting {
            provider,
            wanted: SamplingRatio::from_environment(),
            sampler,
            direct: tokio::sync::Mutex::new(Arc::new(direct)),
        })))
    }

    /// Sends what is left, for a short time, and logs how many spans were lost.
    pub async fn end(&self) {
        if let Some(exporting) = &self.0 {
            let provider = exporting.provider.clone();
            exporting.sampler.deliveries.begin_ending();
            otlp::end(move |limit| provider.shutdown_with_timeout(limit)).await;
            exporting.sampler.deliveries.end();
        }
    }

    /// Spans of calls and copied blocks that were lost since the process began. Those that the scheduler makes from
    /// the database are sent again.
    pub fn lost(&self) -> u64 {
        let exporting = self.0.as_ref();
        exporting.map_or(0, |exporting| exporting.sampler.deliveries.lost())
    }

    /// Whether spans are sent.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a trace is wanted as a whole. Of the others only what failed is sent.
    pub fn wants(&self, trace: Uuid) -> bool {
        self.0
            .as_ref()
            .is_some_and(|exporting| exporting.wanted.has(trace))
    }

    /// What begins spans of work in progress; none: nothing is sent.
    pub fn tracer(&self) -> Option<SdkTracer> {
        let exporting = self.0.as_ref()?;
        Some(exporting.provider.tracer("virtuozo"))
    }

    /// Sends finished spans at once.
    ///
    /// # Errors
    /// They did not arrive.
    pub async fn send(&self, spans: Vec<SpanData>) -> Result<(), SendError> {
        let Some(exporting) = &self.0 else {
            return Ok(());
        };
        let direct = exporting.direct.lock().await;
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

    /// Begins a unit of work of a trace. `name` is unique in this process, of small letters, digits and dashes.
    pub fn unit_of_work(&self, trace: Uuid, name: String) -> UnitOfWork {
        let held_back = self
            .0
            .as_ref()
            .filter(|exporting| !exporting.wanted.has(trace))
            .map(|exporting| {
                exporting.sampler.hold_back(&name);
                HeldBack {
                    sampler: Arc::clone(&exporting.sampler),
                    name,
                }
            });
        UnitOfWork {
            is_traced: self.is_on(),
            held_back,
        }
    }
}

/// Why spans did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The receiver does not take these, and would not take them another time.
    #[error("the receiver of traces refuses them: {0}")]
    Refused(OTelSdkError),
    /// It is away, or takes nothing now. The exporter has logged that.
    #[error(transparent)]
    Away(OTelSdkError),
}

/// A unit of work in this process whose spans are sent together, or not at all; it ends when dropped.
#[derive(Debug)]
pub struct UnitOfWork {
    is_traced: bool,
    /// None: its spans are sent as they end.
    held_back: Option<HeldBack>,
}

/// The spans of a unit of work, as long as it is not known how it ends.
#[derive(Debug)]
struct HeldBack {
    sampler: Arc<TailSampler>,
    name: String,
}

impl UnitOfWork {
    /// The context of work below the span `parent`.
    pub fn below(&self, parent: &SpanContext) -> Context {
        if !self.is_traced {
            return Context::new();
        }
        let name = self.held_back.as_ref().map(|held| held.name.as_str());
        let state = name.and_then(|name| TraceState::from_key_value([(UNIT, name)]).ok());
        Context::new().with_remote_span_context(SpanContext::new(
            parent.trace_id(),
            parent.span_id(),
            parent.trace_flags(),
            true,
            state.unwrap_or_default(),
        ))
    }

    /// It failed: its spans are sent, those that are still to come too.
    pub fn failed(&self) {
        if let Some(held) = &self.held_back {
            held.sampler.release(&held.name);
        }
    }
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        self.sampler.units().remove(&self.name);
    }
}

/// What share of the traces is wanted: `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct SamplingRatio(f64);

impl SamplingRatio {
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

/// Passes ended spans on, or holds them back until their unit of work ends.
#[derive(Debug)]
struct TailSampler {
    batches: BatchSpanProcessor,
    deliveries: Arc<Deliveries>,
    /// By unit of work; none where it failed and its spans are sent.
    units: Mutex<HashMap<String, Option<HeldSpans>>>,
}

/// The spans of a unit of work so far.
#[derive(Debug, Default)]
struct HeldSpans {
    spans: Vec<SpanData>,
    /// Those for which there was no room.
    left_out: u64,
}

impl TailSampler {
    fn units(&self) -> MutexGuard<'_, HashMap<String, Option<HeldSpans>>> {
        self.units.lock()
    }

    fn hold_back(&self, unit: &str) {
        self.units()
            .insert(unit.to_owned(), Some(HeldSpans::default()));
    }

    fn release(&self, unit: &str) {
        let held = self.units().insert(unit.to_owned(), None);
        let held = held.flatten().unwrap_or_default();
        self.deliveries.lose(held.left_out);
        for span in held.spans {
            self.send(span);
        }
    }

    fn send(&self, span: SpanData) {
        if self.deliveries.take() {
            self.batches.on_end(span);
        }
    }

    fn ended(&self, span: SpanData) {
        if let Some(unit) = span.span_context.trace_state().get(UNIT) {
            match self.units().get_mut(unit) {
                // It has ended well.
                None => return,
                Some(Some(held)) => {
                    if held.spans.len() < HELD_MAX {
                        held.spans.push(span);
                    } else {
                        held.left_out += 1;
                    }
                    return;
                }
                Some(None) => {}
            }
        }
        self.send(span);
    }
}

/// [`TailSampler`] as the tracer provider takes it.
#[derive(Debug)]
struct Sampling(Arc<TailSampler>);

impl SpanProcessor for Sampling {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.ended(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.batches.shutdown_with_timeout(timeout)
    }
}

/// An exporter that logs once when its receiver is away, and once when it is back.
#[derive(Debug)]
struct LoggingExporter {
    inner: OtlpExporter,
    /// A receiver that refuses what it is sent counts as away; otherwise whoever sends logs a refusal.
    logs_refusals: bool,
    /// Shared by both exporters of a process.
    is_away: Arc<AtomicBool>,
}

impl SpanExporter for LoggingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let done = self.inner.export(batch).await;
        if !self.logs_refusals && done.as_ref().is_err_and(otlp::is_refused) {
            return done;
        }
        match (&done, self.is_away.swap(done.is_err(), Ordering::Relaxed)) {
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
        assert_eq!(SamplingRatio::of("", None), Some(SamplingRatio(1.0)));
        assert_eq!(
            SamplingRatio::of("parentbased_always_off", None),
            Some(SamplingRatio(0.0))
        );
        assert_eq!(
            SamplingRatio::of("traceidratio", Some("0.25")),
            Some(SamplingRatio(0.25))
        );
        assert_eq!(SamplingRatio::of("traceidratio", Some("25")), None);
        assert_eq!(SamplingRatio::of("jaeger_remote", None), None);
    }

    #[test]
    fn a_quarter_of_the_ids_of_runs_is_about_a_quarter_of_the_traces() {
        let (mut all, mut some, mut none) = (0, 0, 0);
        for _ in 0..4000 {
            let trace = Uuid::now_v7();
            all += u32::from(SamplingRatio(1.0).has(trace));
            some += u32::from(SamplingRatio(0.25).has(trace));
            none += u32::from(SamplingRatio(0.0).has(trace));
        }
        assert_eq!((all, none), (4000, 0));
        assert!((800..1200).contains(&some), "{some}");
    }
}
