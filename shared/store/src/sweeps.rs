//! What the scheduler finds and mends: expired leases, lost jobs, ended runs, old rows.

use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::{
    admission,
    events::{self, NewEvent},
    leases::lost,
    run_end,
};
use virtuozo_model::{RequestState, Severity};
use virtuozo_postgres::StoreError;
use virtuozo_queue::{GuestJob, HostJob, Job, RequestJob};
use virtuozo_telemetry::metrics::Metrics;

pub(super) const GUEST_RUNS_EXPIRE: &str = concat!(
    lost!("guest_runs"),
    include_str!("sweeps/guest_runs_expire.sql")
);
pub(super) const HOST_RUNS_EXPIRE: &str = concat!(
    lost!("host_runs"),
    include_str!("sweeps/host_runs_expire.sql")
);
pub(super) const REQUESTS_EXPIRE: &str = concat!(
    lost!("requests"),
    include_str!("sweeps/requests_expire.sql")
);

/// A run that ended or was put back without its owner: the lease was not renewed, or the host stays silent.
#[derive(Debug, Clone, FromRow)]
pub struct Expired {
    /// The guest run or host run.
    pub id: Uuid,
    /// The run it is part of.
    pub run_id: Uuid,
    /// The host.
    pub host_id: Uuid,
    /// The guest; none for a host run.
    #[sqlx(default)]
    pub guest_id: Option<Uuid>,
    /// The name of the guest or host.
    pub name: String,
    /// Where it stands now: `admitted` or `queued` to be taken over, `failed` after too many crashes.
    pub state: String,
    /// What happened, as a sentence.
    pub error: String,
    /// The trace of the run.
    pub trace_id: Uuid,
}

impl Expired {
    pub(super) fn event(&self) -> NewEvent {
        let event = match (self.state.as_str(), self.guest_id) {
            ("failed", Some(_)) => NewEvent::user(
                Severity::Error,
                format!("guest {}: backup failed: {}", self.name, self.error),
            ),
            ("failed", None) => NewEvent::user(
                Severity::Error,
                format!("host {}: cannot be backed up: {}", self.name, self.error),
            ),
            (_, Some(_)) => NewEvent::threading(format!(
                "guest {}: {}; another worker takes over",
                self.name, self.error
            )),
            (_, None) => NewEvent::threading(format!(
                "host {}: {}; another worker takes over",
                self.name, self.error
            )),
        }
        .run(self.run_id)
        .host(self.host_id);
        match self.guest_id {
            Some(guest_id) => event.guest(guest_id).guest_run(self.id),
            None => event,
        }
    }
}

/// Lets other workers take over the guest runs whose leases have run out. One that has crashed too often
/// ends; its obligations are left to the undo jobs.
pub async fn expire_guest_runs(
    pool: &PgPool,
    metrics: &Metrics,
) -> Result<Vec<Expired>, StoreError> {
    let mut tx = pool.begin().await?;
    let expired: Vec<Expired> = sqlx::query_as(GUEST_RUNS_EXPIRE)
        .fetch_all(&mut *tx)
        .await?;
    let mut jobs = Vec::new();
    for one in &expired {
        if one.state == "admitted" {
            jobs.push(GuestJob {
                guest_run_id: one.id,
            });
        } else {
            admission::leave_slot(&mut tx, one.id, one.host_id).await?;
            run_end::end_and_count(&mut tx, metrics, one.run_id).await?;
        }
        events::record(&mut *tx, &one.event()).await?;
    }
    virtuozo_queue::push(&mut tx, &jobs, 0).await?;
    tx.commit().await?;
    Ok(expired)
}

/// Lets other workers take over the host runs whose leases have run out.
pub async fn expire_host_runs(
    pool: &PgPool,
    metrics: &Metrics,
) -> Result<Vec<Expired>, StoreError> {
    let mut tx = pool.begin().await?;
    let expired: Vec<Expired> = sqlx::query_as(HOST_RUNS_EXPIRE).fetch_all(&mut *tx).await?;
    let mut jobs = Vec::new();
    for one in &expired {
        if one.state == "queued" {
            jobs.push(HostJob {
                host_run_id: one.id,
            });
        } else {
            run_end::end_and_count(&mut tx, metrics, one.run_id).await?;
        }
        events::record(&mut *tx, &one.event()).await?;
    }
    virtuozo_queue::push(&mut tx, &jobs, 0).await?;
    tx.commit().await?;
    Ok(expired)
}

/// Lets other workers take over the requests whose leases have run out. Returns how many have.
pub async fn expire_requests(pool: &PgPool) -> Result<usize, StoreError> {
    let mut tx = pool.begin().await?;
    let expired: Vec<(Uuid, RequestState)> =
        sqlx::query_as(REQUESTS_EXPIRE).fetch_all(&mut *tx).await?;
    let again = expired
        .iter()
        .filter(|(_, state)| *state == RequestState::Waiting);
    let jobs: Vec<RequestJob> = again
        .map(|(id, _)| RequestJob { request_id: *id })
        .collect();
    virtuozo_queue::push(&mut tx, &jobs, 0).await?;
    tx.commit().await?;
    Ok(expired.len())
}

