//! The queues: jobs that carry ids only, pushed in the transaction that makes them due.
//!
//! apalis delivers, our own tables are the truth. A job may come twice or never: taking a lease makes a
//! second delivery harmless, and the scheduler's sweep pushes lost jobs again.

mod backend;
mod listener;
mod serve;

use apalis::prelude::TaskBuilder;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::PgConnection;
use uuid::Uuid;

use virtuozo_postgres::StoreError;

pub use listener::JobListener;
pub use serve::{HandlerError, serve};

/// A kind of job; each has a queue of its own.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + Unpin + 'static {
    /// The queue's name. Never the name of the Rust type: renaming that would strand its jobs.
    const QUEUE: &'static str;
}

/// Validate a host and find its guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostJob {
    /// Which host run.
    pub host_run_id: Uuid,
}

/// Back up a guest that has a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestJob {
    /// Which guest run.
    pub guest_run_id: Uuid,
}

/// Meet the obligations of a guest that no run works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoJob {
    /// Which guest.
    pub guest_id: Uuid,
}

/// Send a notice, with all that can be told along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeJob {
    /// Which notice.
    pub notice_id: Uuid,
}

impl Job for HostJob {
    const QUEUE: &'static str = "virtuozo-host";
}

impl Job for GuestJob {
    const QUEUE: &'static str = "virtuozo-guest";
}

impl Job for UndoJob {
    const QUEUE: &'static str = "virtuozo-undo";
}

impl Job for NoticeJob {
    const QUEUE: &'static str = "virtuozo-notice";
}

/// Pushes jobs that are due `delay_secs` from now, in the caller's transaction: they exist if it
/// commits, and wake a worker then.
///
/// # Errors
/// What the database says.
pub async fn push<J: Job>(
    tx: &mut PgConnection,
    jobs: &[J],
    delay_secs: u32,
) -> Result<(), StoreError> {
    if jobs.is_empty() {
        return Ok(());
    }
    // By the database's clock, as the claim compares it there. In whole seconds, rounded down: so a job
    // that is due now is due for the notification too.
    let now: i64 = sqlx::query_scalar(include_str!("now.sql"))
        .fetch_one(&mut *tx)
        .await?;
    let due = u64::try_from(now).unwrap_or_default() + u64::from(delay_secs);
    let mut tasks = Vec::with_capacity(jobs.len());
    for job in jobs {
        let payload = serde_json::to_vec(job)
            .map_err(|e| StoreError::Query(sqlx::Error::Encode(Box::new(e))))?;
        tasks.push(TaskBuilder::new(payload).run_at_timestamp(due).build());
    }
    apalis_postgres::queries::push_tasks(tx, J::QUEUE, tasks)
        .await
        .map_err(|error| match error {
            apalis_postgres::Error::Database(e) => e.into(),
            other => StoreError::Query(sqlx::Error::Protocol(other.to_string())),
        })
}
