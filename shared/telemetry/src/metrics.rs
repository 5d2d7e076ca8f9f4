//! Metrics: one set of instruments, exported by OTLP and as Prometheus text. docs/reference/metrics.md lists them.
//!
//! Each process counts what it did itself. What is true of the whole fleet is reported by the leading scheduler alone,
//! which reads it in the database. In a process whose metrics nobody reads the instruments do nothing.

mod export;

use std::{fmt, sync::Arc, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, Meter, MeterProvider, NoopMeterProvider, UpDownCounter},
};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use parking_lot::Mutex;
use prometheus::Registry;

use virtuozo_runtime::Availability;

use crate::traces::Traces;

pub use export::CONTENT_TYPE;

/// Steps last from less than a second to half a day.
const STEP_BUCKETS: [f64; 16] = [
    0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 10_800.0, 14_400.0,
    21_600.0, 28_800.0, 43_200.0,
];
/// A snapshot call that takes long is felt in the guest.
const CALL_BUCKETS: [f64; 11] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0,
];

/// The name of the instrumentation scope.
const SCOPE: &str = "virtuozo";

/// The space in a repository.
#[derive(Debug, Clone)]
pub struct RepositorySpace {
    /// The destination directory, as guests and settings name it.
    pub repository: String,
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Bytes of its file system.
    pub size_bytes: u64,
}

/// How something came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Succeeded,
    /// For good, with an error.
    Failed,
    /// Somebody wanted it to end.
    Cancelled,
    /// It was left out.
    Skipped,
    /// Failed, and is tried again.
    Retried,
    /// Given up, to be gone on with by another worker.
    HandedOver,
    /// Waits for a host that does not answer; counts as no attempt.
    WaitsForHost,
}

impl Outcome {
    /// All, for those that are to be there before they first happen.
    const ALL: [Self; 7] = [
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Skipped,
        Self::Retried,
        Self::HandedOver,
        Self::WaitsForHost,
    ];

    fn label(self) -> KeyValue {
        let name = match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::Retried => "retried",
            Self::HandedOver => "handed_over",
            Self::WaitsForHost => "waits_for_host",
        };
        KeyValue::new("outcome", name)
    }
}

/// What a lease is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseKind {
    /// A guest run.
    Guest,
    /// A host run.
    Host,
    /// The obligations of a guest.
    Undo,
    /// The right to try whether a host answers again.
    Probe,
    /// A command of the administrator.
    Hook,
    /// What somebody has asked of a host.
    Request,
    /// The lead of the schedulers.
    Lead,
    /// A notice that is being sent.
    Notice,
}

impl LeaseKind {
    fn label(self) -> KeyValue {
        let name = match self {
            Self::Guest => "guest",
            Self::Host => "host",
            Self::Undo => "undo",
            Self::Probe => "probe",
            Self::Hook => "hook",
            Self::Request => "request",
            Self::Lead => "lead",
            Self::Notice => "notice",
        };
        KeyValue::new("kind", name)
    }
}

/// A call that a guest feels: it stands still while its disks are frozen or merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotCall {
    /// A snapshot is taken.
    Create,
    /// One is removed.
    Remove,
}

struct Instruments {
    runs: Counter<u64>,
    attempts: Counter<u64>,
    take_overs: Counter<u64>,
    expired: Counter<u64>,
    copied: Counter<u64>,
    steps: Histogram<f64>,
    snapshot_calls: Histogram<f64>,
    leases: UpDownCounter<i64>,
}

