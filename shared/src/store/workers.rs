//! Workers and schedulers: one row for every incarnation.

use sqlx::PgExecutor;
use uuid::Uuid;

use crate::{
    StoreError,
    model::{ProcessKind, Worker},
};

/// Registers this process under a new id.
///
/// # Errors
/// What the database says.
pub async fn register(
    db: impl PgExecutor<'_>,
    id: Uuid,
    kind: ProcessKind,
    name: &str,
) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/worker_insert.sql"))
        .bind(id)
        .bind(kind)
        .bind(name)
        .bind(machine())
        .bind(i32::try_from(std::process::id()).unwrap_or(i32::MAX))
        .bind(env!("CARGO_PKG_VERSION"))
        .execute(db)
        .await?;
    Ok(())
}

/// Gives a sign of life. False: this incarnation was stopped or pruned and must not go on under its id.
///
/// # Errors
/// What the database says.
pub async fn heartbeat(db: impl PgExecutor<'_>, id: Uuid) -> Result<bool, StoreError> {
    let done = sqlx::query(include_str!("sql/worker_heartbeat.sql"))
        .bind(id)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes a clean end.
///
/// # Errors
/// What the database says.
pub async fn stop(db: impl PgExecutor<'_>, id: Uuid) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/worker_stop.sql"))
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
    Ok(sqlx::query_as(include_str!("sql/workers_list.sql"))
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
