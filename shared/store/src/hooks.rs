//! Hooks: what administrators say about them, and the rows of those that are to be run.

use sqlx::{FromRow, PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use super::{
    events::{self, NewEvent},
    guest_runs::GuestLease,
    leases::{Fence, Released, leased, releasing, renewal},
    notices, run_end,
};
use virtuozo_model::{Hook, HookLine, HookMoment, NoticeKind, OnFailure};
use virtuozo_postgres::StoreError;
use virtuozo_queue::HostJob;
use virtuozo_telemetry::metrics::Metrics;

/// The longest that a hook may take, in seconds.
pub const LIMIT_SECS_MAX: i32 = 86400;

/// All hooks, those of the site first.
pub async fn list(db: impl PgExecutor<'_>) -> Result<Vec<HookLine>, StoreError> {
    Ok(sqlx::query_as(include_str!("hooks/list.sql"))
        .fetch_all(db)
        .await?)
}

/// Sets the hook of a guest, or of the site, in the place of one for the same moment.
///
/// # Errors
/// [`StoreError::Refused`] if it cannot be run as it is.
pub async fn set(
    db: impl PgExecutor<'_>,
    guest_id: Option<Uuid>,
    hook: &Hook,
) -> Result<(), StoreError> {
    check(hook).map_err(StoreError::Refused)?;
    sqlx::query(include_str!("hooks/set.sql"))
        .bind(guest_id)
        .bind(hook.moment)
        .bind(&hook.command)
        .bind(hook.limit_secs)
        .bind(hook.on_failure)
        .execute(db)
        .await?;
    Ok(())
}

fn check(hook: &Hook) -> Result<(), String> {
    let program = hook.command.first().map_or("", String::as_str);
    if program.is_empty() {
        return Err("a hook needs a program to run".to_owned());
    }
    if program.contains('/') && !program.starts_with('/') {
        return Err(format!(
            "{program:?} is neither an absolute path nor the name of a program in PATH: hooks are run in \
             the directory / of the machine of a worker or scheduler"
        ));
    }
    if hook.command.iter().any(|word| word.contains('\0')) {
        return Err("a command cannot hold a NUL character".to_owned());
    }
    if !(1..=LIMIT_SECS_MAX).contains(&hook.limit_secs) {
        return Err(format!(
            "a hook may take from 1 to {LIMIT_SECS_MAX} seconds, not {}",
            hook.limit_secs
        ));
    }
    Ok(())
}

/// Takes a hook away. False: there was none.
pub async fn clear(
    db: impl PgExecutor<'_>,
    guest_id: Option<Uuid>,
    moment: HookMoment,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "DELETE FROM virtuozo_core.hooks WHERE guest_id IS NOT DISTINCT FROM $1 AND moment = $2",
    )
    .bind(guest_id)
    .bind(moment)
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Holds a run that begins until the command before it has ended, if there is one. True: it is held.
pub(super) async fn hold_run(tx: &mut PgConnection, run_id: Uuid) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar("SELECT virtuozo_core.hold_run($1)")
        .bind(run_id)
        .fetch_one(tx)
        .await?)
}

/// Whatever becomes of this guest run: a command is to be run when it has ended.
pub async fn expect_after(pool: &PgPool, lease: &GuestLease) -> Result<Fence, StoreError> {
    let row: Option<Uuid> = sqlx::query_scalar(include_str!("hooks/expect_after.sql"))
        .bind(lease.guest_run_id)
        .bind(lease.fence)
        .fetch_optional(pool)
        .await?;
    Ok(Fence::of(row.is_some()))
}

/// The name of the schedule that a run is for; none: it was started by hand.
pub async fn schedule_of(pool: &PgPool, run_id: Uuid) -> Result<Option<String>, StoreError> {
    Ok(sqlx::query_scalar(include_str!("hooks/run_schedule.sql"))
        .bind(run_id)
        .fetch_optional(pool)
        .await?)
}

/// HookScope hooks a process runs: schedulers those of the site, workers those after the backup of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookScope {
    /// Before and after a run.
    Site,
    /// After a guest run.
    Guests,
}

/// A hook that is to be run now, and by nobody else as long as the lease holds.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct HookLease {
    /// The row of the hook run.
    pub id: Uuid,
    /// The run.
    pub run_id: Uuid,
    /// The guest run; none for a hook of the site.
    pub guest_run_id: Option<Uuid>,
    /// How what it comes after has ended.
    pub outcome: Option<String>,
    /// What to run.
    #[sqlx(flatten)]
    pub hook: Hook,
    /// Who has taken it.
    pub owner_id: Uuid,
    /// The number of this lease: how many times it was begun.
    pub fence: i64,
    /// How long the lease holds without renewal, in seconds.
    pub lease_secs: i32,
    /// It was lost with its process too often to be run again.
    pub is_given_up: bool,
}

