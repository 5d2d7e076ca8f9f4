//! What the daily digest tells about: the state of the site, and what the day brought.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use virtuozo_model::{GuestState, HostState};
use virtuozo_postgres::StoreError;

/// A guest and its newest restore point.
#[derive(Debug, Clone, FromRow)]
pub struct DigestGuest {
    /// `HOST/GUEST`.
    pub name: String,
    /// Somebody has decided that it is backed up.
    pub configured: bool,
    /// It, or its host, is left out of every run.
    pub ignored: bool,
    /// What the last validation said.
    pub state: GuestState,
    /// Why.
    pub state_reason: Option<String>,
    /// Its newest good restore point; of one that is not to be backed up none is told.
    pub last_point_at: Option<DateTime<Utc>>,
    /// Since when its recovery point objective is exceeded; none: it is not.
    pub due_since: Option<DateTime<Utc>>,
    /// What became of its last run.
    pub last_run_state: Option<String>,
    /// Why.
    pub last_error: Option<String>,
    /// A run has it, or will.
    pub in_work: bool,
}

/// A host from which nothing new is backed up, or which cannot be used.
#[derive(Debug, Clone, FromRow)]
pub struct DigestHost {
    /// Its name.
    pub name: String,
    /// It is left out of every run.
    pub ignored: bool,
    /// Since when it is paused.
    pub paused_at: Option<DateTime<Utc>>,
    /// What the last validation said.
    pub state: HostState,
    /// Why.
    pub state_reason: Option<String>,
    /// When that was.
    pub checked_at: Option<DateTime<Utc>>,
}

/// Something that should go on by itself and does not.
#[derive(Debug, Clone, FromRow)]
pub struct DigestStuck {
    /// The host or guest.
    pub about: Option<String>,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub advice: String,
}

/// A restore point that is not what was written.
#[derive(Debug, Clone, FromRow)]
pub struct DigestDamage {
    /// The point.
    pub id: Uuid,
    /// `HOST/GUEST` when it was taken.
    pub guest: String,
    /// When that was.
    pub taken_at: DateTime<Utc>,
    /// What was found.
    pub damage: Option<String>,
}

/// A place that restore points go to.
#[derive(Debug, Clone, FromRow)]
pub struct DigestSpace {
    /// The directory.
    pub path: String,
    /// What was free there when a worker last looked.
    pub free_bytes: Option<i64>,
    /// When that was.
    pub seen_at: Option<DateTime<Utc>>,
    /// Restore points of the day.
    pub new_points: i64,
    /// Their size.
    pub new_bytes: i64,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct DigestData {
    /// All guests.
    pub guests: Vec<DigestGuest>,
    /// Hosts with which something is the matter.
    pub hosts: Vec<DigestHost>,
    /// The runs, newest first.
    pub run_ids: Vec<Uuid>,
    /// Due times that became runs.
    pub ticks: Vec<(Uuid, DateTime<Utc>)>,
    /// Since when each schedule is as it is.
    pub schedules_since: Vec<(Uuid, DateTime<Utc>)>,
    /// What should go on and does not, oldest first.
    pub stuck: Vec<DigestStuck>,
    /// Damaged restore points.
    pub damaged: Vec<DigestDamage>,
    /// Where restore points go.
    pub space: Vec<DigestSpace>,
}

/// The day between two instants.
pub async fn read(
    pool: &PgPool,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<DigestData, StoreError> {
    Ok(DigestData {
        guests: sqlx::query_as(include_str!("digest_guests.sql"))
            .fetch_all(pool)
            .await?,
        hosts: sqlx::query_as(include_str!("digest_hosts.sql"))
            .fetch_all(pool)
            .await?,
        run_ids: sqlx::query_scalar(include_str!("digest_runs.sql"))
            .bind(from)
            .bind(to)
            .fetch_all(pool)
            .await?,
        ticks: sqlx::query_as("SELECT schedule_id, due_at FROM virtuozo_core.ticks WHERE due_at > $1 AND due_at <= $2")
            .bind(from)
            .bind(to)
            .fetch_all(pool)
            .await?,
        schedules_since: sqlx::query_as(include_str!("digest_schedules.sql"))
            .fetch_all(pool)
            .await?,
        stuck: sqlx::query_as(include_str!("digest_stuck.sql"))
            .fetch_all(pool)
            .await?,
        damaged: sqlx::query_as(include_str!("digest_damaged.sql"))
            .fetch_all(pool)
            .await?,
        space: sqlx::query_as(include_str!("digest_space.sql"))
            .bind(from)
            .bind(to)
            .fetch_all(pool)
            .await?,
    })
}
