//! Runs: starts a run with its host runs, and cancels it.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{
    events::{self, NewEvent},
    hooks, notices, operators,
    run_end::{end_if_done, fail},
    sweeps,
};
use virtuozo_model::{NoticeKind, Severity};
use virtuozo_postgres::StoreError;
use virtuozo_queue::HostJob;

/// What to back up. Nothing named: the whole site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// Whole hosts.
    pub hosts: Vec<Uuid>,
    /// Single guests.
    pub guests: Vec<Uuid>,
}

/// A run to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// The schedule and the due time that it is for; none for one started by hand.
    pub tick: Option<(Uuid, DateTime<Utc>)>,
    /// Who wants it: `schedule NAME`, `user NAME`, `demo`.
    pub requested_by: String,
    /// What to back up.
    pub targets: Targets,
}

/// Starts a run in a transaction of its own: the run, one host run for each host, and their jobs.
pub async fn start_run(pool: &PgPool, new: &NewRun) -> Result<Uuid, StoreError> {
    let mut tx = pool.begin().await?;
    let id = start_run_in(&mut tx, new).await?;
    tx.commit().await?;
    Ok(id)
}

/// Like [`start_run`], in the caller's transaction. A run that finds no host to back up fails at once,
/// with the reason.
pub async fn start_run_in(tx: &mut PgConnection, new: &NewRun) -> Result<Uuid, StoreError> {
    let id = Uuid::now_v7();
    sqlx::query(include_str!("runs/insert.sql"))
        .bind(id)
        .bind(new.tick.map(|(schedule_id, _)| schedule_id))
        .bind(new.tick.map(|(_, due_at)| due_at))
        .bind(&new.requested_by)
        .execute(&mut *tx)
        .await?;
    let host_runs: Vec<Uuid> = sqlx::query_scalar(include_str!("runs/insert_hosts.sql"))
        .bind(id)
        .bind(&new.targets.hosts)
        .bind(&new.targets.guests)
        .fetch_all(&mut *tx)
        .await?;
    sqlx::query(include_str!("runs/circuit_breakers_reset.sql"))
        .bind(id)
        .execute(&mut *tx)
        .await?;
    let event = if host_runs.is_empty() {
        let why = "there is nothing to back up: no host is configured for this, or all are ignored";
        fail(&mut *tx, id, why).await?;
        notices::of_run(&mut *tx, id, NoticeKind::Failure).await?;
        let message = format!("the run for {} failed: {why}", new.requested_by);
        NewEvent::user(Severity::Error, message)
    } else {
        NewEvent::flow(format!(
            "a run of {} hosts begins for {}",
            host_runs.len(),
            new.requested_by
        ))
    };
    events::record(&mut *tx, &event.run(id)).await?;
    // The hosts of a run that is held are begun when the command before it has ended.
    if host_runs.is_empty() || hooks::hold_run(&mut *tx, id).await? {
        return Ok(id);
    }
    let jobs: Vec<HostJob> = host_runs
        .iter()
        .map(|&host_run_id| HostJob { host_run_id })
        .collect();
    virtuozo_queue::push(tx, &jobs, 0).await?;
    Ok(id)
}

/// Starts the run of a schedule's due time, unless it was started already; then none. Two schedulers at
/// the same time make one run.
pub async fn start_tick(
    pool: &PgPool,
    schedule_id: Uuid,
    due_at: DateTime<Utc>,
    requested_by: &str,
    targets: Targets,
) -> Result<Option<Uuid>, StoreError> {
    let mut tx = pool.begin().await?;
    let moved: Option<Uuid> = sqlx::query_scalar(include_str!("runs/schedule_done_until.sql"))
        .bind(schedule_id)
        .bind(due_at)
        .fetch_optional(&mut *tx)
        .await?;
    if moved.is_none() {
        return Ok(None);
    }
    let new = NewRun {
        tick: Some((schedule_id, due_at)),
        requested_by: requested_by.to_owned(),
        targets,
    };
    let run_id = start_run_in(&mut tx, &new).await?;
    let ticked: Option<Uuid> = sqlx::query_scalar(include_str!("runs/tick_insert.sql"))
        .bind(schedule_id)
        .bind(due_at)
        .bind(run_id)
        .fetch_optional(&mut *tx)
        .await?;
    if ticked.is_none() {
        return Ok(None);
    }
    tx.commit().await?;
    Ok(Some(run_id))
}

/// Cancels a run: what has not begun ends at once, what is in work is stopped and undone by its workers
/// within about a lease's quarter.
///
/// # Errors
/// [`StoreError::Refused`] if there is no such run or it has ended, or what the database says.
pub async fn cancel(pool: &PgPool, run_id: Uuid) -> Result<(), StoreError> {
    let mut tx = pool.begin().await?;
    let cancel = sqlx::query_scalar("SELECT virtuozo.cancel($1)");
    operators::call(&mut tx, cancel.bind(run_id)).await?;
    end_if_done(&mut tx, run_id).await?;
    tx.commit().await?;
    // The slots that came free are given away at once, also where no scheduler runs.
    sweeps::admit_all(pool).await?;
    Ok(())
}

/// The database's clock: the one that times of different processes are compared by.
pub async fn database_now(pool: &PgPool) -> Result<DateTime<Utc>, StoreError> {
    Ok(sqlx::query_scalar("SELECT now()").fetch_one(pool).await?)
}
