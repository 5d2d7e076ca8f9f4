//! Retention after a successful backup: what newer verified restore points cover may go.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use uuid::Uuid;
use virtuozo_repository::retention::PointInfo;
use virtuozo_store::points::{self, Cover, Deletion, GuestPoint};

use crate::{blocking::blocking, error::StepError, steps::GuestRun};

/// Deletes those of the guest's restore points that others of them cover. The new one is published whatever happens here,
/// so what fails is a warning, and tried again after the next backup.
pub(crate) async fn apply(run: &GuestRun, points: &[GuestPoint]) {
    if let Err(error) = try_apply(run, points).await {
        tracing::warn!(guest = run.guest.full_name(), %error, "old restore points could not be deleted");
    }
}

/// Goes on after an error, as the next point may lie elsewhere, and returns the first.
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
    // What an earlier worker had begun to delete.
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
    // What is not there because nothing is mounted is not gone.
    let repositories = &run.context.repositories;
    let repository = repositories
        .open(pool, Path::new(&point.repository))
        .await?;
    // First the mark, then the directory, then the row: a crash in between is finished later. What was to cover it
    // may be on its way out by now, as administrators delete points too.
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
