//! Which repository lies at which path: what tells one from the empty directory under its mount point.

use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

use super::plain_directory;
use virtuozo_postgres::StoreError;

/// What is known of the repository at a path.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct KnownRepository {
    /// The id in its marker; none: it was not used yet, or by an older version only.
    pub id: Option<Uuid>,
    /// Where the restore points are that are recorded there, below it and newest first, if no id is known.
    pub points: Vec<String>,
}

/// What is known of the repository at a path.
pub async fn known(db: impl PgExecutor<'_>, path: &str) -> Result<KnownRepository, StoreError> {
    Ok(sqlx::query_as(include_str!("repositories/known.sql"))
        .bind(plain_directory(path))
        .fetch_one(db)
        .await?)
}

/// Notes which repository lies at a path, unless one is known already. Returns the one that is known now.
pub async fn learn(db: impl PgExecutor<'_>, path: &str, id: Uuid) -> Result<Uuid, StoreError> {
    Ok(sqlx::query_scalar(include_str!("repositories/learn.sql"))
        .bind(plain_directory(path))
        .bind(id)
        .fetch_one(db)
        .await?)
}

/// Notes that this repository lies at a path from now on. Returns the one that was known before.
///
/// # Errors
/// [`StoreError::Refused`] for a directory that is no absolute path, or what the database says.
pub async fn adopt(
    db: impl PgExecutor<'_>,
    path: &str,
    id: Uuid,
) -> Result<Option<Uuid>, StoreError> {
    super::check_directory(path)?;
    Ok(sqlx::query_scalar(include_str!("repositories/adopt.sql"))
        .bind(plain_directory(path))
        .bind(id)
        .fetch_one(db)
        .await?)
}
