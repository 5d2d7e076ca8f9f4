//! Which of several schedulers leads. Two that both believe they do make no error: every due time and
//! every lease is decided by one statement. It only spares work.

use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

use super::leases::{leased, renewal};
use virtuozo_postgres::StoreError;

/// The lead that a scheduler has taken. It lasts for `virtuozo_core.lead_secs` without being renewed: a leader that is
/// gone, frozen or cut off is replaced after this time and one look of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Lead {
    owner_id: Uuid,
    fence: i64,
    lease_secs: i32,
}

leased!(
    Lead,
    Lead,
    owner_id,
    renewal!("lead", "owner_id", "false", "virtuozo_core.lead_secs()")
);

/// Takes the lead if nobody has it, or this scheduler has. None: another scheduler leads.
pub async fn take(db: impl PgExecutor<'_>, scheduler_id: Uuid) -> Result<Option<Lead>, StoreError> {
    Ok(sqlx::query_as(include_str!("leadership/lead_take.sql"))
        .bind(scheduler_id)
        .fetch_optional(db)
        .await?)
}

/// Gives the lead up, if this scheduler has it.
pub async fn resign(db: impl PgExecutor<'_>, scheduler_id: Uuid) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM virtuozo_core.lead WHERE owner_id = $1")
        .bind(scheduler_id)
        .execute(db)
        .await?;
    Ok(())
}
