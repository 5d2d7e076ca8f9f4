//! The slots of hosts, kept equal to their caps.

use sqlx::PgConnection;
use uuid::Uuid;

use virtuozo_postgres::StoreError;

/// Adds the slots that a host lacks, or all hosts do, and removes free ones beyond its cap. Called where a cap changes.
///
/// # Errors
/// What the database says.
pub(super) async fn sync(conn: &mut PgConnection, host_id: Option<Uuid>) -> Result<(), StoreError> {
    sqlx::query(include_str!("slots/sync_slots.sql"))
        .bind(host_id)
        .execute(conn)
        .await?;
    Ok(())
}
