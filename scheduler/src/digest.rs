//! The daily digest is queued when it is due.

use std::time::Duration;

use sqlx::PgPool;
use virtuozo_runtime::LIMITS;
use virtuozo_store::{
    notices::{self, config},
    runs, settings,
};

use crate::leader::{LeaderTask, Next, TaskError};

/// Queues the digest.
#[derive(Debug)]
pub(crate) struct DigestQueue {
    pool: PgPool,
}

impl DigestQueue {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

impl LeaderTask for DigestQueue {
    const NAME: &'static str = "the digest";
    const EVERY: Duration = LIMITS.leader.digest_every;

    /// Queues the digest when it is due; of several that were missed only the last.
    async fn activate(&mut self) -> Result<Next, TaskError> {
        let how = config::get(&self.pool).await?;
        if how.digest_time.is_none() {
            return Ok(Next::Later);
        }
        let rhythm = config::digest_rhythm(&how, &settings::get(&self.pool).await?)?;
        let now = runs::database_now(&self.pool).await?;
        if let Some(due_at) = rhythm.and_then(|rhythm| rhythm.last_until(now))
            && due_at > how.digest_done_until
            && notices::digest(&self.pool, due_at).await?
        {
            tracing::info!(%due_at, "digest queued");
        }
        Ok(Next::Later)
    }
}
