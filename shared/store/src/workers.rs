//! Workers and schedulers: one row for every incarnation.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgExecutor, PgPool};
use uuid::Uuid;

use virtuozo_model::{KindServed, ProcessKind, Worker};
use virtuozo_postgres::StoreError;

/// Notes which kinds of host a worker serves now.
pub async fn serves(
    db: impl PgExecutor<'_>,
    id: Uuid,
    kinds: &[KindServed],
) -> Result<(), StoreError> {
    let (words, are_served, found) = columns(kinds);
    sqlx::query(include_str!("workers/serves.sql"))
        .bind(id)
        .bind(words)
        .bind(are_served)
        .bind(found)
        .execute(db)
        .await?;
    Ok(())
}

/// A kind of host that is wanted and that no running worker serves.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize)]
pub struct KindUnserved {
    /// The word for the kind.
    pub kind: String,
    /// Hosts of this kind, as names.
    pub hosts: Vec<String>,
    /// Why each running worker does not serve it, as sentences.
    pub why: Vec<String>,
}

/// The kinds of hosts that no running worker serves.
pub async fn unserved(db: impl PgExecutor<'_>) -> Result<Vec<KindUnserved>, StoreError> {
    Ok(sqlx::query_as(include_str!("workers/kinds_unserved.sql"))
        .fetch_all(db)
        .await?)
}

fn columns(kinds: &[KindServed]) -> (Vec<&str>, Vec<bool>, Vec<&str>) {
    let words = kinds.iter().map(|one| one.kind.as_str()).collect();
    let are_served = kinds.iter().map(|one| one.is_served).collect();
    let found = kinds.iter().map(|one| one.found.as_str()).collect();
    (words, are_served, found)
}

/// Registers this process under a new id, with the kinds of host that it knows if it is a worker.
pub async fn register(
    db: impl PgExecutor<'_>,
    id: Uuid,
    kind: ProcessKind,
    name: &str,
    kinds: &[KindServed],
) -> Result<(), StoreError> {
    let (words, are_served, found) = columns(kinds);
    sqlx::query(include_str!("workers/insert.sql"))
        .bind(id)
        .bind(kind)
        .bind(name)
        .bind(machine())
        .bind(i32::try_from(std::process::id()).unwrap_or(i32::MAX))
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(words)
        .bind(are_served)
        .bind(found)
        .execute(db)
        .await?;
    Ok(())
}

/// What a process learns when it gives a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatAnswer {
    /// Nothing new.
    GoOn,
    /// Somebody wants it to finish its work, or hand it over, and to end.
    Drain,
    /// It is not known any more: it was stopped, or silent for so long that its row was pruned.
    Unknown,
}

/// Gives a sign of life.
pub async fn heartbeat(db: impl PgExecutor<'_>, id: Uuid) -> Result<HeartbeatAnswer, StoreError> {
    let drain: Option<bool> = sqlx::query_scalar(include_str!("workers/heartbeat.sql"))
        .bind(id)
        .fetch_optional(db)
        .await?;
    Ok(match drain {
        Some(false) => HeartbeatAnswer::GoOn,
        Some(true) => HeartbeatAnswer::Drain,
        None => HeartbeatAnswer::Unknown,
    })
}

/// Asks workers to drain: all that run under this name, or the one with this id. They claim nothing from now on, and
/// are notified. Returns their ids, and whether they were heard of lately.
///
/// # Errors
/// [`StoreError::NotFound`] if no such worker runs, or what the database says.
pub async fn drain(
    db: impl PgExecutor<'_>,
    name_or_id: &str,
) -> Result<Vec<(Uuid, bool)>, StoreError> {
    let asked: Vec<(Uuid, bool)> = sqlx::query_as(include_str!("workers/drain.sql"))
        .bind(name_or_id)
        .fetch_all(db)
        .await?;
    if asked.is_empty() {
        return Err(StoreError::NotFound {
            what: "running worker",
            name: name_or_id.to_owned(),
        });
    }
    Ok(asked)
}

