//! Runs: one backup operation each, started by a schedule or by hand.

use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_store::{
    operators,
    runs::{self, NewRun},
    views,
};

pub use virtuozo_store::views::{GuestRunLine, HookRunLine, HostRunLine, RunLine, StepLine};

use crate::{
    error::{ServiceError, refused},
    names::{self, Targets},
};

/// A run with all its details.
#[derive(Debug, Serialize)]
pub struct RunDetails {
    /// The run.
    #[serde(flatten)]
    pub run: RunLine,
    /// Its hosts.
    pub host_runs: Vec<HostRunLine>,
    /// Its guests.
    pub guest_runs: Vec<GuestRunLine>,
    /// The steps of its guests.
    pub steps: Vec<StepLine>,
    /// Its hooks.
    pub hook_runs: Vec<HookRunLine>,
    /// Workers that were heard of lately.
    pub workers: usize,
}

impl RunDetails {
    /// Why nothing goes on at all, if that is so.
    pub fn stands_still(&self) -> Option<&'static str> {
        (self.run.state == "running" && self.workers == 0)
            .then_some("no worker is running: start `virtuozo up` or `virtuozo worker`")
    }
}

/// Starts a run by hand. Returns its id.
///
/// # Errors
/// [`virtuozo_postgres::StoreError::NotFound`] for an unknown host or guest.
pub async fn start(
    pool: &PgPool,
    requested_by: String,
    targets: &Targets,
) -> Result<Uuid, ServiceError> {
    let (hosts, guests) = targets.ids(pool).await?;
    let new = NewRun {
        tick: None,
        requested_by,
        targets: runs::Targets { hosts, guests },
    };
    Ok(runs::start_run(pool, &new).await?)
}

/// The latest runs.
pub async fn list(pool: &PgPool, limit: u32) -> Result<Vec<RunLine>, ServiceError> {
    Ok(views::runs(pool, limit).await?)
}

/// A run with all its details.
///
/// # Errors
/// [`ServiceError::Refused`] if it is gone.
pub async fn show(pool: &PgPool, id: Uuid) -> Result<RunDetails, ServiceError> {
    let run = views::run(pool, id).await?;
    let processes = views::all::<views::ProcessLine>(pool).await?;
    let workers = processes
        .iter()
        .filter(|process| process.kind == "worker" && process.is_alive);
    Ok(RunDetails {
        run: run.ok_or_else(|| refused(format!("the run {id} is gone")))?,
        host_runs: views::of_run(pool, id).await?,
        guest_runs: views::of_run(pool, id).await?,
        steps: views::of_run(pool, id).await?,
        hook_runs: views::of_run(pool, id).await?,
        workers: workers.count(),
    })
}

/// Stops a run: what waits is dropped, what runs is undone. Returns its id.
///
/// # Errors
/// [`ServiceError::Refused`] if there is no such run, or it is over.
pub async fn cancel(pool: &PgPool, run: &str) -> Result<Uuid, ServiceError> {
    let id = names::run(pool, run).await?;
    runs::cancel(pool, id).await?;
    Ok(id)
}

/// Tries everything in a run that failed once more, in the same run. Returns what was done, as a sentence.
///
/// # Errors
/// [`ServiceError::Refused`] if there is no such run, or nothing in it has failed.
pub async fn retry(pool: &PgPool, run: &str) -> Result<String, ServiceError> {
    let id = names::run(pool, run).await?;
    Ok(operators::retry_failed(pool, id).await?)
}
