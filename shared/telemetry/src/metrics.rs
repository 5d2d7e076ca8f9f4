//! Figures: one set of instruments, read as OTLP and as Prometheus text. docs/reference/metrics.md lists them.
//!
//! What a process did itself it counts itself. What is true of the whole fleet only the leading scheduler
//! tells, from what it reads in the database. Nothing here costs anything in a process whose
//! figures nobody reads.

mod export;

use std::{
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram, Meter, UpDownCounter},
};

use virtuozo_runtime::Availability;

pub use export::{CONTENT_TYPE, Metrics, text};

/// Steps last from less than a second to half a day.
const STEP_BUCKETS: [f64; 16] = [
    0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 10_800.0, 14_400.0,
    21_600.0, 28_800.0, 43_200.0,
];
/// A snapshot call that takes long is felt in the guest.
const CALL_BUCKETS: [f64; 11] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0,
];

/// Somebody reads the figures of this process.
static ARE_READ: AtomicBool = AtomicBool::new(false);
/// Whether the scheduler in this process leads; none: there is no scheduler.
static LEADS: Mutex<Option<bool>> = Mutex::new(None);
/// Free and all bytes of the repositories that this process can see.
static REPOSITORIES: Mutex<Vec<Space>> = Mutex::new(Vec::new());

/// The room in a repository.
#[derive(Debug, Clone)]
pub struct Space {
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

/// Made when first used: after [`Metrics::begin`], or they lead nowhere.
static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| Instruments::new(&meter()));

/// What instruments are made with.
pub fn meter() -> Meter {
    global::meter("virtuozo")
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
                .with_description("Leases that this worker holds, by what they are about")
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

/// Figures that are asked for when they are read.
fn observe(meter: &Meter, availability: &Availability) {
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
    meter
        .u64_observable_gauge("virtuozo.scheduler.leads")
        .with_unit("{scheduler}")
        .with_description("1 in the scheduler that leads, 0 in the others")
        .with_callback(|into| {
            if let Some(leads) = *LEADS.lock().unwrap_or_else(PoisonError::into_inner) {
                into.observe(u64::from(leads), &[]);
            }
        })
        .build();
    type Read = fn(&Space) -> u64;
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
        meter
            .u64_observable_gauge(name)
            .with_unit("By")
            .with_description(about)
            .with_callback(move |into| {
                for space in &*REPOSITORIES.lock().unwrap_or_else(PoisonError::into_inner) {
                    let label = KeyValue::new("repository", space.repository.clone());
                    into.observe(value(space), &[label]);
                }
            })
            .build();
    }
}

/// Whether somebody reads the figures of this process, so that it pays to ask for them.
pub fn are_read() -> bool {
    ARE_READ.load(Ordering::Relaxed)
}

/// A run ended, in a state of the table `runs`.
pub fn run_ended(state: &str) {
    let outcome = match state {
        "succeeded" => Outcome::Succeeded,
        "cancelled" => Outcome::Cancelled,
        _ => Outcome::Failed,
    };
    INSTRUMENTS.runs.add(1, &[outcome.label()]);
}

/// An attempt to back up a guest came to its end.
pub fn attempt_ended(outcome: Outcome) {
    INSTRUMENTS.attempts.add(1, &[outcome.label()]);
}

/// A guest run was taken over from a worker that stopped answering.
pub fn taken_over() {
    INSTRUMENTS.take_overs.add(1, &[]);
}

/// A lease ran out because its worker stopped answering.
pub fn lease_expired(kind: LeaseKind) {
    INSTRUMENTS.expired.add(1, &[kind.label()]);
}

/// A copy has got on by so many bytes.
pub fn copied(bytes: u64) {
    INSTRUMENTS.copied.add(bytes, &[]);
}

/// A step came to its end.
pub fn step_ended(step: &'static str, outcome: Outcome, lasted: Duration) {
    let labels = [KeyValue::new("step", step), outcome.label()];
    INSTRUMENTS.steps.record(lasted.as_secs_f64(), &labels);
}

/// A snapshot was taken or removed, or could not be.
pub fn snapshot_called(call: SnapshotCall, lasted: Duration) {
    let call = match call {
        SnapshotCall::Create => "create",
        SnapshotCall::Remove => "remove",
    };
    let labels = [KeyValue::new("call", call)];
    INSTRUMENTS
        .snapshot_calls
        .record(lasted.as_secs_f64(), &labels);
}

/// A lease in this process, until this value goes.
#[derive(Debug)]
pub struct HeldLease(LeaseKind);

impl HeldLease {
    /// One that was taken.
    pub fn of(kind: LeaseKind) -> Self {
        INSTRUMENTS.leases.add(1, &[kind.label()]);
        Self(kind)
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        INSTRUMENTS.leases.add(-1, &[self.0.label()]);
    }
}

/// Says whether the scheduler in this process leads; none: it has ended.
pub fn set_leads(leads: Option<bool>) {
    *LEADS.lock().unwrap_or_else(PoisonError::into_inner) = leads;
}

/// Says how much room there is in the repositories that this process can see.
pub fn set_repositories(spaces: Vec<Space>) {
    *REPOSITORIES.lock().unwrap_or_else(PoisonError::into_inner) = spaces;
}
