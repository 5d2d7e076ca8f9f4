//! Notices: written in the transaction of what they tell about, sent once by whichever scheduler takes
//! them, and told together where several wait.

pub mod config;
pub mod digest;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use super::{
    events::{self, NewEvent},
    leases::{Fence, leased, renewal},
};
use virtuozo_model::{Notice, NoticeChannel, NoticeKind, NoticeState};
use virtuozo_postgres::StoreError;
use virtuozo_queue::{Job, NoticeJob};

/// A notice that is due, and in how many seconds.
#[derive(FromRow)]
struct Due {
    id: Uuid,
    delay_secs: i32,
}

/// A notice that is to be sent now, and by nobody else.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct NoticeLease {
    /// The notice.
    pub id: Uuid,
    /// What it tells.
    pub kind: NoticeKind,
    /// How.
    pub channel: NoticeChannel,
    /// Of a digest: the end of the day that it tells about.
    pub due_at: Option<DateTime<Utc>>,
    /// The number of this lease; grows with every taking.
    pub fence: i64,
    /// Who has taken it.
    pub owner_id: Uuid,
    /// How long the lease holds without renewal, in seconds.
    pub lease_secs: i32,
    /// Attempts, with this one.
    pub attempts: i32,
    /// Who has got it before.
    pub sent_to: Vec<String>,
    /// Whom the mail server refused before.
    pub refused_to: Vec<String>,
    /// What is told along with it, and itself.
    #[sqlx(skip)]
    pub contents: NoticeContents,
}

/// What one message is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, FromRow)]
pub struct NoticeContents {
    /// The runs.
    pub run_ids: Vec<Uuid>,
    /// An obligation of a guest of them could not be met.
    pub is_obligation: bool,
    /// It waited because the limit of an hour was reached.
    pub is_held: bool,
    /// How many notices.
    pub notices: i64,
}

/// What became of an attempt to send a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// `Sent`, `Failed`, or `Waiting` for another attempt.
    pub state: NoticeState,
    /// The pause before that, in seconds.
    pub delay_secs: u32,
    /// Who has got it, all in all.
    pub sent_to: Vec<String>,
    /// Who was refused, all in all.
    pub refused_to: Vec<String>,
    /// What went wrong.
    pub error: Option<String>,
}

leased!(NoticeLease, Notice, id, renewal!("notices", "id", "false"));

/// Queues what is to be told about a run, by each way that is configured; in the transaction that the
/// notice tells about.
pub async fn of_run(
    tx: &mut PgConnection,
    run_id: Uuid,
    kind: NoticeKind,
) -> Result<(), StoreError> {
    let due: Vec<Due> = sqlx::query_as(include_str!("notices/insert_of_run.sql"))
        .bind(run_id)
        .bind(kind)
        .fetch_all(&mut *tx)
        .await?;
    push(tx, &due).await
}

/// Queues that an obligation of a guest could not be met, with the run that changed the guest.
pub async fn of_obligation(tx: &mut PgConnection, guest_run_id: Uuid) -> Result<(), StoreError> {
    let run_id: Option<Uuid> =
        sqlx::query_scalar("SELECT run_id FROM virtuozo_core.guest_runs WHERE id = $1")
            .bind(guest_run_id)
            .fetch_optional(&mut *tx)
            .await?;
    match run_id {
        Some(run_id) => of_run(tx, run_id, NoticeKind::Obligation).await,
        None => Ok(()),
    }
}

/// Queues the digest of the day up to `due_at`, unless it was queued before. True: it was not.
pub async fn digest(pool: &PgPool, due_at: DateTime<Utc>) -> Result<bool, StoreError> {
    let mut tx = pool.begin().await?;
    let due: Vec<Due> = sqlx::query_as(include_str!("notices/insert_digest.sql"))
        .bind(due_at)
        .fetch_all(&mut *tx)
        .await?;
    push(&mut tx, &due).await?;
    tx.commit().await?;
    Ok(!due.is_empty())
}

/// Makes a notice that tries a way out. It is not queued: the caller takes and sends it.
pub async fn test(pool: &PgPool, channel: NoticeChannel) -> Result<Uuid, StoreError> {
    let id = Uuid::now_v7();
    sqlx::query("INSERT INTO virtuozo_core.notices (id, kind, channel) VALUES ($1, 'test', $2)")
        .bind(id)
        .bind(channel)
        .execute(pool)
        .await?;
    Ok(id)
}

/// The ways of telling that are configured.
pub async fn channels(db: impl PgExecutor<'_>) -> Result<Vec<NoticeChannel>, StoreError> {
    Ok(sqlx::query_scalar(include_str!("notices/channels.sql"))
        .fetch_all(db)
        .await?)
}

