//! How the figures leave the process: pushed as OTLP where an endpoint is named, read as Prometheus text
//! where the process listens.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry::global;
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{
        Instrument, PeriodicReader, SdkMeterProvider, Stream, Temporality, data::ResourceMetrics,
        exporter::PushMetricExporter,
    },
};
use prometheus::{Encoder, Registry, TextEncoder};
use virtuozo_runtime::Availability;

use super::{ARE_READ, INSTRUMENTS, observe};
use crate::otlp::{self, Signal};

/// The form of [`text`], as HTTP names it.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Guests, hosts and repositories that are told apart; the library's own limit is 2000.
const SERIES_MAX: usize = 50_000;

/// What is read as text; none: nothing.
static REGISTRY: OnceLock<Registry> = OnceLock::new();

/// The figures of this process are exported until [`end`](Self::end).
#[derive(Debug)]
pub struct Metrics(Option<SdkMeterProvider>);

impl Metrics {
    /// Begins, if somebody wants them: an endpoint is named for OTLP, or the process `listens`. Once in a
    /// process, on its runtime, before anything is counted. What cannot be set up is told, and the process
    /// goes on without. `process` is `scheduler`, `worker` or `up`.
    pub fn begin(process: &'static str, listens: bool, availability: &Availability) -> Self {
        let registry = listens.then(Registry::new);
        let scraped = registry.as_ref().and_then(|registry| {
            let exporter = opentelemetry_prometheus::exporter()
                .with_registry(registry.clone())
                .scope_info_enabled(false)
                .build();
            told(exporter, "no figures can be read from /metrics")
        });
        let pushed = otlp::is_wanted(Signal::Metrics).then(|| {
            otlp::choose_tls();
            let exporter = MetricExporter::builder().build();
            told(
                exporter,
                "no figures are sent: look at the variables OTEL_EXPORTER_OTLP_*",
            )
        });
        let pushed = pushed.flatten();
        if scraped.is_none() && pushed.is_none() {
            return Self(None);
        }
        let mut builder = SdkMeterProvider::builder()
            .with_resource(otlp::resource(process))
            .with_view(|instrument: &Instrument| {
                let many = instrument.name().starts_with("virtuozo.guest.")
                    || instrument.name().starts_with("virtuozo.host.");
                let stream = || Stream::builder().with_cardinality_limit(SERIES_MAX).build();
                many.then(stream)?.ok()
            });
        if let Some(reader) = scraped {
            builder = builder.with_reader(reader);
        }
        if let Some(exporter) = pushed {
            let exporter = Watched {
                inner: exporter,
                away: AtomicBool::new(false),
            };
            builder = builder.with_reader(PeriodicReader::builder(exporter).build());
        }
        let provider = builder.build();
        global::set_meter_provider(provider.clone());
        INSTRUMENTS.begin_at_zero();
        observe(&super::meter(), availability);
        if let Some(registry) = registry {
            // Only the first one counts, as for all that is global here.
            let _ = REGISTRY.set(registry);
        }
        ARE_READ.store(true, Ordering::Relaxed);
        Self(Some(provider))
    }

    /// Sends what is left, for a short time.
    pub async fn end(self) {
        if let Self(Some(provider)) = self {
            otlp::end(move |limit| provider.shutdown_with_timeout(limit)).await;
        }
    }
}

fn told<T, E: std::fmt::Display>(outcome: Result<T, E>, what: &str) -> Option<T> {
    outcome
        .inspect_err(|error| tracing::warn!(%error, "{what}"))
        .ok()
}

/// The figures as Prometheus reads them; none: this process does not listen.
///
/// # Errors
/// They cannot be written as text.
pub fn text() -> Option<Result<Vec<u8>, prometheus::Error>> {
    let registry = REGISTRY.get()?;
    let mut text = Vec::new();
    let encoded = TextEncoder::new().encode(&registry.gather(), &mut text);
    Some(encoded.map(|()| text))
}

/// Says once that figures do not arrive, and once that they do again.
#[derive(Debug)]
struct Watched {
    inner: MetricExporter,
    away: AtomicBool,
}

impl PushMetricExporter for Watched {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let sent = self.inner.export(metrics).await;
        match &sent {
            Ok(()) if self.away.swap(false, Ordering::Relaxed) => {
                tracing::info!("figures arrive again");
            }
            Err(error) if !self.away.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "figures do not arrive; trying again without a word");
            }
            _ => {}
        }
        sent
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}
