//! What workers leave behind is found and put right.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;
use virtuozo_model::Settings;
use virtuozo_runtime::LIMITS;
use virtuozo_store::{notices, obligations, settings, sweeps};
use virtuozo_telemetry::{
    Telemetry,
    metrics::{LeaseKind, Outcome},
    tree,
};

use crate::leader::{LeaderTask, Next, TaskError};

/// Finds what was left behind.
#[derive(Debug)]
pub(crate) struct Sweeper {
    pool: PgPool,
    telemetry: Telemetry,
    /// How many outages this process had met when the sweeper looked last.
    outages: u64,
    /// The last look got no answer, or there was none for a while.
    was_away: bool,
    /// Since when the database has been answering, if that is not longer ago than a lease is long.
    answers_since: Option<Instant>,
    /// When old rows were deleted last, and by which settings.
    pruned: Option<(Instant, Keep)>,
}

/// How much is kept: days and count of events, days and count of runs.
type Keep = [i32; 4];

impl Sweeper {
    /// The database has perhaps been answering for a moment only, to everybody.
    pub(crate) fn new(pool: PgPool, telemetry: Telemetry) -> Self {
        Self {
            pool,
            outages: telemetry.health.availability.outages(),
            telemetry,
            was_away: false,
            answers_since: Some(Instant::now()),
            pruned: None,
        }
    }

    /// The settings, by which it is also seen whether the database was away since the last look. Perhaps it was away
    /// from the workers too, so they get a lease's time to renew once it is back.
    async fn settings(&mut self) -> Result<Settings, TaskError> {
        let asked_at = Instant::now();
        // Until there is an answer, whatever ends the waiting for it.
        let was_away = std::mem::replace(&mut self.was_away, true);
        let settings = settings::get(&self.pool).await?;
        let outages = self.telemetry.health.availability.outages();
        if was_away || asked_at.elapsed() > LIMITS.database.prompt_answer || outages != self.outages
        {
            self.answers_since = Some(Instant::now());
        }
        self.was_away = false;
        self.outages = outages;
        Ok(settings)
    }
}

impl LeaderTask for Sweeper {
    const NAME: &'static str = "sweeps";
    const EVERY: Duration = LIMITS.leader.sweep_every;
    const IS_WOKEN: bool = true;

    /// One look at everything.
    async fn activate(&mut self) -> Result<Next, TaskError> {
        let settings = self.settings().await?;
        let lease = Duration::from_secs(u64::try_from(settings.lease_secs).unwrap_or_default());
        if self
            .answers_since
            .is_none_or(|since| since.elapsed() > lease)
        {
            self.answers_since = None;
            for expired in sweeps::expire_host_runs(&self.pool, &self.telemetry.metrics).await? {
                self.telemetry.metrics.lease_expired(LeaseKind::Host);
                tracing::warn!(
                    host = expired.name,
                    state = expired.state,
                    trace_id = tree::hex(expired.trace_id),
                    "{}",
                    expired.error
                );
            }
            for expired in sweeps::expire_guest_runs(&self.pool, &self.telemetry.metrics).await? {
                self.telemetry.metrics.lease_expired(LeaseKind::Guest);
                if expired.state == "failed" {
                    self.telemetry.metrics.attempt_ended(Outcome::Failed);
                }
                tracing::warn!(
                    guest = expired.name,
                    state = expired.state,
                    trace_id = tree::hex(expired.trace_id),
                    "{}",
                    expired.error
                );
            }
            for _ in 0..sweeps::expire_requests(&self.pool).await? {
                self.telemetry.metrics.lease_expired(LeaseKind::Request);
            }
        }
        let dropped = sweeps::drop_requests(&self.pool).await?;
        said(
            "requests dropped that nobody waits for",
            usize::try_from(dropped).unwrap_or(usize::MAX),
        );
        said("guest runs admitted", sweeps::admit_all(&self.pool).await?);
        said("undo jobs pushed", obligations::push_due(&self.pool).await?);
        said(
            "lost jobs pushed again",
            sweeps::push_lost_jobs(&self.pool).await?,
        );
        let dropped = sweeps::drop_jobs(&self.pool).await?;
        said(
            "jobs without a purpose dropped",
            usize::try_from(dropped).unwrap_or(usize::MAX),
        );
        let interrupted = notices::end_lost_tests(&self.pool).await?;
        said(
            "interrupted tests of notices ended",
            usize::try_from(interrupted).unwrap_or(usize::MAX),
        );
        said(
            "lost notices pushed again",
            notices::push_lost(&self.pool).await?,
        );
        said(
            "runs ended",
            sweeps::end_runs(&self.pool, &self.telemetry.metrics).await?,
        );
        let keep = [
            settings.event_keep_days,
            settings.event_keep_count,
            settings.history_keep_days,
            settings.history_keep_runs,
        ];
        if self
            .pruned
            .is_none_or(|(at, by)| at.elapsed() > LIMITS.leader.prune_every || by != keep)
        {
            // What is left over is for the next look: the sweeps above do not wait for it.
            let more = sweeps::prune(&self.pool).await?;
            self.pruned = (!more).then(|| (Instant::now(), keep));
        }
        Ok(Next::Later)
    }

    fn lost_leadership(&mut self) {
        self.was_away = true;
    }
}

fn said(what: &str, count: usize) {
    if count > 0 {
        tracing::debug!(count, "{what}");
    }
}
