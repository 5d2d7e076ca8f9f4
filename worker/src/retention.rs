//! Retention after a successful backup: deletes restore points that newer verified ones cover.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use uuid::Uuid;
use virtuozo_repository::retention::PointInfo;
use virtuozo_store::points::{self, Cover, Deletion, GuestPoint};

use crate::{blocking::blocking, error::StepError, steps::GuestRun};

/// Deletes the guest's restore points that others cover. The new one is published already, so an error is logged as a
/// warning, and the deletion is tried again after the next backup.
pub(crate) async fn apply(run: &GuestRun, points: &[GuestPoint]) {
    if let Err(error) = try_apply(run, points).await {
        tracing::warn!(guest = run.guest.full_name(), %error, "retention failed");
    }
}

/// Deletes all that can be deleted, and returns the first error: the next point may be in another repository.
async fn try_apply(run: &GuestRun, points: &[GuestPoint]) -> Result<(), StepError> {
    let keep_last = run.guest.keep_last.unwrap_or(run.settings.keep_last);
    let infos: Vec<PointInfo<Uuid>> = points
        .iter()
        .filter(|point| point.state != "deleting")
        .map(|point| PointInfo {
            id: point.id,
            taken_at: point.taken_at,
            verified: point.verified && point.state == "published",
        })
        .collect();
    let mut going: Vec<Uuid> =
        virtuozo_repository::retention::to_delete(&infos, u32::try_from(keep_last).unwrap_or(0));
    // Points that an earlier deletion has marked.
    going.extend(
        points
            .iter()
            .filter(|point| point.state == "deleting")
            .map(|point| point.id),
    );
    let by_id: HashMap<Uuid, &GuestPoint> = points.iter().map(|point| (point.id, point)).collect();
    let mut first = Ok(());
    for point in going.into_iter().filter_map(|id| by_id.get(&id).copied()) {
        first = first.and(delete(run, point, keep_last).await);
    }
    first
}

async fn delete(run: &GuestRun, point: &GuestPoint, keep_last: i32) -> Result<(), StepError> {
    let pool = &run.context.pool;
    // A directory that is missing because the repository is not mounted is not deleted.
    let repositories = &run.context.repositories;
    let repository = repositories
        .open(pool, Path::new(&point.repository))
        .await?;
    // The order mark, directory, row lets a later deletion finish after a crash. The mark is refused if the covering point
    // is being deleted meanwhile, by an administrator for example.
    match points::begin_delete(pool, point.id, Cover::Newer(keep_last)).await? {
        Deletion::Begun | Deletion::UnderWay => {}
        Deletion::Gone | Deletion::Uncovered => return Ok(()),
    }
    let path = PathBuf::from(&point.path);
    blocking(move || Ok(repository.remove_point(&path)?)).await?;
    points::finish_delete(pool, point.id).await?;
    tracing::info!(
        guest = run.guest.full_name(),
        path = point.path,
        "restore point deleted"
    );
    Ok(())
}
