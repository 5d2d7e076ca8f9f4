//! The state of a site: its hosts with their guests and disks, its processes, and what is still to be undone.

use serde::Serialize;
use sqlx::PgPool;
use virtuozo_store::views;

pub use virtuozo_store::views::{DiskLine, GuestLine, HostLine, ObligationLine, ProcessLine};

use crate::{error::ServiceError, progress::StepProgress};

/// The state of a site.
#[derive(Debug, Serialize)]
pub struct SiteStatus {
    /// Its hosts.
    pub hosts: Vec<HostStatus>,
    /// Its schedulers and workers.
    pub processes: Vec<ProcessLine>,
    /// What still has to be undone on hosts.
    pub obligations: Vec<ObligationLine>,
}

/// A host and its guests.
#[derive(Debug, Serialize)]
pub struct HostStatus {
    /// The host.
    #[serde(flatten)]
    pub line: HostLine,
    /// Its guests.
    pub guests: Vec<GuestStatus>,
}

/// A guest, the progress of its current step, and its disks.
#[derive(Debug, Serialize)]
pub struct GuestStatus {
    /// The guest.
    #[serde(flatten)]
    pub line: GuestLine,
    /// The average rate of its current step, in bytes a second.
    pub bytes_per_sec: Option<u64>,
    /// Seconds that the step still takes at this rate.
    pub secs_left: Option<u64>,
    /// Its disks.
    pub disks: Vec<DiskLine>,
}

impl GuestStatus {
    fn new(line: GuestLine, disks: &mut Vec<DiskLine>) -> Self {
        let progress = StepProgress::of_guest(&line);
        Self {
            bytes_per_sec: progress.and_then(|progress| progress.bytes_per_sec),
            secs_left: progress.and_then(|progress| progress.secs_left()),
            disks: take(disks, |disk| disk.guest_id == line.id),
            line,
        }
    }
}

/// The state of a site now.
pub async fn get(pool: &PgPool) -> Result<SiteStatus, ServiceError> {
    let mut disks = views::all::<DiskLine>(pool).await?;
    let mut guests = views::all::<GuestLine>(pool).await?;
    let hosts = views::all::<HostLine>(pool).await?.into_iter();
    let hosts = hosts.map(|line| HostStatus {
        guests: take(&mut guests, |guest| guest.host_id == line.id)
            .into_iter()
            .map(|line| GuestStatus::new(line, &mut disks))
            .collect(),
        line,
    });
    Ok(SiteStatus {
        hosts: hosts.collect(),
        processes: processes(pool).await?,
        obligations: views::all(pool).await?,
    })
}

/// Schedulers and workers that live, and those that went away without a word and were not replaced.
pub async fn processes(pool: &PgPool) -> Result<Vec<ProcessLine>, ServiceError> {
    Ok(views::all(pool).await?)
}

/// Moves the items that `wanted` picks out of `from`, in order.
fn take<T>(from: &mut Vec<T>, wanted: impl Fn(&T) -> bool) -> Vec<T> {
    from.extract_if(.., |item| wanted(item)).collect()
}
