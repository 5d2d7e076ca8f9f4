//! Restore points, as the catalogue has them. Their files are read, verified and deleted by those who see them.

use chrono::Local;
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;
use virtuozo_model::Severity;
use virtuozo_store::{
    catalogue::{self, FoundPoint},
    events::{self, NewEvent},
    points::{self, Cover, Deletion},
    views::{self, PointLine},
};

use crate::{error::ServiceError, names::short};

/// How a restore point is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleting {
    /// Also where its guest has no other verified one.
    pub force: bool,
    /// Only take it out of the catalogue, as its repository is gone for good.
    pub forget: bool,
    /// Who wants that.
    pub by: String,
}

/// The restore points of a guest, by the names of its host and its own, or all.
///
/// # Errors
/// What the database says.
pub async fn list(
    pool: &PgPool,
    guest: Option<(&str, &str)>,
) -> Result<Vec<PointLine>, ServiceError> {
    let (host, guest) = guest.unzip();
    Ok(views::points(pool, host, guest).await?)
}

/// Those that are not about to be deleted.
///
/// # Errors
/// What the database says.
pub async fn to_verify(pool: &PgPool) -> Result<Vec<PointLine>, ServiceError> {
    let mut all = views::points(pool, None, None).await?;
    all.retain(|point| point.state != "deleting");
    Ok(all)
}

/// Notes what a verification has found; none: all is good.
///
/// # Errors
/// What the database says.
pub async fn record_verification(
    pool: &PgPool,
    point: Uuid,
    damage: Option<&str>,
) -> Result<(), ServiceError> {
    Ok(views::record_verification(pool, point, damage).await?)
}

/// Enters a restore point that was found in a repository, as one that nobody has verified. `is_there` is asked once
/// more before that counts. False: retention has deleted it meanwhile, or a run is about to enter it.
///
/// # Errors
/// What the database says.
pub async fn record_found(
    pool: &PgPool,
    point: &FoundPoint<'_>,
    is_there: impl FnOnce() -> bool,
) -> Result<bool, ServiceError> {
    let mut tx = pool.begin().await?;
    if !catalogue::record(&mut tx, point).await? || !is_there() {
        return Ok(false);
    }
    tx.commit().await?;
    Ok(true)
}

/// Marks a restore point as on its way out, in the caller's transaction, and records who wanted that. Its directory
/// goes next, and then [`finish_delete`] forgets it. A guest keeps at least one other verified one, unless forced.
///
/// # Errors
/// What the database says.
pub async fn begin_delete(
    tx: &mut PgConnection,
    point: &PointLine,
    how: &Deleting,
) -> Result<Deletion, ServiceError> {
    let cover = match how.force {
        true => Cover::Nothing,
        false => Cover::Other,
    };
    let marked = points::begin_delete(&mut *tx, point.id, cover).await?;
    // Of one that was marked before it was told then.
    if marked == Deletion::Begun || (marked == Deletion::UnderWay && how.forget) {
        let message = format!(
            "guest {}: its restore point {} of {} is {} by {}",
            point.full_name(),
            short(point.id),
            point
                .taken_at
                .with_timezone(&Local)
                .format("%Y-%m-%d %H:%M:%S"),
            if how.forget { "forgotten" } else { "deleted" },
            how.by
        );
        let mut event = NewEvent::user(Severity::Warning, message).detail(json!({
            "point_id": point.id,
            "forced": how.force,
            "forgotten": how.forget,
        }));
        if let Some(guest_id) = point.guest_id {
            event = event.guest(guest_id);
        }
        events::record(tx, &event).await?;
    }
    Ok(marked)
}

/// Forgets a restore point that is marked, once its directory is gone.
///
/// # Errors
/// What the database says.
pub async fn finish_delete(db: impl sqlx::PgExecutor<'_>, point: Uuid) -> Result<(), ServiceError> {
    Ok(points::finish_delete(db, point).await?)
}
