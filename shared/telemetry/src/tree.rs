//! The places of spans in the trace of a run. Their ids follow from the trace and the ids of rows, so each
//! process knows its parent's, and whoever finds that another died can complete what that one began.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use uuid::Uuid;
use virtuozo_model::StepName;

/// What a span below a host run or guest run is about; part of its id.
#[derive(Debug, Clone, Copy)]
enum Part {
    Inspection,
    Waiting,
    Attempt,
    Step(StepName),
}

impl Part {
    fn number(self) -> u64 {
        match self {
            Self::Inspection => 1,
            Self::Waiting => 2,
            Self::Attempt => 3,
            Self::Step(step) => 16 + step as u64,
        }
    }
}

/// A trace id as it is shown and logged.
pub fn hex(trace: Uuid) -> String {
    trace.simple().to_string()
}

/// The run itself: the root.
pub fn run(trace: Uuid) -> SpanContext {
    place(trace, low(trace))
}

/// A host of the run, from its first wait to the end of its last guest.
pub fn host(trace: Uuid, host_run: Uuid) -> SpanContext {
    place(trace, low(host_run))
}

/// The looking at a host and its guests.
pub fn inspection(trace: Uuid, host_run: Uuid) -> SpanContext {
    place(trace, below(low(host_run), Part::Inspection, 0))
}

/// A guest of the run; `trace_fence` is that of its row.
pub fn guest(trace: Uuid, guest_run: Uuid, trace_fence: i64) -> SpanContext {
    place(trace, low(guest_run) ^ trace_fence.cast_unsigned())
}

/// The waiting for the lease with this fence, of a host run or guest run.
pub fn waiting(trace: Uuid, id: Uuid, fence: i64) -> SpanContext {
    place(trace, below(low(id), Part::Waiting, fence))
}

/// What was done under one lease.
pub fn attempt(trace: Uuid, guest_run: Uuid, fence: i64) -> SpanContext {
    place(trace, below(low(guest_run), Part::Attempt, fence))
}

/// One step under one lease.
pub fn step(trace: Uuid, guest_run: Uuid, fence: i64, step: StepName) -> SpanContext {
    place(trace, below(low(guest_run), Part::Step(step), fence))
}

/// The second half of an id. Never 0: the variant of the UUID is in it.
fn low(id: Uuid) -> u64 {
    id.as_u64_pair().1
}

fn below(id: u64, part: Part, fence: i64) -> u64 {
    mix(id ^ mix((part.number() << 56) ^ fence.cast_unsigned()))
}

/// The finaliser of SplitMix64: every bit of the result hangs on every bit given.
fn mix(given: u64) -> u64 {
    let mut z = given.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn place(trace: Uuid, span: u64) -> SpanContext {
    SpanContext::new(
        TraceId::from(trace.as_u128()),
        SpanId::from(span.max(1)),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use virtuozo_postgres::testing::TestDb;

    const STEPS: [StepName; 8] = [
        StepName::Validate,
        StepName::Snapshot,
        StepName::PowerOff,
        StepName::Copy,
        StepName::Commit,
        StepName::PowerOn,
        StepName::Verify,
        StepName::Publish,
    ];

    #[test]
    fn no_two_spans_of_a_large_run_have_one_id() {
        let trace = Uuid::now_v7();
        let mut seen = HashSet::from([run(trace).span_id()]);
        for _ in 0..2000 {
            let id = Uuid::now_v7();
            assert!(seen.insert(guest(trace, id, 0).span_id()));
            assert!(seen.insert(guest(trace, id, 3).span_id()));
            assert!(seen.insert(inspection(trace, id).span_id()));
            for fence in 1..4 {
                assert!(seen.insert(waiting(trace, id, fence).span_id()));
                assert!(seen.insert(attempt(trace, id, fence).span_id()));
                for name in STEPS {
                    assert!(seen.insert(step(trace, id, fence, name).span_id()));
                }
            }
        }
    }

    #[tokio::test]
    async fn the_database_and_the_program_name_the_same_span() {
        let db = TestDb::new().await;
        for trace_fence in [0, 1, 77] {
            let (trace, id) = (Uuid::now_v7(), Uuid::now_v7());
            let written: String =
                sqlx::query_scalar("SELECT virtuozo_core.traceparent($1, $2, $3)")
                    .bind(trace)
                    .bind(id)
                    .bind(trace_fence)
                    .fetch_one(&db.pool)
                    .await
                    .unwrap();
            let span = guest(trace, id, trace_fence);
            assert_eq!(
                written,
                format!("00-{}-{}-01", span.trace_id(), span.span_id())
            );
            assert_eq!(span.trace_id().to_string(), hex(trace));
        }
    }
}