leased!(HookLease, Hook, id, renewal!("hook_runs", "id", "false"));

impl Released for HookLease {
    const RELEASING: &'static str =
        releasing!("hook_runs", "id", "state = 'waiting', ran_by = NULL,");
}

/// What a hook is told of what it is run for.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct HookContext {
    /// Who wanted the run.
    pub requested_by: String,
    /// The schedule; none for a run by hand.
    pub schedule: Option<String>,
    /// The trace of the run.
    pub trace_id: Uuid,
    /// Of a guest's hook: the name of the host. So are the next six fields.
    pub host: Option<String>,
    /// The name of the guest.
    pub guest: Option<String>,
    /// The path of its `.vmx`.
    pub locator: Option<String>,
    /// The host.
    pub host_id: Option<Uuid>,
    /// The guest.
    pub guest_id: Option<Uuid>,
    /// `hot` or `cold`, if that was decided.
    pub mode: Option<String>,
    /// The directory of its new restore point.
    pub point: Option<String>,
    /// The fence before the first one of its span in the trace.
    pub trace_fence: i64,
    /// Why the run or guest run failed.
    pub error: Option<String>,
    /// Guests in the run.
    pub guests: i64,
    /// Guests with a new restore point.
    pub succeeded: i64,
    /// Guests that failed.
    pub failed: i64,
    /// Hosts that failed.
    pub hosts_failed: i64,
    /// The names of guests that failed, `HOST/GUEST`.
    pub failed_guests: Vec<String>,
}

/// Takes the oldest hook that is to be run. None: there is none.
pub async fn take(
    pool: &PgPool,
    whose: HookScope,
    owner_id: Uuid,
) -> Result<Option<HookLease>, StoreError> {
    Ok(sqlx::query_as(include_str!("hooks/run_take.sql"))
        .bind(whose == HookScope::Guests)
        .bind(owner_id)
        .fetch_optional(pool)
        .await?)
}

/// What the hook is told.
pub async fn facts(pool: &PgPool, taken: &HookLease) -> Result<HookContext, StoreError> {
    Ok(sqlx::query_as(include_str!("hooks/run_facts.sql"))
        .bind(taken.id)
        .fetch_one(pool)
        .await?)
}

/// Records how a hook ended, with the event that tells people. After the command before a run its hosts
/// begin, or the run fails.
pub async fn end(
    pool: &PgPool,
    metrics: &Metrics,
    taken: &HookLease,
    exit_code: Option<i32>,
    error: Option<&str>,
    event: &NewEvent,
) -> Result<Fence, StoreError> {
    let mut tx = pool.begin().await?;
    let is_before = taken.hook.moment == HookMoment::Before;
    let refusal = error.filter(|_| is_before && taken.hook.on_failure == OnFailure::Fail);
    // Locks in the order of all others: host runs, the run, and what hangs on it.
    let mut jobs: Vec<HostJob> = Vec::new();
    if let Some(why) = refusal {
        sqlx::query(include_str!("hooks/host_runs_refuse.sql"))
            .bind(taken.run_id)
            .bind(why)
            .execute(&mut *tx)
            .await?;
    } else if is_before {
        let ids: Vec<Uuid> = sqlx::query_scalar(include_str!("hooks/host_runs_let_go.sql"))
            .bind(taken.run_id)
            .fetch_all(&mut *tx)
            .await?;
        jobs = ids
            .into_iter()
            .map(|host_run_id| HostJob { host_run_id })
            .collect();
    }
    if is_before {
        sqlx::query(include_str!("run_end/lock.sql"))
            .bind(taken.run_id)
            .execute(&mut *tx)
            .await?;
    }
    let row: Option<Uuid> = sqlx::query_scalar(include_str!("hooks/run_end.sql"))
        .bind(taken.id)
        .bind(taken.fence)
        .bind(exit_code)
        .bind(error)
        .fetch_optional(&mut *tx)
        .await?;
    if row.is_none() {
        return Ok(Fence::Lost);
    }
    if let Some(why) = refusal {
        let failed = run_end::fail(&mut tx, taken.run_id, why).await?;
        if failed {
            metrics.run_ended("failed");
            notices::of_run(&mut tx, taken.run_id, NoticeKind::Failure).await?;
        }
    }
    events::record(&mut *tx, event).await?;
    virtuozo_queue::push(&mut tx, &jobs, 0).await?;
    tx.commit().await?;
    Ok(Fence::Held)
}

#[cfg(test)]
mod tests;
