//! Events as they happen: each once, none left out, although transactions commit in another order than they
//! took the numbers of their events.
//!
//! A watermark is a snapshot of the database, as it sees itself: which transactions were over. New are the events of
//! transactions that are over now and were not then.

use sqlx::{FromRow, PgPool};

use super::Filter;
use virtuozo_model::Event;
use virtuozo_postgres::StoreError;

/// Up to where a follower has seen all events.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Watermark {
    /// All events that this snapshot saw are seen.
    pub(super) since: String,
    /// The events that this one saw are being read.
    pub(super) until: Option<String>,
    /// Of that, all up to the event with this transaction and number.
    pub(super) last_xact: i64,
    pub(super) last_id: i64,
    /// The greatest number of an event that was seen.
    pub(super) max_id: i64,
}

/// An event, and its transaction.
#[derive(Debug, Clone, FromRow)]
struct Line {
    #[sqlx(flatten)]
    event: Event,
    xact: i64,
}

/// The next events after a watermark.
#[derive(Debug, Clone)]
pub struct Batch {
    lines: Vec<Line>,
    until: String,
    /// There are no more for now.
    is_last: bool,
}

impl Batch {
    /// The events, in the order of their transactions.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.lines.iter().map(|line| &line.event)
    }

    /// Whether there may be more at once.
    pub fn is_last(&self) -> bool {
        self.is_last
    }
}

impl Watermark {
    /// After all that has happened.
    pub async fn now(pool: &PgPool) -> Result<Self, StoreError> {
        Ok(Self::after_all(snapshot(pool).await?))
    }

    fn after_all(since: String) -> Self {
        Self {
            since,
            until: None,
            last_xact: 0,
            last_id: 0,
            max_id: 0,
        }
    }

    /// The latest events, oldest first, and the watermark after them.
    pub async fn after_latest(
        pool: &PgPool,
        filter: &Filter,
        limit: i64,
    ) -> Result<(Self, Vec<Event>), StoreError> {
        // Both of one moment.
        let mut tx = pool
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await?;
        let since = snapshot(&mut *tx).await?;
        let events = super::list(&mut *tx, filter, limit).await?;
        tx.commit().await?;
        Ok((Self::after_all(since), events))
    }

    /// At most `limit` events after this watermark. None: it is of another server, which was further, or of
    /// the time before the database was restored from a dump.
    pub async fn next(
        &self,
        pool: &PgPool,
        filter: &Filter,
        limit: i64,
    ) -> Result<Option<Batch>, StoreError> {
        let now = snapshot(pool).await?;
        if next_transaction(&now) < next_transaction(&self.since) {
            return Ok(None);
        }
        let until = self.until.clone().unwrap_or(now);
        if until == self.since {
            return Ok(Some(Batch {
                lines: Vec::new(),
                until,
                is_last: true,
            }));
        }
        let lines: Vec<Line> = sqlx::query_as(include_str!("after.sql"))
            .bind(filter.min_code)
            .bind(filter.run_id)
            .bind(filter.host_id)
            .bind(filter.guest_id)
            .bind(limit)
            .bind(&self.since)
            .bind(&until)
            .bind(self.last_xact)
            .bind(self.last_id)
            .fetch_all(pool)
            .await?;
        let is_last = i64::try_from(lines.len()).is_ok_and(|count| count < limit);
        Ok(Some(Batch {
            lines,
            until,
            is_last,
        }))
    }

    /// The watermark after the first `seen` events of the batch that follows it.
    #[must_use]
    pub fn after(&self, batch: &Batch, seen: usize) -> Self {
        let passed = batch.lines.get(..seen).unwrap_or(&batch.lines);
        let greatest = passed.iter().map(|line| line.event.id).max();
        let max_id = greatest.map_or(self.max_id, |id| id.max(self.max_id));
        if batch.is_last && passed.len() == batch.lines.len() {
            return Self {
                max_id,
                ..Self::after_all(batch.until.clone())
            };
        }
        let Some(last) = passed.last() else {
            return self.clone();
        };
        Self {
            since: self.since.clone(),
            until: Some(batch.until.clone()),
            last_xact: last.xact,
            last_id: last.event.id,
            max_id,
        }
    }
}

async fn snapshot(db: impl sqlx::PgExecutor<'_>) -> Result<String, StoreError> {
    Ok(sqlx::query_scalar("SELECT pg_current_snapshot()::text")
        .fetch_one(db)
        .await?)
}

/// The first transaction that a snapshot, `oldest:next:running,…`, knows nothing of.
fn next_transaction(snapshot: &str) -> u64 {
    let next = snapshot.split(':').nth(1);
    next.and_then(|next| next.parse().ok()).unwrap_or_default()
}
