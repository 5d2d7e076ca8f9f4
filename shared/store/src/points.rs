//! Restore points as the database knows them: entered when published, deleted after their directory.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::{PgExecutor, types::Json};
use uuid::Uuid;

use super::{events::NewEvent, guest_runs::GuestLease};
use virtuozo_postgres::StoreError;

/// A restore point to be entered.
#[derive(Debug, Clone)]
pub struct NewPoint<'a> {
    /// Its id, the one in its manifest.
    pub id: Uuid,
    /// The host's name at the time.
    pub host_name: &'a str,
    /// The guest's name at the time.
    pub guest_name: &'a str,
    /// The destination directory.
    pub repository: &'a str,
    /// Where it is below the destination.
    pub path: &'a str,
    /// `hot` or `cold`.
    pub mode: &'a str,
    /// The instant that its disks hold.
    pub taken_at: DateTime<Utc>,
    /// Stored bytes.
    pub size_bytes: u64,
    /// Sum of the disks' sizes, in bytes.
    pub source_bytes: u64,
    /// Snapshots of other people in it.
    pub foreign_snapshots: &'a [String],
    /// All its bytes were read back and found right.
    pub verified: bool,
    /// Where they were read from: `medium`, `server` or `cache`; none: they were not read back.
    pub read_back: Option<&'a str>,
    /// BLAKE3 of the text of its manifest, in hexadecimal digits.
    pub manifest_blake3: &'a str,
}

/// A restore point of a guest, as retention sees it.
#[derive(Debug, Clone, Deserialize)]
pub struct GuestPoint {
    /// Its id.
    pub id: Uuid,
    /// The host's name at the time.
    pub host_name: String,
    /// The guest's name at the time.
    pub guest_name: String,
    /// The destination directory.
    pub repository: String,
    /// Where it is below the destination.
    pub path: String,
    /// The instant that its disks hold.
    pub taken_at: DateTime<Utc>,
    /// Its place in the order in which points were entered.
    pub entry_number: i64,
    /// It may stand for older ones: it is good and verified, was made or adopted by this site, and is not of the future.
    pub counts: bool,
    /// This site made or adopted it; retention removes no other.
    pub ours: bool,
    /// `published`, `damaged` or `deleting`.
    pub state: String,
    /// BLAKE3 of the text of its manifest; none: not known.
    pub manifest_blake3: Option<String>,
}

/// What follows from a restore point that was made visible.
#[derive(Debug, Default)]
pub struct Published {
    /// The runs of the guests that were admitted to the slot.
    pub admitted: Vec<Uuid>,
    /// All restore points of the guest, the new one last.
    pub points: Vec<GuestPoint>,
    /// The database's clock.
    pub now: DateTime<Utc>,
}

/// The runs that were admitted, the guest's earlier points, and the database's clock.
type PublishedRow = (Vec<Uuid>, Json<Vec<GuestPoint>>, DateTime<Utc>);

/// Makes a restore point visible, in one statement: the point, its event, the last step, the end of the
/// guest run, the free slot and the next admission. What its obligations were has been met before. None if the
/// lease is lost.
pub async fn publish(
    db: impl PgExecutor<'_>,
    lease: &GuestLease,
    point: &NewPoint<'_>,
    event: &NewEvent,
) -> Result<Option<Published>, StoreError> {
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let row: Option<PublishedRow> = sqlx::query_as(include_str!("points/publish.sql"))
        .bind(lease.guest_run_id)
        .bind(lease.fence)
        .bind(point.id)
        .bind(point.host_name)
        .bind(point.guest_name)
        .bind(point.repository)
        .bind(point.path)
        .bind(point.mode)
        .bind(point.taken_at)
        .bind(bytes(point.size_bytes))
        .bind(bytes(point.source_bytes))
        .bind(point.foreign_snapshots)
        .bind(point.verified)
        .bind(event.code)
        .bind(event.severity)
        .bind(&event.message)
        .bind(&event.detail)
        .bind(point.read_back)
        .bind(point.manifest_blake3)
        .fetch_optional(db)
        .await?;
    Ok(row.map(|(admitted, Json(mut points), now)| {
        // The statement sees what was there before it.
        points.push(GuestPoint {
            id: point.id,
            host_name: point.host_name.to_owned(),
            guest_name: point.guest_name.to_owned(),
            repository: point.repository.to_owned(),
            path: point.path.to_owned(),
            taken_at: point.taken_at,
            entry_number: i64::MAX,
            counts: point.verified && point.taken_at <= now,
            ours: true,
            state: "published".to_owned(),
            manifest_blake3: Some(point.manifest_blake3.to_owned()),
        });
        Published {
            admitted,
            points,
            now,
        }
    }))
}

/// What a guest must keep for one of its restore points to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// So many newer ones that are good and verified.
    Newer(i32),
    /// Any other one that is good and verified.
    Other,
    /// Nothing.
    Nothing,
}

/// What became of the wish to delete a restore point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Deletion {
    /// It is marked now: its directory goes next.
    Begun,
    /// It was marked before: whoever asks may go on with it.
    UnderWay,
    /// It is there no more.
    Gone,
    /// It stays: its guest does not have what must cover it.
    Uncovered,
}

/// Marks a restore point as on its way out, before its directory is touched, if its guest has `cover` for it now;
/// what others have marked covers nothing.
pub async fn begin_delete(
    db: impl PgExecutor<'_>,
    id: Uuid,
    cover: Cover,
) -> Result<Deletion, StoreError> {
    let (others, by_newer) = match cover {
        Cover::Newer(points) => (points, true),
        Cover::Other => (1, false),
        Cover::Nothing => (0, false),
    };
    Ok(sqlx::query_scalar(include_str!("points/set_deleting.sql"))
        .bind(id)
        .bind(others)
        .bind(by_newer)
        .fetch_one(db)
        .await?)
}

/// Forgets a restore point that is marked, once its directory is gone.
pub async fn finish_delete(db: impl PgExecutor<'_>, id: Uuid) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM virtuozo_core.restore_points WHERE id = $1 AND state = 'deleting'")
        .bind(id)
        .execute(db)
        .await?;
    Ok(())
}