impl Instruments {
    fn new(meter: &Meter) -> Self {
        let counter = |name, unit, about| {
            meter
                .u64_counter(name)
                .with_unit(unit)
                .with_description(about)
                .build()
        };
        let histogram = |name, about, buckets: &[f64]| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(about)
                .with_boundaries(buckets.to_vec())
                .build()
        };
        Self {
            runs: counter(
                "virtuozo.runs.ended",
                "{run}",
                "Runs that this process ended, by outcome",
            ),
            attempts: counter(
                "virtuozo.guest_run.attempts",
                "{attempt}",
                "Attempts to back up a guest that came to an end in this process, by outcome",
            ),
            take_overs: counter(
                "virtuozo.guest_run.takeovers",
                "{takeover}",
                "Guest runs that this worker took over from one that stopped answering",
            ),
            expired: counter(
                "virtuozo.leases.expired",
                "{lease}",
                "Leases that ran out because their worker stopped answering, by what they are about",
            ),
            copied: counter(
                "virtuozo.copy",
                "By",
                "Bytes that copies of this worker have got through",
            ),
            steps: histogram(
                "virtuozo.step.duration",
                "Duration of the steps of guest runs, by step and outcome",
                &STEP_BUCKETS,
            ),
            snapshot_calls: histogram(
                "virtuozo.snapshot.call.duration",
                "Duration of the calls that take and remove snapshots; the guest stands still for a part of it",
                &CALL_BUCKETS,
            ),
            leases: meter
                .i64_up_down_counter("virtuozo.leases.held")
                .with_unit("{lease}")
                .with_description("Leases that this process holds, by what they are for: guest (a guest run), host (a host run), undo (the obligations of a guest), probe (whether a host answers again), hook (a command before or after), request (what was asked of a host), lead (the leading scheduler), notice (one that is being sent)")
                .build(),
        }
    }

    /// Enters what has not happened yet: who adds up increases misses the first one otherwise.
    fn begin_at_zero(&self) {
        for outcome in Outcome::ALL {
            self.attempts.add(0, &[outcome.label()]);
        }
        for outcome in [Outcome::Succeeded, Outcome::Failed, Outcome::Cancelled] {
            self.runs.add(0, &[outcome.label()]);
        }
        for kind in [
            LeaseKind::Guest,
            LeaseKind::Host,
            LeaseKind::Undo,
            LeaseKind::Probe,
            LeaseKind::Hook,
            LeaseKind::Request,
            LeaseKind::Lead,
            LeaseKind::Notice,
        ] {
            self.leases.add(0, &[kind.label()]);
        }
        for kind in [LeaseKind::Guest, LeaseKind::Host, LeaseKind::Request] {
            self.expired.add(0, &[kind.label()]);
        }
        for counter in [&self.take_overs, &self.copied] {
            counter.add(0, &[]);
        }
    }
}

/// What the parts of the process have reported last, for gauges.
#[derive(Debug, Default)]
struct Reported {
    /// Whether the scheduler in this process leads; none: there is no scheduler.
    leads: Mutex<Option<bool>>,
    /// The repositories that this process can see.
    repositories: Mutex<Vec<RepositorySpace>>,
}

/// The metrics of a process: what its parts count with. Clones share it. By default nobody reads them.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

struct Shared {
    meter: Meter,
    instruments: Instruments,
    reported: Arc<Reported>,
    /// None: nobody reads the metrics.
    provider: Option<SdkMeterProvider>,
    /// What `/metrics` reads; none: the process does not listen.
    registry: Option<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let meter = NoopMeterProvider::new().meter(SCOPE);
        Self {
            shared: Arc::new(Shared {
                instruments: Instruments::new(&meter),
                meter,
                reported: Arc::default(),
                provider: None,
                registry: None,
            }),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("provider", &self.shared.provider)
            .finish_non_exhaustive()
    }
}

impl Metrics {
    /// Metrics that `provider` reads, and `registry` too if the process listens.
    fn read_by(
        provider: SdkMeterProvider,
        registry: Option<Registry>,
        availability: &Availability,
        traces: &Traces,
    ) -> Self {
        let meter = provider.meter(SCOPE);
        let (instruments, reported) = (Instruments::new(&meter), Arc::default());
        instruments.begin_at_zero();
        observe(&meter, availability, traces, &reported);
        Self {
            shared: Arc::new(Shared {
                meter,
                instruments,
                reported,
                provider: Some(provider),
                registry,
            }),
        }
    }

    /// What further instruments are made with.
    pub fn meter(&self) -> &Meter {
        &self.shared.meter
    }

