//! The slots of hosts, kept equal to their caps.

use sqlx::PgConnection;

use crate::StoreError;

/// Adds the slots that hosts lack and removes free ones beyond their caps. Called where a cap changes.
///
/// # Errors
/// What the database says.
pub(super) async fn sync(conn: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/sync_slots.sql"))
        .execute(conn)
        .await?;
    Ok(())
}
