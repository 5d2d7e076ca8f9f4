//! What guest runs wait for on file systems, for as long as it does not answer.

use std::time::Duration;

use sqlx::PgPool;
use virtuozo_postgres::StoreError;

use crate::guest_runs::GuestLease;

/// Records that files of a guest run have not answered for so long. `what` is the subject of the sentence that says so.
/// Without effect where the lease is lost.
///
/// # Errors
/// The statement fails.
pub async fn begin(
    pool: &PgPool,
    lease: &GuestLease,
    what: &str,
    lasts: Duration,
) -> Result<(), StoreError> {
    sqlx::query(include_str!("file_waits/begin.sql"))
        .bind(lease.guest_run_id)
        .bind(lease.fence)
        .bind(what)
        .bind(lasts.as_secs_f64())
        .execute(pool)
        .await?;
    Ok(())
}

/// Records that they have answered.
///
/// # Errors
/// The statement fails.
pub async fn end(pool: &PgPool, lease: &GuestLease) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM virtuozo_core.file_waits WHERE guest_run_id = $1 AND fence = $2")
        .bind(lease.guest_run_id)
        .bind(lease.fence)
        .execute(pool)
        .await?;
    Ok(())
}
