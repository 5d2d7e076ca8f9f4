//! The queues: jobs that carry ids only, pushed in the transaction that makes them due.
//!
//! apalis delivers, our own tables are the truth. A job may come twice or never: taking a lease makes a
//! second delivery harmless, and the scheduler's sweep pushes lost jobs again.

mod backend;
mod capabilities;
mod listener;
mod serve;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::PgConnection;
use uuid::Uuid;

use virtuozo_postgres::StoreError;

pub use capabilities::Capabilities;
pub use listener::JobListener;
pub use serve::{HandlerError, serve};

/// A kind of job; each has a queue of its own.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + Unpin + 'static {
    /// The queue's name. Never the name of the Rust type: renaming that would strand its jobs. The database has the name
    /// of the one field for each queue (`virtuozo_core.job_key`).
    const QUEUE: &'static str;

    /// What it is about.
    fn subject(&self) -> Uuid;
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

/// Do what somebody has asked of a host and waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestJob {
    /// Which request.
    pub request_id: Uuid,
}

impl Job for HostJob {
    const QUEUE: &'static str = "virtuozo-host";

    fn subject(&self) -> Uuid {
        self.host_run_id
    }
}

impl Job for GuestJob {
    const QUEUE: &'static str = "virtuozo-guest";

    fn subject(&self) -> Uuid {
        self.guest_run_id
    }
}

impl Job for UndoJob {
    const QUEUE: &'static str = "virtuozo-undo";

    fn subject(&self) -> Uuid {
        self.guest_id
    }
}

impl Job for NoticeJob {
    const QUEUE: &'static str = "virtuozo-notice";

    fn subject(&self) -> Uuid {
        self.notice_id
    }
}

impl Job for RequestJob {
    const QUEUE: &'static str = "virtuozo-request";

    fn subject(&self) -> Uuid {
        self.request_id
    }
}

/// Pushes jobs that are due `delay_secs` from now, in the caller's transaction: they exist if it
/// commits, and wake a worker then.
pub async fn push<J: Job>(
    tx: &mut PgConnection,
    jobs: &[J],
    delay_secs: u32,
) -> Result<(), StoreError> {
    if jobs.is_empty() {
        return Ok(());
    }
    let subjects: Vec<Uuid> = jobs.iter().map(Job::subject).collect();
    sqlx::query("SELECT virtuozo_core.push_jobs($1, $2, $3)")
        .bind(J::QUEUE)
        .bind(subjects)
        .bind(i32::try_from(delay_secs).unwrap_or(i32::MAX))
        .execute(tx)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtuozo_postgres::testing::TestDb;

    /// What the database writes into a queue of this job.
    async fn payload_of<J: Job>(job: &J) -> (Vec<u8>, Vec<u8>) {
        let db = TestDb::new().await;
        let written = sqlx::query_scalar("SELECT virtuozo_core.job_payload($1, $2)")
            .bind(J::QUEUE)
            .bind(job.subject())
            .fetch_one(&db.pool)
            .await
            .unwrap();
        (written, serde_json::to_vec(job).unwrap())
    }

    #[tokio::test]
    async fn the_database_writes_each_job_as_the_program_reads_it() {
        let id = Uuid::now_v7();
        let all = [
            payload_of(&HostJob { host_run_id: id }).await,
            payload_of(&GuestJob { guest_run_id: id }).await,
            payload_of(&UndoJob { guest_id: id }).await,
            payload_of(&NoticeJob { notice_id: id }).await,
            payload_of(&RequestJob { request_id: id }).await,
        ];
        for (written, read) in all {
            assert_eq!(
                String::from_utf8_lossy(&written),
                String::from_utf8_lossy(&read)
            );
        }
    }
}
