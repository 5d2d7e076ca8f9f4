//! Workers and schedulers: one row for every incarnation.

use serde::Serialize;
use sqlx::{FromRow, PgExecutor, PgPool};
use uuid::Uuid;

use virtuozo_model::{KindServed, ProcessKind, Worker};
use virtuozo_postgres::StoreError;

/// Notes which kinds of host a worker serves now.
///
/// # Errors
/// What the database says.
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
///
/// # Errors
/// What the database says.
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
///
/// # Errors
/// What the database says.
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
///
/// # Errors
/// What the database says.
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

/// Asks workers to drain: all that run under this name, or the one with this id. They learn it with
/// their next sign of life. Returns their ids, and whether they were heard of lately.
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

/// Who cannot do what there is to do for a host, because of the machine that they run on.
#[derive(Debug, Clone, FromRow)]
pub struct OtherWorkers {
    /// Another worker runs that may be able to.
    pub leaves_to_others: bool,
    /// Those who have found that they cannot, since the run began and lately: `one on mars, two on venus`.
    pub tried: String,
}

/// Notes that a worker cannot do what there is to do for a host: others come first for some minutes. `run_id` is the
/// run in which it found that.
///
/// # Errors
/// What the database says.
pub async fn record_missing_capability(
    pool: &PgPool,
    worker_id: Uuid,
    host_id: Uuid,
    run_id: Option<Uuid>,
    reason: &str,
) -> Result<OtherWorkers, StoreError> {
    sqlx::query(include_str!("workers/missing_capability.sql"))
        .bind(worker_id)
        .bind(host_id)
        .bind(reason)
        .execute(pool)
        .await?;
    Ok(sqlx::query_as(include_str!("workers/tried.sql"))
        .bind(worker_id)
        .bind(host_id)
        .bind(run_id)
        .fetch_one(pool)
        .await?)
}

/// Whether a worker leaves what there is to do for a host to others, which may be able to.
///
/// # Errors
/// What the database says.
pub async fn leaves_to_others(
    db: impl PgExecutor<'_>,
    worker_id: Uuid,
    host_id: Uuid,
) -> Result<bool, StoreError> {
    Ok(
        sqlx::query_scalar("SELECT virtuozo_core.leaves_to_others($1, $2)")
            .bind(worker_id)
            .bind(host_id)
            .fetch_one(db)
            .await?,
    )
}

/// Notes a clean end.
///
/// # Errors
/// What the database says.
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
///
/// # Errors
/// What the database says.
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