    /// Whether somebody reads the metrics, so that it pays to collect them.
    pub fn are_read(&self) -> bool {
        self.shared.provider.is_some()
    }

    /// A run ended, in a state of the table `runs`.
    pub fn run_ended(&self, state: &str) {
        let outcome = match state {
            "succeeded" => Outcome::Succeeded,
            "cancelled" => Outcome::Cancelled,
            _ => Outcome::Failed,
        };
        self.instruments().runs.add(1, &[outcome.label()]);
    }

    /// An attempt to back up a guest came to its end.
    pub fn attempt_ended(&self, outcome: Outcome) {
        self.instruments().attempts.add(1, &[outcome.label()]);
    }

    /// A guest run was taken over from a worker that stopped answering.
    pub fn taken_over(&self) {
        self.instruments().take_overs.add(1, &[]);
    }

    /// A lease ran out because its worker stopped answering.
    pub fn lease_expired(&self, kind: LeaseKind) {
        self.instruments().expired.add(1, &[kind.label()]);
    }

    /// A copy has got on by so many bytes.
    pub fn copied(&self, bytes: u64) {
        self.instruments().copied.add(bytes, &[]);
    }

    /// A step came to its end.
    pub fn step_ended(&self, step: &'static str, outcome: Outcome, lasted: Duration) {
        let labels = [KeyValue::new("step", step), outcome.label()];
        let steps = &self.instruments().steps;
        steps.record(lasted.as_secs_f64(), &labels);
    }

    /// A snapshot was taken or removed, or could not be.
    pub fn snapshot_called(&self, call: SnapshotCall, lasted: Duration) {
        let call = match call {
            SnapshotCall::Create => "create",
            SnapshotCall::Remove => "remove",
        };
        let calls = &self.instruments().snapshot_calls;
        calls.record(lasted.as_secs_f64(), &[KeyValue::new("call", call)]);
    }

    /// A lease was taken. It counts as held until the returned value is dropped.
    pub fn lease_held(&self, kind: LeaseKind) -> HeldLease {
        let held = self.instruments().leases.clone();
        held.add(1, &[kind.label()]);
        HeldLease { held, kind }
    }

    /// Reports whether the scheduler in this process leads; none: it has ended.
    pub fn set_leads(&self, leads: Option<bool>) {
        let reported = &self.shared.reported.leads;
        *reported.lock() = leads;
    }

    /// Reports the space in the repositories that this process can see.
    pub fn set_repositories(&self, spaces: Vec<RepositorySpace>) {
        let reported = &self.shared.reported.repositories;
        *reported.lock() = spaces;
    }

    /// Reports how many processes of this one were killed and have not ended, which `count` says when it is asked.
    pub fn observe_left_behind(&self, count: impl Fn() -> u64 + Send + Sync + 'static) {
        self.meter()
            .u64_observable_gauge("virtuozo.files.left_behind")
            .with_unit("{process}")
            .with_description(
                "Processes that were killed and do not end, because a file system does not answer",
            )
            .with_callback(move |observer| observer.observe(count(), &[]))
            .build();
    }

    fn instruments(&self) -> &Instruments {
        &self.shared.instruments
    }
}

/// A lease that counts as held by this process until this value is dropped.
#[derive(Debug)]
pub struct HeldLease {
    held: UpDownCounter<i64>,
    kind: LeaseKind,
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.held.add(-1, &[self.kind.label()]);
    }
}

