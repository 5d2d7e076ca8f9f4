//! Retention after a successful backup: deletes restore points that newer verified ones cover.

use std::{collections::HashMap, path::PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;
use virtuozo_model::Severity;
use virtuozo_repository::{
    Recorded, RecordedSource,
    retention::{self, PointInfo},
};
use virtuozo_store::{
    events::{self, NewEvent},
    points::{self, Cover, Deletion, GuestPoint, Published},
    views::{self, Verification},
};

use crate::{
    error::{RepositoryFailureKind, StepError},
    file_work::FileWork,
    steps::GuestRun,
};

/// A point that is dated in the future by more is told.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// Deletes the guest's restore points that others cover. The new one is published already, so an error is logged as a
/// warning, and the deletion is tried again after the next backup.
pub(crate) async fn apply(run: &GuestRun, published: &Published) {
    if let Err(error) = try_apply(run, published).await {
        tracing::warn!(guest = run.guest.full_name(), %error, "retention failed");
    }
}

/// Deletes all that can be deleted, and returns the first error: the next point may be in another repository.
async fn try_apply(run: &GuestRun, published: &Published) -> Result<(), StepError> {
    let Published { points, now, .. } = published;
    let keep_last = run.guest.keep_last.unwrap_or(run.settings.keep_last);
    let infos: Vec<PointInfo<Uuid>> = points
        .iter()
        .filter(|point| point.ours && point.state != "deleting")
        .map(|point| PointInfo {
            id: point.id,
            taken_at: point.taken_at,
            entry_number: point.entry_number,
            counts: point.counts,
        })
        .collect();
    let by_id: HashMap<Uuid, &GuestPoint> = points.iter().map(|point| (point.id, point)).collect();
    tell_of_the_future(run, points, *now).await;
    let mut first = Ok(());
    let mut going = covered(run, infos, &by_id, keep_last, *now).await;
    // Points that an earlier deletion has marked.
    going.extend(
        points
            .iter()
            .filter(|point| point.state == "deleting")
            .map(|point| point.id),
    );
    for point in going.into_iter().filter_map(|id| by_id.get(&id).copied()) {
        first = first.and(delete(run, point, keep_last).await);
    }
    first
}

/// The points that others cover which are really there: one whose directory is gone, or lacks a disk, covers nothing,
/// whatever the catalogue says of it.
async fn covered(
    run: &GuestRun,
    mut infos: Vec<PointInfo<Uuid>>,
    by_id: &HashMap<Uuid, &GuestPoint>,
    keep_last: i32,
    now: DateTime<Utc>,
) -> Vec<Uuid> {
    let keep_last = u32::try_from(keep_last).unwrap_or(0);
    let mut seen: HashMap<Uuid, bool> = HashMap::new();
    loop {
        let going = retention::to_delete(&infos, keep_last, now);
        let needed = retention::covering(&infos, &going, now);
        let unseen = needed.iter().map(|info| info.id);
        let unseen: Vec<Uuid> = unseen.filter(|id| !seen.contains_key(id)).collect();
        if unseen.is_empty() {
            return going;
        }
        for id in unseen {
            let is_there = match by_id.get(&id) {
                Some(point) => is_there(run, point).await,
                None => false,
            };
            seen.insert(id, is_there);
        }
        for info in &mut infos {
            info.counts &= seen.get(&info.id).copied().unwrap_or(true);
        }
    }
}

/// Records what is wrong with a point as its damage, and tells it.
async fn damaged(run: &GuestRun, point: &GuestPoint, so: &str, damage: &str) {
    let pool = &run.context.pool;
    if let Err(error) =
        views::record_verification(pool, point.id, Verification::Damaged(damage)).await
    {
        tracing::warn!(%error, "damage of a restore point could not be recorded");
    }
    let message = format!(
        "guest {}: its restore point in {}/{} is not whole, so {so}: {damage}",
        run.guest.full_name(),
        point.repository,
        point.path
    );
    tell(run, message, point.id).await;
}

/// Whether a point's files are in its repository, by their names and sizes. What is missing is recorded as its damage.
async fn is_there(run: &GuestRun, point: &GuestPoint) -> bool {
    match missing(run, point).await {
        Ok(None) => true,
        Ok(Some(damage)) => {
            damaged(run, point, "it covers no older one", &damage).await;
            false
        }
        Err(error) => {
            tracing::info!(
                guest = run.guest.full_name(),
                path = point.path,
                %error,
                "a restore point cannot be looked at, so it covers no older one"
            );
            false
        }
    }
}

async fn missing(run: &GuestRun, point: &GuestPoint) -> Result<Option<String>, StepError> {
    let root = PathBuf::from(&point.repository);
    run.enter(&root).await?;
    let recorded = Recorded {
        point_id: point.id,
        source: Some(RecordedSource {
            host: point.host_name.clone(),
            guest: point.guest_name.clone(),
            taken_at: point.taken_at,
        }),
        manifest_blake3: point.manifest_blake3.clone(),
    };
    run.ask(&FileWork::FindMissing {
        root,
        path: PathBuf::from(&point.path),
        recorded,
    })
    .await
}

/// Says which points claim an instant that is still to come: the clock of the database was wrong, or is, or somebody
/// forged them.
async fn tell_of_the_future(run: &GuestRun, points: &[GuestPoint], now: DateTime<Utc>) {
    for point in points {
        if point.taken_at > now + CLOCK_TOLERANCE && point.state != "deleting" {
            let message = format!(
                "guest {}: its restore point in {}/{} is dated in the future ({}), and covers no other one: see \
                 whether the clock of the database's machine is right",
                run.guest.full_name(),
                point.repository,
                point.path,
                point.taken_at.format("%Y-%m-%d %H:%M UTC")
            );
            tell(run, message, point.id).await;
        }
    }
}

async fn tell(run: &GuestRun, message: String, point: Uuid) {
    tracing::warn!("{message}");
    let event =
        NewEvent::user(Severity::Warning, message).detail(serde_json::json!({ "point_id": point }));
    if let Err(error) = events::record(&*run.context.pool, &run.about(event)).await {
        tracing::warn!(%error, "an event about a restore point could not be recorded");
    }
}

async fn delete(run: &GuestRun, point: &GuestPoint, keep_last: i32) -> Result<(), StepError> {
    let pool = &run.context.pool;
    // A directory that is missing because the repository is not mounted is not deleted.
    let root = PathBuf::from(&point.repository);
    run.enter(&root).await?;
    let (path, id) = (PathBuf::from(&point.path), point.id);
    let holding = FileWork::CheckHolds {
        root: root.clone(),
        path: path.clone(),
        id,
    };
    match run.ask::<()>(&holding).await {
        Err(StepError::Repository(error)) if error.kind == RepositoryFailureKind::Occupied => {
            damaged(run, point, "it is not deleted", &error.to_string()).await;
            return Ok(());
        }
        held => held?,
    }
    // The order mark, directory, row lets a later deletion finish after a crash. The mark is refused if the covering point
    // is being deleted meanwhile, by an administrator for example.
    match points::begin_delete(pool, point.id, Cover::Newer(keep_last)).await? {
        Deletion::Begun | Deletion::UnderWay => {}
        Deletion::Gone | Deletion::Uncovered => return Ok(()),
    }
    let _was_there: bool = run.ask(&FileWork::Remove { root, path, id }).await?;
    points::finish_delete(pool, point.id).await?;
    tracing::info!(
        guest = run.guest.full_name(),
        path = point.path,
        "restore point deleted"
    );
    Ok(())
}
