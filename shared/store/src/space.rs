//! What is free in repositories, as workers saw it: other processes may not reach them. And what of it is promised to the
//! copies under way.

use sqlx::{PgExecutor, PgPool};

use virtuozo_postgres::StoreError;

use crate::{guest_runs::GuestLease, workers::machine};

/// Records what is free in a repository.
pub async fn seen(db: impl PgExecutor<'_>, path: &str, free_bytes: u64) -> Result<(), StoreError> {
    sqlx::query(include_str!("space/repository_space_seen.sql"))
        .bind(path)
        .bind(i64::try_from(free_bytes).unwrap_or(i64::MAX))
        .execute(db)
        .await?;
    Ok(())
}

/// Where a copy goes, and what it takes there.
#[derive(Debug, Clone)]
pub struct Reservation<'a> {
    /// The repository's directory.
    pub repository: &'a str,
    /// How this machine counts the file system in which it lies.
    pub device: u64,
    /// What the copy may write, in bytes.
    pub needed_bytes: u64,
    /// What is free there now, in bytes; none: the file system does not tell.
    pub free_bytes: Option<u64>,
}

/// Has the space for a copy promised to a guest run, until it ends. Returns the bytes that others were promised there and
/// have not written yet: where they and what is needed exceed what is free, nothing is promised.
pub async fn reserve(
    pool: &PgPool,
    lease: &GuestLease,
    wanted: &Reservation<'_>,
) -> Result<u64, StoreError> {
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX / 2);
    let others: i64 =
        sqlx::query_scalar("SELECT virtuozo_core.reserve_space($1, $2, $3, $4, $5, $6, $7)")
            .bind(lease.guest_run_id)
            .bind(lease.fence)
            .bind(wanted.repository)
            .bind(machine())
            .bind(wanted.device.cast_signed())
            .bind(bytes(wanted.needed_bytes))
            .bind(wanted.free_bytes.map(bytes))
            .fetch_one(pool)
            .await?;
    Ok(u64::try_from(others).unwrap_or(0))
}