/// Registers what is asked for when metrics are read.
fn observe(meter: &Meter, availability: &Availability, traces: &Traces, reported: &Arc<Reported>) {
    let traces = traces.clone();
    meter
        .u64_observable_counter("virtuozo.spans.lost")
        .with_unit("{span}")
        .with_description("Spans of calls and copied blocks that did not reach their receiver")
        .with_callback(move |into| into.observe(traces.lost(), &[]))
        .build();
    let database = availability.clone();
    meter
        .u64_observable_gauge("virtuozo.database.available")
        .with_unit("{database}")
        .with_description("1 while the database answers this process, 0 while it waits for it")
        .with_callback(move |into| {
            into.observe(u64::from(database.unavailable_for().is_none()), &[]);
        })
        .build();
    let database = availability.clone();
    meter
        .u64_observable_counter("virtuozo.database.outages")
        .with_unit("{outage}")
        .with_description("Outages of the database that this process met")
        .with_callback(move |into| into.observe(database.outages(), &[]))
        .build();
    let database = availability.clone();
    meter
        .u64_observable_counter("virtuozo.database.errors")
        .with_unit("{error}")
        .with_description("Statements that got an error (refused) or no answer (unavailable)")
        .with_callback(move |into| {
            let errors = database.statement_errors();
            into.observe(errors.refused, &[KeyValue::new("kind", "refused")]);
            into.observe(errors.unavailable, &[KeyValue::new("kind", "unavailable")]);
        })
        .build();
    let of_scheduler = Arc::clone(reported);
    meter
        .u64_observable_gauge("virtuozo.scheduler.leads")
        .with_unit("{scheduler}")
        .with_description("1 in the scheduler that leads, 0 in the others")
        .with_callback(move |into| {
            if let Some(leads) = *of_scheduler.leads.lock() {
                into.observe(u64::from(leads), &[]);
            }
        })
        .build();
    type Read = fn(&RepositorySpace) -> u64;
    let spaces: [(_, _, Read); 2] = [
        (
            "virtuozo.repository.free",
            "Bytes that may still be written to a repository, as this worker sees it",
            |space| space.free_bytes,
        ),
        (
            "virtuozo.repository.size",
            "Bytes of a repository's file system, as this worker sees it",
            |space| space.size_bytes,
        ),
    ];
    for (name, about, value) in spaces {
        let reported = Arc::clone(reported);
        meter
            .u64_observable_gauge(name)
            .with_unit("By")
            .with_description(about)
            .with_callback(move |into| {
                for space in &*reported.repositories.lock() {
                    let label = KeyValue::new("repository", space.repository.clone());
                    into.observe(value(space), &[label]);
                }
            })
            .build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(availability: &Availability) -> Metrics {
        Metrics::begin("worker", true, availability, &Traces::default())
    }

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.text().unwrap().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn two_metrics_in_one_process_count_apart_and_clones_together() {
        let (of_one, of_other) = (Availability::default(), Availability::default());
        let (one, other) = (listening(&of_one), listening(&of_other));
        one.clone().run_ended("failed");
        one.set_leads(Some(true));
        one.set_repositories(vec![RepositorySpace {
            repository: "/backup".to_owned(),
            free_bytes: 7,
            size_bytes: 9,
        }]);
        let lease = one.lease_held(LeaseKind::Guest);
        of_one.count_refused();

        let failed = "virtuozo_runs_ended_total{outcome=\"failed\"}";
        let held = "virtuozo_leases_held{kind=\"guest\"}";
        let refused = "virtuozo_database_errors_total{kind=\"refused\"}";
        let read = text(&one);
        for line in [
            format!("{failed} 1"),
            format!("{held} 1"),
            format!("{refused} 1"),
            "virtuozo_scheduler_leads 1".to_owned(),
            "virtuozo_repository_free_bytes{repository=\"/backup\"} 7".to_owned(),
        ] {
            assert!(read.lines().any(|one| one == line), "no {line:?} in {read}");
        }
        drop(lease);
        assert!(text(&one).contains(&format!("{held} 0")));

        let read = text(&other);
        for line in [
            format!("{failed} 0"),
            format!("{held} 0"),
            format!("{refused} 0"),
        ] {
            assert!(read.lines().any(|one| one == line), "no {line:?} in {read}");
        }
        assert!(!read.contains("scheduler_leads") && !read.contains("/backup"));
    }

    #[test]
    fn metrics_that_nobody_reads_count_nothing_and_have_no_text() {
        let metrics = Metrics::default();
        metrics.run_ended("failed");
        assert!(!metrics.are_read());
        assert!(metrics.text().is_none());
    }
}
