//! Which of several schedulers leads. Two that both believe they do make no error: every due time and
//! every lease is decided by one statement. It only spares work.

use sqlx::PgExecutor;
use uuid::Uuid;

use virtuozo_postgres::StoreError;

/// How long the lead lasts without being renewed. A leader that is gone, frozen or cut off is replaced
/// after this time and one look of another.
pub const LEAD_SECS: f64 = 8.0;

/// Takes the lead if nobody has it, or renews it. False: another scheduler leads.
///
/// # Errors
/// What the database says.
pub async fn take(db: impl PgExecutor<'_>, scheduler_id: Uuid) -> Result<bool, StoreError> {
    let done = sqlx::query(include_str!("leadership/lead_take.sql"))
        .bind(scheduler_id)
        .bind(LEAD_SECS)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives the lead up, if this scheduler has it.
///
/// # Errors
/// What the database says.
pub async fn resign(db: impl PgExecutor<'_>, scheduler_id: Uuid) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM virtuozo_core.lead WHERE owner_id = $1")
        .bind(scheduler_id)
        .execute(db)
        .await?;
    Ok(())
}
