//! Admission: a host's free slots and its oldest waiting guest runs, paired and queued in one statement.

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use virtuozo_postgres::StoreError;

/// Admits as many waiting guest runs of a host as it has free slots, and pushes their jobs. Where any cap
/// reaches over hosts, those of all hosts, the oldest first, as far as the caps allow; if somebody else
/// does that at this moment, a scheduler is asked to look again. Returns the run of each. Called where
/// guest runs come into being, where one ends, and by the sweep.
pub async fn admit(tx: &mut PgConnection, host_id: Uuid) -> Result<Vec<Uuid>, StoreError> {
    admit_after(tx, host_id, None).await
}

/// Frees the slot of a guest run that ends and admits those that may come after it. Returns the run of each.
pub(super) async fn leave_slot(
    tx: &mut PgConnection,
    guest_run_id: Uuid,
    host_id: Uuid,
) -> Result<Vec<Uuid>, StoreError> {
    admit_after(tx, host_id, Some(guest_run_id)).await
}

async fn admit_after(
    tx: &mut PgConnection,
    host_id: Uuid,
    ended: Option<Uuid>,
) -> Result<Vec<Uuid>, StoreError> {
    Ok(sqlx::query_scalar("SELECT virtuozo_core.admit($1, $2)")
        .bind(host_id)
        .bind(ended)
        .fetch_all(tx)
        .await?)
}

/// Hosts that have both a free slot and a guest run that is due; one of them where admission looks at all
/// hosts anyway.
pub async fn hosts_to_admit(pool: &PgPool) -> Result<Vec<Uuid>, StoreError> {
    Ok(
        sqlx::query_scalar(include_str!("admission/hosts_to_admit.sql"))
            .fetch_all(pool)
            .await?,
    )
}

/// Waits until nobody else admits under caps, and keeps everybody from it until the transaction ends. For
/// the sweep, which has to find what others have left to it.
pub(super) async fn alone(tx: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock(7316, 3)")
        .execute(tx)
        .await?;
    Ok(())
}

/// Keeps everybody else from admitting runs or claiming obligations of this host until the transaction
/// ends. What follows must be a new statement, so that it sees what the one before has committed.
pub(super) async fn lock_host(tx: &mut PgConnection, host_id: Uuid) -> Result<(), StoreError> {
    sqlx::query(include_str!("admission/host_lock.sql"))
        .bind(host_id)
        .execute(tx)
        .await?;
    Ok(())
}