/// Takes a notice that is due, and with it all that can be told along. None: it is not due, somebody else
/// has it, there is nothing to be told any more, or this hour has had enough messages.
pub async fn take(
    pool: &PgPool,
    id: Uuid,
    owner_id: Uuid,
) -> Result<Option<NoticeLease>, StoreError> {
    let mut tx = pool.begin().await?;
    // One at a time: otherwise two notices of two schedulers would not see each other.
    sqlx::query(include_str!("notices/settings_lock.sql"))
        .execute(&mut *tx)
        .await?;
    let taken: Option<NoticeLease> = sqlx::query_as(include_str!("notices/take.sql"))
        .bind(id)
        .bind(owner_id)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(mut taken) = taken else {
        return Ok(None);
    };
    if taken.kind.is_of_run() {
        let dropped = sqlx::query(include_str!("notices/drop.sql"))
            .bind(id)
            .bind(taken.fence)
            .execute(&mut *tx)
            .await?;
        if dropped.rows_affected() > 0 {
            tx.commit().await?;
            return Ok(None);
        }
        let held: Option<Due> = sqlx::query_as(include_str!("notices/hold.sql"))
            .bind(id)
            .bind(taken.fence)
            .bind(taken.channel)
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(held) = held {
            push(&mut tx, &[held]).await?;
            tx.commit().await?;
            return Ok(None);
        }
        // Who has got a message is not told more under its name.
        if taken.sent_to.is_empty() {
            sqlx::query(include_str!("notices/fold.sql"))
                .bind(id)
                .bind(taken.channel)
                .execute(&mut *tx)
                .await?;
        }
    }
    taken.contents = sqlx::query_as(include_str!("notices/contents.sql"))
        .bind(id)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(Some(taken))
}

/// Records what became of an attempt, with the event that tells people of it.
pub async fn end(
    pool: &PgPool,
    taken: &NoticeLease,
    attempt: &Attempt,
    event: Option<&NewEvent>,
) -> Result<Fence, StoreError> {
    let mut tx = pool.begin().await?;
    let found: Option<Uuid> = sqlx::query_scalar(include_str!("notices/end.sql"))
        .bind(taken.id)
        .bind(taken.fence)
        .bind(attempt.state)
        .bind(f64::from(attempt.delay_secs))
        .bind(&attempt.sent_to)
        .bind(&attempt.refused_to)
        .bind(&attempt.error)
        .fetch_optional(&mut *tx)
        .await?;
    if found.is_none() {
        return Ok(Fence::Lost);
    }
    if attempt.state == NoticeState::Waiting {
        let delay_secs = i32::try_from(attempt.delay_secs).unwrap_or(i32::MAX);
        let id = taken.id;
        push(&mut tx, &[Due { id, delay_secs }]).await?;
    }
    if let Some(event) = event {
        events::record(&mut *tx, event).await?;
    }
    tx.commit().await?;
    Ok(Fence::Held)
}

/// Pushes the jobs of due notices again where none is on its way. Returns how many.
pub async fn push_lost(pool: &PgPool) -> Result<usize, StoreError> {
    let mut tx = pool.begin().await?;
    let lost: Vec<Uuid> = sqlx::query_scalar(include_str!("notices/lost.sql"))
        .bind(NoticeJob::QUEUE)
        .fetch_all(&mut *tx)
        .await?;
    let jobs: Vec<NoticeJob> = lost
        .iter()
        .map(|&notice_id| NoticeJob { notice_id })
        .collect();
    virtuozo_queue::push(&mut tx, &jobs, 0).await?;
    tx.commit().await?;
    Ok(jobs.len())
}

/// Ends the tests whose sender is gone. Returns how many.
pub async fn end_lost_tests(db: impl PgExecutor<'_>) -> Result<u64, StoreError> {
    Ok(sqlx::query(include_str!("notices/end_lost_tests.sql"))
        .execute(db)
        .await?
        .rows_affected())
}

/// Has everything that failed lately, or waits after a failure, sent now. Returns how many.
pub async fn retry(pool: &PgPool) -> Result<usize, StoreError> {
    let mut tx = pool.begin().await?;
    let due: Vec<Due> = sqlx::query_as(include_str!("notices/retry.sql"))
        .fetch_all(&mut *tx)
        .await?;
    push(&mut tx, &due).await?;
    tx.commit().await?;
    Ok(due.len())
}

/// The newest notices: all, or those with which something is wrong.
pub async fn list(
    db: impl PgExecutor<'_>,
    only_wrong: bool,
    limit: u32,
) -> Result<Vec<Notice>, StoreError> {
    Ok(sqlx::query_as(include_str!("notices/list.sql"))
        .bind(only_wrong)
        .bind(i64::from(limit))
        .fetch_all(db)
        .await?)
}

async fn push(tx: &mut PgConnection, due: &[Due]) -> Result<(), StoreError> {
    for one in due {
        // A job's time has whole seconds, rounded down: without one more it would come too early.
        let delay = u32::try_from(one.delay_secs).unwrap_or_default();
        let delay = delay + u32::from(delay > 0);
        let job = NoticeJob { notice_id: one.id };
        virtuozo_queue::push(tx, &[job], delay).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
