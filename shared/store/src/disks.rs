//! Disks of guests.

use sqlx::PgExecutor;
use uuid::Uuid;

use virtuozo_model::Disk;
use virtuozo_postgres::StoreError;

/// The disks of a guest, or of all, by device.
pub async fn list(
    db: impl PgExecutor<'_>,
    guest_id: Option<Uuid>,
) -> Result<Vec<Disk>, StoreError> {
    Ok(sqlx::query_as(include_str!("disks/list.sql"))
        .bind(guest_id)
        .fetch_all(db)
        .await?)
}

/// The devices of a guest's disks that are left out of backups.
pub async fn ignored(db: impl PgExecutor<'_>, guest_id: Uuid) -> Result<Vec<String>, StoreError> {
    Ok(
        sqlx::query_scalar(
            "SELECT device FROM virtuozo_core.disks WHERE guest_id = $1 AND ignored",
        )
        .bind(guest_id)
        .fetch_all(db)
        .await?,
    )
}

/// Leaves a disk out of backups, or takes it in again.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn set_ignored(
    db: impl PgExecutor<'_>,
    guest_id: Uuid,
    device: &str,
    ignored: bool,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "UPDATE virtuozo_core.disks SET ignored = $3 WHERE guest_id = $1 AND device = $2",
    )
    .bind(guest_id)
    .bind(device)
    .bind(ignored)
    .execute(db)
    .await?;
    if done.rows_affected() == 0 {
        return Err(StoreError::NotFound {
            what: "disk",
            name: device.to_owned(),
        });
    }
    Ok(())
}

/// Leaves a disk out of backups that need not have been found yet.
///
/// # Errors
/// [`StoreError::Refused`] for a device that cannot be one.
pub async fn leave_out(
    db: impl PgExecutor<'_>,
    guest_id: Uuid,
    device: &str,
) -> Result<(), StoreError> {
    super::check_name("disk", device)?;
    sqlx::query(include_str!("disks/leave_out.sql"))
        .bind(guest_id)
        .bind(device)
        .execute(db)
        .await?;
    Ok(())
}
