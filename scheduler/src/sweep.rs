//! What workers leave behind is found and put right.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;
use virtuozo_postgres::StoreError;
use virtuozo_store::{notices, obligations, settings, sweeps};
use virtuozo_telemetry::{
    metrics::{LeaseKind, Metrics, Outcome},
    tree,
};

/// How often old rows are deleted, and at once when it was changed how long they are kept.
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// Finds what was left behind.
#[derive(Debug)]
pub(crate) struct Sweeper {
    metrics: Metrics,
    /// Since when the database has been answering, if it did not before or nobody knows.
    in_sight_since: Option<Instant>,
    /// When old rows were deleted last, and by which settings.
    pruned: Option<(Instant, Keep)>,
}

/// How much is kept: days and count of events, days and count of runs.
type Keep = [i32; 4];

impl Sweeper {
    /// One that has just begun, perhaps because the database is back for everybody.
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            in_sight_since: Some(Instant::now()),
            pruned: None,
        }
    }

    /// The database does not answer. Perhaps it does not answer the workers either, so they get a lease's
    /// time to renew once it is back.
    pub(crate) fn lost_sight(&mut self) {
        self.in_sight_since = Some(Instant::now());
    }

    /// One look at everything.
    pub(crate) async fn sweep(&mut self, pool: &PgPool) -> Result<(), StoreError> {
        let settings = settings::get(pool).await?;
        let lease = Duration::from_secs(u64::try_from(settings.lease_secs).unwrap_or_default());
        if self
            .in_sight_since
            .is_none_or(|since| since.elapsed() > lease)
        {
            self.in_sight_since = None;
            for expired in sweeps::expire_host_runs(pool, &self.metrics).await? {
                self.metrics.lease_expired(LeaseKind::Host);
                tracing::warn!(
                    host = expired.name,
                    state = expired.state,
                    trace_id = tree::hex(expired.trace_id),
                    "{}",
                    expired.error
                );
            }
            for expired in sweeps::expire_guest_runs(pool, &self.metrics).await? {
                self.metrics.lease_expired(LeaseKind::Guest);
                if expired.state == "failed" {
                    self.metrics.attempt_ended(Outcome::Failed);
                }
                tracing::warn!(
                    guest = expired.name,
                    state = expired.state,
                    trace_id = tree::hex(expired.trace_id),
                    "{}",
                    expired.error
                );
            }
            for _ in 0..sweeps::expire_requests(pool).await? {
                self.metrics.lease_expired(LeaseKind::Request);
            }
        }
        let dropped = sweeps::drop_requests(pool).await?;
        said(
            "requests dropped that nobody waits for",
            usize::try_from(dropped).unwrap_or(usize::MAX),
        );
        said("guest runs admitted", sweeps::admit_all(pool).await?);
        said("undo jobs pushed", obligations::push_due(pool).await?);
        said(
            "lost jobs pushed again",
            sweeps::push_lost_jobs(pool).await?,
        );
        let dropped = sweeps::drop_jobs(pool).await?;
        said(
            "jobs without a purpose dropped",
            usize::try_from(dropped).unwrap_or(usize::MAX),
        );
        said("lost notices pushed again", notices::push_lost(pool).await?);
        said("runs ended", sweeps::end_runs(pool, &self.metrics).await?);
        let keep = [
            settings.event_keep_days,
            settings.event_keep_count,
            settings.history_keep_days,
            settings.history_keep_runs,
        ];
        if self
            .pruned
            .is_none_or(|(at, by)| at.elapsed() > PRUNE_EVERY || by != keep)
        {
            // What is left over is for the next look: the sweeps above do not wait for it.
            let more = sweeps::prune(pool).await?;
            self.pruned = (!more).then(|| (Instant::now(), keep));
        }
        Ok(())
    }
}

fn said(what: &str, count: usize) {
    if count > 0 {
        tracing::debug!(count, "{what}");
    }
}
