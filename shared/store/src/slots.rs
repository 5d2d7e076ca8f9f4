//! The slots of the nodes of hosts, kept equal to their hosts' caps.

use sqlx::PgConnection;
use uuid::Uuid;

use virtuozo_postgres::StoreError;

/// Adds the slots that the nodes of a host lack, or of all hosts, and removes free ones beyond the cap and of nodes that no
/// guest is on. Called where a cap changes, and before guest runs come into being.
pub(super) async fn sync(conn: &mut PgConnection, host_id: Option<Uuid>) -> Result<(), StoreError> {
    sqlx::query(include_str!("slots/sync_slots.sql"))
        .bind(host_id)
        .execute(conn)
        .await?;
    Ok(())
}
