//! Restore points, as the catalogue has them. Their files are read, verified and deleted by those who see them.

use chrono::Local;
use serde_json::json;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;
use virtuozo_model::Severity;
use virtuozo_store::{
    catalogue,
    events::{self, NewEvent},
    points::{self, Cover},
    views,
};

pub use virtuozo_store::{
    points::Deletion,
    views::{PointLine, Verification},
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
pub async fn list(
    pool: &PgPool,
    guest: Option<(&str, &str)>,
) -> Result<Vec<PointLine>, ServiceError> {
    let (host, guest) = guest.unzip();
    Ok(views::points(pool, host, guest).await?)
}

/// Those that are not about to be deleted, in the order in which they should be verified: first what nobody has verified,
/// then what was read back from a weaker place, then what was verified longest ago.
pub async fn to_verify(pool: &PgPool) -> Result<Vec<PointLine>, ServiceError> {
    let mut all = views::points(pool, None, None).await?;
    all.retain(|point| point.state != "deleting");
    let strength = |point: &PointLine| match point.read_back.as_deref() {
        _ if point.verified_at.is_none() => 0,
        Some("medium") => 4,
        Some("server") => 3,
        Some("cache") => 2,
        _ => 1,
    };
    all.sort_by_key(|point| (strength(point), point.verified_at));
    Ok(all)
}

/// Those that are published and that nobody has verified.
pub async fn unverified(pool: &PgPool) -> Result<Vec<PointLine>, ServiceError> {
    let mut all = views::points(pool, None, None).await?;
    all.retain(|point| point.verified_at.is_none() && point.state == "published");
    Ok(all)
}

/// Notes what a verification has found.
pub async fn record_verification(
    pool: &PgPool,
    point: Uuid,
    found: Verification<'_>,
) -> Result<(), ServiceError> {
    Ok(views::record_verification(pool, point, found).await?)
}

/// Takes a restore point that a scan has found for a backup of its guest, which `by` has decided and an event tells. False:
/// it was made or adopted by this site before.
pub async fn adopt(pool: &PgPool, point: &PointLine, by: &str) -> Result<bool, ServiceError> {
    let mut tx = pool.begin().await?;
    if !catalogue::adopt(&mut *tx, point.id).await? {
        return Ok(false);
    }
    let message = format!(
        "guest {}: its restore point {} is adopted by {by}",
        point.full_name(),
        short(point.id)
    );
    let mut event =
        NewEvent::user(Severity::Warning, message).detail(json!({ "point_id": point.id }));
    if let Some(guest_id) = point.guest_id {
        event = event.guest(guest_id);
    }
    events::record(&mut *tx, &event).await?;
    tx.commit().await?;
    Ok(true)
}

/// Marks a restore point as on its way out, and records who wanted that. Its directory goes next, and then
/// [`finish_delete`] forgets it; with [`Deleting::forget`] it is forgotten at once. A guest keeps at least one other
/// verified one, unless forced.
pub async fn begin_delete(
    pool: &PgPool,
    point: &PointLine,
    how: &Deleting,
) -> Result<Deletion, ServiceError> {
    let mut tx = pool.begin().await?;
    let marked = mark_deleting(&mut tx, point, how).await?;
    if how.forget && matches!(marked, Deletion::Begun | Deletion::UnderWay) {
        points::finish_delete(&mut *tx, point.id).await?;
    }
    tx.commit().await?;
    Ok(marked)
}

/// What deletions would do, each counting for those after it. Nothing of it stays.
#[derive(Debug)]
pub struct DryRun {
    tx: Transaction<'static, Postgres>,
}

impl DryRun {
    /// Before the first deletion.
    pub async fn begin(pool: &PgPool) -> Result<Self, ServiceError> {
        Ok(Self {
            tx: pool.begin().await?,
        })
    }

    /// What [`begin_delete`] would do now.
    pub async fn delete(
        &mut self,
        point: &PointLine,
        how: &Deleting,
    ) -> Result<Deletion, ServiceError> {
        mark_deleting(&mut self.tx, point, how).await
    }
}

async fn mark_deleting(
    tx: &mut PgConnection,
    point: &PointLine,
    how: &Deleting,
) -> Result<Deletion, ServiceError> {
    let cover = match how.force {
        true => Cover::Nothing,
        false => Cover::Other,
    };
    let marked = points::begin_delete(&mut *tx, point.id, cover).await?;
    // One that was marked before has its event.
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
pub async fn finish_delete(pool: &PgPool, point: Uuid) -> Result<(), ServiceError> {
    Ok(points::finish_delete(pool, point).await?)
}