/// Ends the requests whose answer nobody waits for any more. Returns how many.
pub async fn drop_requests(pool: &PgPool) -> Result<u64, StoreError> {
    let dropped = sqlx::query(include_str!("sweeps/requests_unwanted.sql"))
        .execute(pool)
        .await?;
    Ok(dropped.rows_affected())
}

/// Pushes the jobs of due host runs, admitted guest runs and requests again where none is on its way. Returns how
/// many.
pub async fn push_lost_jobs(pool: &PgPool) -> Result<usize, StoreError> {
    let mut tx = pool.begin().await?;
    let hosts: Vec<HostJob> = sqlx::query_scalar(include_str!("sweeps/host_runs_lost.sql"))
        .bind(HostJob::QUEUE)
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .map(|host_run_id| HostJob { host_run_id })
        .collect();
    let guests: Vec<GuestJob> = sqlx::query_scalar(include_str!("sweeps/guest_runs_lost.sql"))
        .bind(GuestJob::QUEUE)
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .map(|guest_run_id| GuestJob { guest_run_id })
        .collect();
    virtuozo_queue::push(&mut tx, &hosts, 0).await?;
    let requests: Vec<RequestJob> = sqlx::query_scalar(include_str!("sweeps/requests_lost.sql"))
        .bind(RequestJob::QUEUE)
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .map(|request_id| RequestJob { request_id })
        .collect();
    virtuozo_queue::push(&mut tx, &guests, 0).await?;
    virtuozo_queue::push(&mut tx, &requests, 0).await?;
    tx.commit().await?;
    Ok(hosts.len() + guests.len() + requests.len())
}

/// Takes the jobs out of the queues that would find nothing to do, all at once. Returns how many.
pub async fn drop_jobs(pool: &PgPool) -> Result<u64, StoreError> {
    let dropped = sqlx::query(include_str!("sweeps/jobs_drop.sql"))
        .execute(pool)
        .await?;
    Ok(dropped.rows_affected())
}

/// Admits what was missed, because its time had not come when the last slot was freed. Returns how many.
pub async fn admit_all(pool: &PgPool) -> Result<usize, StoreError> {
    let mut admitted = 0;
    for host_id in admission::hosts_to_admit(pool).await? {
        let mut tx = pool.begin().await?;
        admission::alone(&mut tx).await?;
        admitted += admission::admit(&mut tx, host_id).await?.len();
        tx.commit().await?;
    }
    Ok(admitted)
}

/// Ends runs in which nothing is open. Returns how many.
pub async fn end_runs(pool: &PgPool, metrics: &Metrics) -> Result<usize, StoreError> {
    let ids: Vec<Uuid> = sqlx::query_scalar(include_str!("sweeps/runs_to_end.sql"))
        .fetch_all(pool)
        .await?;
    let mut ended = 0;
    for run_id in ids {
        let mut tx = pool.begin().await?;
        ended += usize::from(run_end::end_and_count(&mut tx, metrics, run_id).await?);
        tx.commit().await?;
    }
    Ok(ended)
}

/// Events and jobs that one transaction deletes at most.
const ROWS_AT_ONCE: i64 = 5000;
/// Guest runs that one transaction deletes, as far as whole runs permit.
const GUEST_RUNS_AT_ONCE: i64 = 1000;

/// Deletes what is too old or too much of the history, of events, and of the rows that finished jobs and
/// ended processes leave behind; a part at a time. True if there is more to do.
pub async fn prune(pool: &PgPool) -> Result<bool, StoreError> {
    for statement in [
        include_str!("sweeps/prune_workers.sql"),
        include_str!("sweeps/prune_job_workers.sql"),
    ] {
        sqlx::query(statement).execute(pool).await?;
    }
    let rows = u64::try_from(ROWS_AT_ONCE).unwrap_or_default();
    let mut more = false;
    for statement in [
        include_str!("sweeps/prune_events.sql"),
        include_str!("sweeps/prune_jobs.sql"),
        include_str!("sweeps/prune_notices.sql"),
        include_str!("sweeps/prune_requests.sql"),
    ] {
        let done = sqlx::query(statement)
            .bind(ROWS_AT_ONCE)
            .execute(pool)
            .await?;
        more |= done.rows_affected() >= rows;
    }
    // Alone, so that no operator puts a guest run back meanwhile.
    let mut tx = pool.begin().await?;
    sqlx::query("SELECT virtuozo_core.one_operator_at_a_time()")
        .execute(&mut *tx)
        .await?;
    let runs = sqlx::query(include_str!("sweeps/prune_runs.sql"))
        .bind(GUEST_RUNS_AT_ONCE)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(more || runs.rows_affected() > 0)
}

#[cfg(test)]
mod tests;
