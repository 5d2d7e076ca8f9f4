//! The catalogue of restore points, held against what lies in the repositories. Whoever sees their files says what was
//! found.

use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_store::{
    catalogue, guest_runs, guests,
    views::{self, PointLine, Verification},
};

pub use virtuozo_store::catalogue::{FoundPoint, MISSING};

use crate::error::ServiceError;

/// The guests that the site knows, as restore points name them.
#[derive(Debug, Clone)]
pub struct KnownGuests {
    /// Host, locator and UUID of each.
    guests: Vec<(String, String, Option<Uuid>)>,
}

impl KnownGuests {
    /// The guests that the site knows now.
    pub async fn load(pool: &PgPool) -> Result<Self, ServiceError> {
        let guests = guests::list(pool, None).await?.into_iter();
        let guests = guests.map(|guest| (guest.host_name, guest.locator, guest.uuid));
        Ok(Self {
            guests: guests.collect(),
        })
    }

    /// Whether a restore point is of one of them.
    pub fn have(&self, point: &FoundPoint<'_>) -> bool {
        self.guests.iter().any(|(host, locator, uuid)| {
            host == point.host_name
                && (locator == point.locator || (uuid.is_some() && *uuid == point.guest_uuid))
        })
    }
}

/// Enters a restore point that was found in a repository, as one that nobody has verified. `is_there` is asked once
/// more before that counts. False: retention has deleted it meanwhile, or a run is about to enter it.
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

/// Notes that a restore point lies where it was found, and no longer where `row` says. False: it is being deleted, or
/// somebody else has noted it.
pub async fn relocate(
    pool: &PgPool,
    point: &FoundPoint<'_>,
    row: &PointLine,
) -> Result<bool, ServiceError> {
    Ok(catalogue::relocate(pool, point, &row.repository, &row.path).await?)
}

/// Takes the mark [`MISSING`] from a restore point. False: it has none.
pub async fn found_again(pool: &PgPool, point: Uuid) -> Result<bool, ServiceError> {
    Ok(catalogue::found_again(pool, point).await?)
}

/// Takes a restore point that was found earlier for a backup of its guest, as the site's key has authenticated it. False:
/// it was made or adopted by this site before.
pub async fn adopt_authentic(pool: &PgPool, point: Uuid) -> Result<bool, ServiceError> {
    Ok(catalogue::adopt(pool, point).await?)
}

/// Gives a restore point that was found earlier its guest. False: the site knows no such guest.
pub async fn link(pool: &PgPool, point: &FoundPoint<'_>) -> Result<bool, ServiceError> {
    Ok(catalogue::link(pool, point).await?)
}

/// Marks a restore point as damaged whose directory is missing or differs from its record; a damage that was recorded
/// earlier stays.
pub async fn mark_damaged(
    pool: &PgPool,
    row: &PointLine,
    damage: &str,
) -> Result<(), ServiceError> {
    if row.state == "published" {
        views::record_verification(pool, row.id, Verification::Damaged(damage)).await?;
    }
    Ok(())
}

/// Whether a restore point is still in the catalogue and nobody deletes it. Retention marks a row, deletes the
/// directory, and then removes the row.
pub async fn stays(pool: &PgPool, row: &PointLine) -> Result<bool, ServiceError> {
    let now = views::points(pool, Some(&row.host_name), Some(&row.guest_name)).await?;
    Ok(now
        .iter()
        .any(|now| now.id == row.id && now.state != "deleting"))
}

/// The attempt of a guest run that has left an unfinished copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Its guest run goes on, and may go on with the copy.
    GoesOn,
    /// It is over.
    Over,
    /// The database does not know its guest run.
    Unknown,
}

/// Whether the attempt of a guest run with this fence goes on.
pub async fn attempt(pool: &PgPool, guest_run: Uuid, fence: i64) -> Result<Attempt, ServiceError> {
    let known = guest_runs::needed_from(pool, &[guest_run]).await?;
    Ok(match known.first() {
        None => Attempt::Unknown,
        Some(&(_, from)) if fence >= from => Attempt::GoesOn,
        Some(_) => Attempt::Over,
    })
}
