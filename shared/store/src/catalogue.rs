//! The catalogue of restore points, held against what is found in the repositories.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use virtuozo_postgres::StoreError;

/// What is written where a restore point's directory is not there.
pub const MISSING: &str = "its directory is missing";

/// A restore point as its manifest tells it.
#[derive(Debug, Clone)]
pub struct FoundPoint<'a> {
    /// Its id.
    pub id: Uuid,
    /// The guest run that made it.
    pub guest_run_id: Uuid,
    /// The host's name at the time.
    pub host_name: &'a str,
    /// The guest's name at the time.
    pub guest_name: &'a str,
    /// What the guest's host found it by.
    pub locator: &'a str,
    /// The guest's UUID, where its host has one.
    pub guest_uuid: Option<Uuid>,
    /// The destination directory.
    pub repository: &'a str,
    /// Where it is below the destination.
    pub path: &'a str,
    /// `hot` or `cold`.
    pub mode: &'a str,
    /// The instant that its disks hold.
    pub taken_at: DateTime<Utc>,
    /// When its copy was complete.
    pub sealed_at: DateTime<Utc>,
    /// Stored bytes.
    pub size_bytes: u64,
    /// Sum of the disks' sizes, in bytes.
    pub source_bytes: u64,
    /// Snapshots of other people in it.
    pub foreign_snapshots: &'a [String],
    /// The site's key has authenticated its manifest, so it is adopted at once.
    pub authentic: bool,
    /// BLAKE3 of the text of its manifest, as hexadecimal digits.
    pub manifest_blake3: &'a str,
}

/// Enters a restore point that was found, as one that nobody has verified. False: it is entered already,
/// or the run that makes it is not over. Whoever calls looks once more whether its directory is still
/// there before the transaction ends: retention may have deleted both meanwhile.
pub async fn record(tx: &mut PgConnection, point: &FoundPoint<'_>) -> Result<bool, StoreError> {
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let row: Option<Uuid> = sqlx::query_scalar(include_str!("catalogue/point_record.sql"))
        .bind(point.id)
        .bind(point.host_name)
        .bind(point.locator)
        .bind(point.guest_name)
        .bind(point.repository)
        .bind(point.path)
        .bind(point.mode)
        .bind(point.taken_at)
        .bind(point.sealed_at)
        .bind(bytes(point.size_bytes))
        .bind(bytes(point.source_bytes))
        .bind(point.foreign_snapshots)
        .bind(point.guest_run_id)
        .bind(point.guest_uuid)
        .bind(point.authentic)
        .bind(point.manifest_blake3)
        .fetch_optional(tx)
        .await?;
    Ok(row.is_some())
}

/// Gives a restore point that was found earlier its guest, if that is known now. False: it is not.
pub async fn link(db: impl PgExecutor<'_>, point: &FoundPoint<'_>) -> Result<bool, StoreError> {
    let row: Option<Uuid> = sqlx::query_scalar(include_str!("catalogue/point_link.sql"))
        .bind(point.id)
        .bind(point.host_name)
        .bind(point.locator)
        .bind(point.guest_uuid)
        .fetch_optional(db)
        .await?;
    Ok(row.is_some())
}

/// Takes a restore point that was found for a backup of its guest, which covers others in retention once it is verified.
/// False: it was made or adopted by this site before.
pub async fn adopt(db: impl PgExecutor<'_>, id: Uuid) -> Result<bool, StoreError> {
    let row: Option<Uuid> = sqlx::query_scalar(include_str!("catalogue/point_adopt.sql"))
        .bind(id)
        .fetch_optional(db)
        .await?;
    Ok(row.is_some())
}

/// Notes that a restore point lies somewhere else than at `repository` and `path` now. False: it is
/// being deleted, or somebody else has noted it.
pub async fn relocate(
    db: impl PgExecutor<'_>,
    point: &FoundPoint<'_>,
    repository: &str,
    path: &str,
) -> Result<bool, StoreError> {
    let row: Option<Uuid> = sqlx::query_scalar(include_str!("catalogue/point_move.sql"))
        .bind(point.id)
        .bind(point.repository)
        .bind(point.path)
        .bind(repository)
        .bind(path)
        .fetch_optional(db)
        .await?;
    Ok(row.is_some())
}

/// Takes [`MISSING`] back. False: it was not said.
pub async fn found_again(db: impl PgExecutor<'_>, id: Uuid) -> Result<bool, StoreError> {
    let row: Option<Uuid> = sqlx::query_scalar(include_str!("catalogue/point_found_again.sql"))
        .bind(id)
        .bind(MISSING)
        .fetch_optional(db)
        .await?;
    Ok(row.is_some())
}
