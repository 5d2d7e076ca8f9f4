//! Caps on guests in work that reach over hosts: for datastores and repositories. The one for the fleet is
//! a setting. They apply at once; what is in work already goes on.

use serde::Serialize;
use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

use virtuozo_postgres::StoreError;

/// A place that restore points go to.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize)]
pub struct Repository {
    /// The directory, as workers see it.
    pub path: String,
    /// Guests in work at most whose restore points go there; none: no cap.
    pub guest_threads: Option<i32>,
    /// How many are.
    pub in_work: i64,
    /// The site or a guest names it; otherwise it only has a cap.
    pub is_destination: bool,
}

/// Every place that restore points go to, or that has a cap.
pub async fn repositories(db: impl PgExecutor<'_>) -> Result<Vec<Repository>, StoreError> {
    Ok(sqlx::query_as(include_str!("caps/repositories_list.sql"))
        .fetch_all(db)
        .await?)
}

/// The same path as [`repositories`] has it, whatever slashes and dots it was typed with.
///
/// # Errors
/// [`StoreError::Refused`] for a directory that is no absolute path.
pub fn normalized_directory(path: &str) -> Result<String, StoreError> {
    super::check_directory(path)?;
    Ok(super::plain_directory(path))
}

/// Sets the cap of a repository, or takes it away.
///
/// # Errors
/// [`StoreError::Refused`] for a cap below 1 or a directory that is no absolute path.
pub async fn set_repository(
    db: impl PgExecutor<'_>,
    path: &str,
    guest_threads: Option<i32>,
) -> Result<(), StoreError> {
    let path = normalized_directory(path)?;
    let statement = match check(guest_threads)? {
        Some(cap) => sqlx::query(include_str!("caps/repository_cap.sql"))
            .bind(path)
            .bind(cap),
        None => sqlx::query("DELETE FROM virtuozo_core.repositories WHERE path = $1").bind(path),
    };
    statement.execute(db).await?;
    Ok(())
}

/// Sets the cap of a host's datastore, or takes it away.
///
/// # Errors
/// [`StoreError::Refused`] for a cap below 1, [`StoreError::NotFound`] for a datastore that is not known.
pub async fn set_datastore(
    db: impl PgExecutor<'_>,
    host_id: Uuid,
    name: &str,
    guest_threads: Option<i32>,
) -> Result<(), StoreError> {
    let known: Option<String> = sqlx::query_scalar(include_str!("caps/datastore_cap.sql"))
        .bind(host_id)
        .bind(name)
        .bind(check(guest_threads)?)
        .fetch_optional(db)
        .await?;
    known.map(drop).ok_or_else(|| StoreError::NotFound {
        what: "datastore",
        name: name.to_owned(),
    })
}

fn check(cap: Option<i32>) -> Result<Option<i32>, StoreError> {
    match cap {
        Some(cap) if cap < 1 => Err(StoreError::Refused(format!(
            "{cap} is no cap: give a whole number from 1 up, or none"
        ))),
        cap => Ok(cap),
    }
}
