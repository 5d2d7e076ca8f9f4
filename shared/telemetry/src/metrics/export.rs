//! How metrics leave the process: pushed by OTLP where an endpoint is named, read as Prometheus text where the process
//! listens.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

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

use super::Metrics;
use crate::{
    otlp::{self, Signal},
    traces::Traces,
};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Guests, hosts and repositories that are told apart; the library's own limit is 2000.
const SERIES_MAX: usize = 50_000;

impl Metrics {
    /// Metrics that are exported until [`end`](Self::end), if somebody wants them: an endpoint is named for OTLP, or the
    /// process `listens`. To be called on the process's runtime. What cannot be set up is logged, and the process goes on
    /// without. `process` is `scheduler`, `worker` or `up`.
    pub fn begin(
        process: &'static str,
        listens: bool,
        availability: &Availability,
        traces: &Traces,
    ) -> Self {
        let registry = listens.then(Registry::new);
        let scraped = registry.as_ref().and_then(|registry| {
            let exporter = opentelemetry_prometheus::exporter()
                .with_registry(registry.clone())
                .scope_info_enabled(false)
                .build();
            logged(exporter, "no metrics can be read from /metrics")
        });
        let pushed = otlp::is_wanted(Signal::Metrics).then(|| {
            otlp::choose_tls();
            let exporter = MetricExporter::builder().build();
            logged(
                exporter,
                "no metrics are sent: look at the variables OTEL_EXPORTER_OTLP_*",
            )
        });
        let pushed = pushed.flatten();
        if scraped.is_none() && pushed.is_none() {
            return Self::default();
        }
        let mut builder = SdkMeterProvider::builder()
            .with_resource(otlp::resource(process))
            .with_view(|instrument: &Instrument| {
                let many = instrument.name().starts_with("virtuozo.guest.")
                    || instrument.name().starts_with("virtuozo.host.");
                let stream = || Stream::builder().with_cardinality_limit(SERIES_MAX).build();
                many.then(stream)?.ok()
            });
        let registry = registry.filter(|_| scraped.is_some());
        if let Some(reader) = scraped {
            builder = builder.with_reader(reader);
        }
        if let Some(exporter) = pushed {
            let exporter = LoggingExporter {
                inner: exporter,
                is_away: AtomicBool::new(false),
            };
            builder = builder.with_reader(PeriodicReader::builder(exporter).build());
        }
        Self::read_by(builder.build(), registry, availability, traces)
    }

    /// Sends what is left, for a short time. Nothing is read any more then.
    pub async fn end(&self) {
        if let Some(provider) = self.shared.provider.clone() {
            otlp::end(move |limit| provider.shutdown_with_timeout(limit)).await;
        }
    }

    /// The metrics as Prometheus reads them; none: this process does not listen.
    ///
    /// # Errors
    /// They cannot be written as text.
    pub fn text(&self) -> Option<Result<Vec<u8>, prometheus::Error>> {
        let registry = self.shared.registry.as_ref()?;
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&registry.gather(), &mut text);
        Some(encoded.map(|()| text))
    }
}

fn logged<T, E: std::fmt::Display>(outcome: Result<T, E>, what: &str) -> Option<T> {
    outcome
        .inspect_err(|error| tracing::warn!(%error, "{what}"))
        .ok()
}

/// An exporter that logs once when its receiver is away, and once when it is back.
#[derive(Debug)]
struct LoggingExporter {
    inner: MetricExporter,
    is_away: AtomicBool,
}

impl PushMetricExporter for LoggingExporter {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let sent = self.inner.export(metrics).await;
        match &sent {
            Ok(()) if self.is_away.swap(false, Ordering::Relaxed) => {
                tracing::info!("metrics are sent again");
            }
            Err(error) if !self.is_away.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "metrics cannot be sent; work goes on, and metrics when their receiver is back");
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