/// What a job finds missing on the machine of its worker.
#[derive(Debug, Clone, Copy)]
pub struct Missing<'a> {
    /// The queue of the job.
    pub queue: &'a str,
    /// What the job is about.
    pub subject: Uuid,
    /// The run in which it was found.
    pub run_id: Option<Uuid>,
    /// The directory that is missing; none: what is missing is no location.
    pub location: Option<&'a str>,
    /// What is wrong.
    pub reason: &'a str,
}

/// Who cannot do a job, because of the machine that they run on.
#[derive(Debug, Clone, FromRow)]
pub struct OtherWorkers {
    /// Another worker runs that may be able to.
    pub leaves_to_others: bool,
    /// Those who have found that they cannot, since the run began and lately: `one on mars, two on venus`.
    pub tried: String,
}

/// Notes what a worker's machine lacks: for some minutes jobs that need it are left to others that may have it.
pub async fn record_missing_capability(
    pool: &PgPool,
    worker_id: Uuid,
    missing: Missing<'_>,
) -> Result<OtherWorkers, StoreError> {
    sqlx::query(include_str!("workers/missing_capability.sql"))
        .bind(worker_id)
        .bind(missing.queue)
        .bind(missing.subject)
        .bind(missing.location)
        .bind(missing.reason)
        .execute(pool)
        .await?;
    Ok(sqlx::query_as(include_str!("workers/tried.sql"))
        .bind(worker_id)
        .bind(missing.queue)
        .bind(missing.subject)
        .bind(missing.run_id)
        .fetch_one(pool)
        .await?)
}

/// The locations that a worker's machine lacks now.
pub async fn lacked_locations(
    db: impl PgExecutor<'_>,
    worker_id: Uuid,
) -> Result<Vec<String>, StoreError> {
    let sql =
        "SELECT location FROM virtuozo_core.lacks WHERE worker_id = $1 AND location IS NOT NULL";
    Ok(sqlx::query_scalar(sql)
        .bind(worker_id)
        .fetch_all(db)
        .await?)
}

/// Notes that a worker's machine has these locations.
pub async fn found_again(
    db: impl PgExecutor<'_>,
    worker_id: Uuid,
    locations: &[String],
) -> Result<(), StoreError> {
    sqlx::query(include_str!("workers/found_again.sql"))
        .bind(worker_id)
        .bind(locations)
        .execute(db)
        .await?;
    Ok(())
}

/// What the machine of a running worker lacks.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize)]
pub struct LackingWorker {
    /// The worker's name.
    pub name: String,
    /// Its machine.
    pub machine: String,
    /// The host for which something is missing that is no location.
    pub host: Option<String>,
    /// Or the directory that is missing.
    pub location: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// When that was found last.
    pub noted_at: DateTime<Utc>,
    /// Another worker runs that may have it.
    pub leaves_to_others: bool,
}

/// What the machines of running workers lack.
pub async fn lacking(db: impl PgExecutor<'_>) -> Result<Vec<LackingWorker>, StoreError> {
    Ok(sqlx::query_as(include_str!("workers/lacking.sql"))
        .fetch_all(db)
        .await?)
}

/// Notes a clean end.
pub async fn stop(db: impl PgExecutor<'_>, id: Uuid) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE virtuozo_core.workers SET stopped_at = now() WHERE id = $1 AND stopped_at IS NULL",
    )
    .bind(id)
    .execute(db)
    .await?;
    Ok(())
}

/// All incarnations that are still known, running ones first.
pub async fn list(db: impl PgExecutor<'_>) -> Result<Vec<Worker>, StoreError> {
    Ok(sqlx::query_as(include_str!("workers/list.sql"))
        .fetch_all(db)
        .await?)
}

/// The name of this machine.
pub fn machine() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
