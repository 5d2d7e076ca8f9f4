//! The trace exporter: the spans of runs, hosts, guests, attempts and steps, made from the database by the scheduler that
//! leads, and sent to the trace back end.
//!
//! Not by those who did the work: a worker that dies takes with it what it has not sent, and the spans below
//! would hang in the air. What the rows say is there whoever dies, and is told again until it has arrived.

mod spans;

use std::{collections::VecDeque, time::Duration};

use opentelemetry_sdk::{error::OTelSdkError, trace::SpanData};
use sqlx::PgPool;
use virtuozo_postgres::StoreError;
use virtuozo_runtime::LIMITS;
use virtuozo_store::traces::{self as store, TracedGuest, TracedRun};
use virtuozo_telemetry::traces::{SendError, Traces};

use crate::leader::{LeaderTask, Next, TaskError};

/// Guest runs, or runs, that are told at once.
const AT_ONCE: i64 = 100;
/// So many refusals without anything that is taken mean that the receiver takes nothing.
const REFUSALS_MAX: u32 = 32;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Makes and sends the spans.
pub(crate) struct TraceExporter {
    pool: PgPool,
    traces: Traces,
    /// The receiver refused all that it was sent last, and that was said.
    is_refused_all: bool,
}

/// What the receiver has refused in one look.
#[derive(Default)]
struct Refused {
    guests: Vec<TracedGuest>,
    runs: Vec<TracedRun>,
    /// Its answer to the last of them.
    why: Option<OTelSdkError>,
    /// How often it answered so.
    times: u32,
    /// Something else was taken.
    others_are_taken: bool,
}

impl Refused {
    fn once_more(&mut self, error: OTelSdkError) {
        self.why = Some(error);
        self.times += 1;
    }

    /// It takes nothing at all.
    fn is_hopeless(&self) -> bool {
        !self.others_are_taken && self.times >= REFUSALS_MAX
    }
}

impl LeaderTask for TraceExporter {
    const NAME: &'static str = "the trace exporter";
    const EVERY: Duration = LIMITS.leader.spans_every;
    const LIMIT: Duration = LIMITS.leader.spans;
    const LONGEST_PAUSE: Duration = LIMITS.leader.spans_failure_pause;
    const HAS_LAST: bool = true;

    /// Exports all that has ended. Guests first: a run is exported when nothing of it is left.
    async fn activate(&mut self) -> Result<Next, TaskError> {
        match self.export().await {
            Ok(()) => Ok(Next::Later),
            Err(Failure::Store(error)) => Err(error.into()),
            // Logged where it was found.
            Err(Failure::Send(error)) => Err(TaskError::Logged(error.to_string())),
        }
    }
}

impl TraceExporter {
    pub(crate) fn new(pool: PgPool, traces: Traces) -> Self {
        Self {
            pool,
            traces,
            is_refused_all: false,
        }
    }

    async fn export(&mut self) -> Result<(), Failure> {
        let mut refused = Refused::default();
        loop {
            let guests = store::guests_to_export(&self.pool, AT_ONCE).await?;
            if guests.is_empty() {
                break;
            }
            self.tell_guests(guests, &mut refused).await?;
            // It would be found again.
            if refused.why.is_some() {
                break;
            }
        }
        for run in store::runs_to_export(&self.pool, AT_ONCE).await? {
            if run.troubled || self.traces.wants(run.trace_id) {
                let hosts = store::hosts_of(&self.pool, run.id).await?;
                match self.send(spans::of_run(&run, &hosts)).await {
                    Ok(is_taken) => refused.others_are_taken |= is_taken,
                    Err(Failure::Send(SendError::Refused(error))) => {
                        refused.once_more(error);
                        if refused.is_hopeless() {
                            break;
                        }
                        refused.runs.push(run);
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            store::mark_run_exported(&self.pool, &run).await?;
        }
        self.give_up(refused).await
    }

    /// Tells of guests all at once; where that is refused, of ever fewer, until those are found that are refused.
    async fn tell_guests(
        &self,
        guests: Vec<TracedGuest>,
        refused: &mut Refused,
    ) -> Result<(), Failure> {
        let mut parts = VecDeque::from([guests]);
        while let Some(mut part) = parts.pop_front() {
            match self.send_guests(&part).await {
                Ok(is_taken) => {
                    refused.others_are_taken |= is_taken;
                    store::mark_guests_exported(&self.pool, &part).await?;
                }
                Err(Failure::Send(SendError::Refused(error))) => {
                    refused.once_more(error);
                    if part.len() < 2 {
                        refused.guests.extend(part);
                    } else {
                        let second = part.split_off(part.len() / 2);
                        parts.extend([part, second]);
                    }
                    if refused.is_hopeless() {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends the spans of guest runs. False: none of them is told.
    async fn send_guests(&self, guests: &[TracedGuest]) -> Result<bool, Failure> {
        let told: Vec<_> = guests
            .iter()
            .filter(|guest| spans::is_told(guest, &self.traces))
            .collect();
        let ids: Vec<_> = told.iter().map(|g| g.id).collect();
        let steps = store::steps_of(&self.pool, &ids).await?;
        let spans = told.iter().flat_map(|guest| {
            let own: Vec<_> = steps
                .iter()
                .filter(|step| step.guest_run_id == guest.id)
                .collect();
            spans::of_guest(guest, &own)
        });
        self.send(spans.collect()).await
    }

    /// What is refused while others are taken is at fault itself, and is given up. Where nothing is taken, the receiver is
    /// not what it should be: it may be mended, and all of it waits for that.
    async fn give_up(&mut self, refused: Refused) -> Result<(), Failure> {
        self.is_refused_all &= !refused.others_are_taken;
        let Some(error) = refused.why else {
            return Ok(());
        };
        if !refused.others_are_taken {
            if !self.is_refused_all {
                self.is_refused_all = true;
                tracing::warn!(
                    %error,
                    "the receiver of traces refuses all that it is sent: look at the variables OTEL_EXPORTER_OTLP_*; \
                     traces wait for it"
                );
            }
            return Err(SendError::Refused(error).into());
        }
        for guest in &refused.guests {
            tracing::warn!(
                %error, run = %guest.run_id, guest = format!("{}/{}", guest.host, guest.guest),
                "the receiver of traces refuses the spans of a guest: they are given up"
            );
        }
        store::mark_guests_exported(&self.pool, &refused.guests).await?;
        for run in &refused.runs {
            tracing::warn!(
                %error, run = %run.id,
                "the receiver of traces refuses the span of a run: it is given up"
            );
            store::mark_run_exported(&self.pool, run).await?;
        }
        Ok(())
    }

    /// Sends spans. False: there were none.
    async fn send(&self, spans: Vec<SpanData>) -> Result<bool, Failure> {
        if spans.is_empty() {
            return Ok(false);
        }
        self.traces.send(spans).await?;
        Ok(true)
    }
}
