//! Batches of spans on their way to the receiver: sent again while it is away, and counted where they are lost.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};
use parking_lot::{Condvar, Mutex};
use virtuozo_runtime::{Backoff, BackoffPolicy, LIMITS};

use crate::otlp;

/// What `OTEL_BSP_MAX_QUEUE_SIZE` is where it is not set, by the OpenTelemetry specification.
const QUEUE_SPANS: u64 = 2048;

/// Between attempts to send a batch.
const PAUSES: BackoffPolicy = BackoffPolicy::doubling(
    LIMITS.process.telemetry_retry_first,
    LIMITS.process.telemetry_retry_longest,
)
.with_jitter(0.2);

/// What has become of the spans of a process.
#[derive(Debug)]
pub(super) struct Deliveries {
    /// As many as may be on their way at once, the batch that is being sent included.
    most_on_their_way: u64,
    taken: AtomicU64,
    /// Of those that were taken, the ones that have arrived or are lost.
    settled: AtomicU64,
    /// Those for which there was no room included.
    lost: AtomicU64,
    /// Of the lost ones, those that nobody was told of.
    untold: AtomicU64,
    is_ending: Mutex<bool>,
    ending: Condvar,
}

impl Deliveries {
    /// With the queue that `OTEL_BSP_MAX_QUEUE_SIZE` asks for.
    pub(super) fn from_environment() -> Self {
        let asked = env::var("OTEL_BSP_MAX_QUEUE_SIZE").ok();
        Self::new(
            asked
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(QUEUE_SPANS),
        )
    }

    fn new(most_on_their_way: u64) -> Self {
        Self {
            most_on_their_way,
            taken: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            untold: AtomicU64::new(0),
            is_ending: Mutex::new(false),
            ending: Condvar::new(),
        }
    }

    /// Whether there is room for one more span, which is then on its way; otherwise it is lost.
    pub(super) fn take(&self) -> bool {
        if self.on_their_way() < self.most_on_their_way {
            self.taken.fetch_add(1, Ordering::Relaxed);
            true
        } else {
            self.lose(1);
            false
        }
    }

    /// Spans that will not arrive.
    pub(super) fn lose(&self, spans: u64) {
        self.lost.fetch_add(spans, Ordering::Relaxed);
        self.untold.fetch_add(spans, Ordering::Relaxed);
    }

    /// Spans that were lost since the process began.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// From now on each batch is sent once more at most.
    pub(super) fn begin_ending(&self) {
        *self.is_ending.lock() = true;
        self.ending.notify_all();
    }

    /// What is on its way now is lost, and all that nobody was told of is logged.
    pub(super) fn end(&self) {
        let left = self.on_their_way();
        self.settled.fetch_add(left, Ordering::Relaxed);
        self.lose(left);
        self.tell_lost();
    }

    fn on_their_way(&self) -> u64 {
        let settled = self.settled.load(Ordering::Relaxed);
        self.taken.load(Ordering::Relaxed).saturating_sub(settled)
    }

    fn tell_lost(&self) {
        let spans = self.untold.swap(0, Ordering::Relaxed);
        if spans > 0 {
            tracing::warn!(
                spans,
                "spans were lost: traces of this time lack calls and copied blocks; steps and attempts are in them"
            );
        }
    }
}

/// An exporter that sends each batch again while its receiver is away, for a limited time. For a thread that does
/// nothing else: between attempts the thread sleeps.
#[derive(Debug)]
pub(super) struct RetryingExporter<E> {
    inner: E,
    deliveries: Arc<Deliveries>,
}

impl<E> RetryingExporter<E> {
    pub(super) fn new(inner: E, deliveries: Arc<Deliveries>) -> Self {
        Self { inner, deliveries }
    }

    /// Waits before the next attempt; false: there is none. `is_last`: this one was to be the last.
    fn may_retry(
        &self,
        error: &OTelSdkError,
        pauses: &mut Backoff,
        until: Instant,
        is_last: &mut bool,
    ) -> bool {
        if *is_last || otlp::is_refused(error) || Instant::now() >= until {
            return false;
        }
        let mut is_ending = self.deliveries.is_ending.lock();
        if !*is_ending {
            self.deliveries
                .ending
                .wait_for(&mut is_ending, pauses.next());
        }
        *is_last = *is_ending;
        true
    }
}

impl<E: SpanExporter> SpanExporter for RetryingExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let mut pauses = Backoff::new(PAUSES);
        let until = Instant::now() + LIMITS.process.telemetry_retry;
        let mut is_last = false;
        let sent = loop {
            let sent = self.inner.export(batch.clone()).await;
            match &sent {
                Err(error) if self.may_retry(error, &mut pauses, until, &mut is_last) => {}
                _ => break sent,
            }
        };
        self.deliveries.settled.fetch_add(spans, Ordering::Relaxed);
        match &sent {
            Ok(()) => self.deliveries.tell_lost(),
            Err(_) => self.deliveries.lose(spans),
        }
        sent
    }
}

#[cfg(test)]
mod tests;
