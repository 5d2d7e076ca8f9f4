//! The spans of this worker: their parents, and the groups of blocks that are copied or verified. The scheduler makes the
//! spans of runs, attempts and steps, from the database; `docs/reference/traces.md` says why.

use std::{collections::HashMap, time::SystemTime};

use opentelemetry::{
    Context, KeyValue,
    trace::{Span, Tracer},
};
use opentelemetry_sdk::trace::SdkTracer;
use parking_lot::Mutex;
use virtuozo_model::StepName;
use virtuozo_store::{guest_runs::GuestLease, host_runs::HostLease, obligations::Obligation};
use virtuozo_telemetry::{
    traces::{Traces, UnitOfWork},
    tree,
};

/// The least size of a group of blocks, in bytes.
const GROUP_BYTES_MIN: u64 = 64 << 20;
/// About the largest number of groups of a copy or verification, beside one for each file.
const GROUPS_MAX: u64 = 64;

/// The trace of a guest run under one lease.
#[derive(Debug)]
pub(crate) struct GuestTrace {
    unit: UnitOfWork,
    row: GuestLease,
}

impl GuestTrace {
    pub(crate) fn begin(traces: &Traces, row: &GuestLease) -> Self {
        let name = format!("g{}-{}", row.guest_run_id.simple(), row.fence);
        let trace = Self {
            unit: traces.unit_of_work(row.trace_id, name),
            row: row.clone(),
        };
        // An earlier attempt failed, so the trace of the guest run is exported in any case.
        if row.attempts > 0 || row.attempt_fence < row.fence {
            trace.failed();
        }
        trace
    }

    /// The context of work that belongs to no step.
    pub(crate) fn whole(&self) -> Context {
        let row = &self.row;
        let place = tree::guest(row.trace_id, row.guest_run_id, row.trace_fence);
        self.unit.below(&place)
    }

    /// The context of a step.
    pub(crate) fn step(&self, step: StepName) -> Context {
        let row = &self.row;
        let place = tree::step(row.trace_id, row.guest_run_id, row.fence, step);
        self.unit.below(&place)
    }

    /// Exports the spans of this failed attempt, whatever share of traces is sampled.
    pub(crate) fn failed(&self) {
        self.unit.failed();
    }
}

/// The trace of a host run under one lease.
#[derive(Debug)]
pub(crate) struct HostTrace {
    unit: UnitOfWork,
    row: HostLease,
}

impl HostTrace {
    pub(crate) fn begin(traces: &Traces, row: &HostLease) -> Self {
        let name = format!("h{}-{}", row.host_run_id.simple(), row.fence);
        Self {
            unit: traces.unit_of_work(row.trace_id, name),
            row: row.clone(),
        }
    }

    /// The context of the inspection of the host and its guests.
    pub(crate) fn inspection(&self) -> Context {
        let place = tree::inspection(self.row.trace_id, self.row.host_run_id);
        self.unit.below(&place)
    }

    /// See [`GuestTrace::failed`].
    pub(crate) fn failed(&self) {
        self.unit.failed();
    }
}

/// The context of an undo job, below the guest run that has ended, and sampled with it. The unit has to live as long as
/// the work.
pub(crate) fn of_undo(traces: &Traces, obligation: &Obligation) -> (UnitOfWork, Context) {
    let name = format!("u{}-{}", obligation.id.simple(), obligation.attempts);
    let unit = traces.unit_of_work(obligation.trace_id, name);
    let place = tree::guest(
        obligation.trace_id,
        obligation.guest_run_id,
        obligation.trace_fence,
    );
    let context = unit.below(&place);
    (unit, context)
}

/// Spans for the blocks of a copy or a verification, grouped so that there are few; each has its bytes and rate.
pub(crate) struct BlockGroups {
    name: &'static str,
    /// `None` if no traces are exported.
    tracing: Option<Tracing>,
    open: Mutex<HashMap<String, Group>>,
}

/// What makes the spans of groups, and the context that they hang below.
struct Tracing {
    tracer: SdkTracer,
    below: Context,
}

struct Group {
    began_at: SystemTime,
    from: u64,
    until: u64,
}

impl BlockGroups {
    /// Groups below the current context; `name` is the name of the spans.
    pub(crate) fn named(name: &'static str, traces: &Traces) -> Self {
        Self {
            name,
            tracing: traces.tracer().map(|tracer| Tracing {
                tracer,
                below: Context::current(),
            }),
            open: Mutex::default(),
        }
    }

    /// Bytes of a file of `device` are done; `total` is that of all files.
    pub(crate) fn progress(&self, device: &str, copied_bytes: u64, all_bytes: u64) {
        let Some(tracing) = &self.tracing else {
            return;
        };
        let mut open = self.open.lock();
        let Some(group) = open.get_mut(device) else {
            open.insert(device.to_owned(), Group::at(copied_bytes));
            return;
        };
        group.until = group.until.max(copied_bytes);
        if group.until - group.from.min(group.until) >= GROUP_BYTES_MIN.max(all_bytes / GROUPS_MAX)
        {
            group.end(self.name, device, tracing);
            *group = Group::at(copied_bytes);
        }
    }

    /// A file of `device` is complete, or its copy has failed.
    pub(crate) fn file_done(&self, device: &str) {
        let Some(tracing) = &self.tracing else {
            return;
        };
        let mut open = self.open.lock();
        if let Some(group) = open.remove(device) {
            group.end(self.name, device, tracing);
        }
    }
}

impl Drop for BlockGroups {
    /// Ends the last group also after a failure.
    fn drop(&mut self) {
        let Some(tracing) = &self.tracing else {
            return;
        };
        let open = self.open.get_mut();
        for (device, group) in open.drain() {
            group.end(self.name, &device, tracing);
        }
    }
}

impl Group {
    fn at(copied_bytes: u64) -> Self {
        Self {
            began_at: SystemTime::now(),
            from: copied_bytes,
            until: copied_bytes,
        }
    }

    fn end(&self, name: &'static str, device: &str, tracing: &Tracing) {
        let bytes = self.until.saturating_sub(self.from);
        if bytes == 0 {
            return;
        }
        let took_secs = self.began_at.elapsed().unwrap_or_default().as_secs_f64();
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let mut attributes = vec![
            KeyValue::new("virtuozo.device", device.to_owned()),
            KeyValue::new("virtuozo.offset", count(self.from)),
            KeyValue::new("virtuozo.bytes", count(bytes)),
        ];
        if took_secs > 0.0 {
            #[allow(
                clippy::cast_precision_loss,
                reason = "a rate needs no more digits than that"
            )]
            attributes.push(KeyValue::new("virtuozo.rate", bytes as f64 / took_secs));
        }
        let Tracing { tracer, below } = tracing;
        tracer
            .span_builder(name)
            .with_start_time(self.began_at)
            .with_attributes(attributes)
            .start_with_context(tracer, below)
            .end();
    }
}
