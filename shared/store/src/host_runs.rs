//! Host runs: taking and keeping the lease, and the transaction that turns one into guest runs.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use super::{
    admission,
    guest_runs::Ending,
    leases::{self, Fence, Released, TakenByKey, leased, putting_back, releasing, renewal},
    run_end, slots,
};
use virtuozo_model::ErrorClass;
use virtuozo_postgres::StoreError;
use virtuozo_queue::HostJob;
use virtuozo_telemetry::metrics::Metrics;

/// The right to act for a host run, as long as its fence is the run's.
#[derive(Debug, Clone, FromRow)]
pub struct HostLease {
    /// The host run.
    #[sqlx(rename = "id")]
    pub host_run_id: Uuid,
    /// The run it is part of.
    pub run_id: Uuid,
    /// The host.
    pub host_id: Uuid,
    /// Back up only these guests; none: all.
    pub guest_ids: Option<Vec<Uuid>>,
    /// Who has taken it.
    pub owner_id: Uuid,
    /// The number of this lease; grows with every taking.
    pub fence: i64,
    /// Attempts that have failed so far.
    pub attempts: i32,
    /// Somebody wants the run to end.
    pub cancel_requested: bool,
    /// How long the lease holds without renewal, in seconds.
    pub lease_secs: i32,
    /// The trace of its run.
    pub trace_id: Uuid,
    /// Guests that were looked at since then need no other look: this run did it, under an earlier lease, a short while ago.
    pub looks_count_since: DateTime<Utc>,
}

leased!(
    HostLease,
    Host,
    host_run_id,
    renewal!(
        "host_runs",
        "id",
        "(SELECT r.cancel_requested FROM virtuozo_core.runs r WHERE r.id = x.run_id)"
    ),
    cancel_requested
);

impl TakenByKey for HostLease {
    const TAKING: &'static str = include_str!("host_runs/take.sql");
    const PUTTING_BACK: &'static str = putting_back!("host_runs", "state = 'queued',");
}

impl Released for HostLease {
    const RELEASING: &'static str =
        releasing!("host_runs", "id", "state = 'queued', run_after = now(),");
}

/// A guest run to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGuestRun {
    /// The guest.
    pub guest_id: Uuid,
    /// What becomes of it.
    pub start: GuestRunStart,
}

/// How a guest run begins its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestRunStart {
    /// It waits for a slot.
    Waiting,
    /// It has failed at once: the guest cannot be backed up, for this reason.
    Failed(String, ErrorClass),
    /// It is left out on purpose, for this reason.
    Skipped(String),
}

/// The host of a host run that waits to be taken; none if there is nothing to take.
pub async fn host_of_queued(pool: &PgPool, host_run_id: Uuid) -> Result<Option<Uuid>, StoreError> {
    Ok(
        sqlx::query_scalar(include_str!("host_runs/host_of_queued.sql"))
            .bind(host_run_id)
            .fetch_optional(pool)
            .await?,
    )
}

/// Holds the host run's row until the transaction ends, if the lease is still ours.
pub async fn guard(tx: &mut PgConnection, lease: &HostLease) -> Result<Fence, StoreError> {
    let row: Option<Uuid> = sqlx::query_scalar(include_str!("host_runs/guard.sql"))
        .bind(lease.host_run_id)
        .bind(lease.fence)
        .fetch_optional(tx)
        .await?;
    Ok(Fence::of(row.is_some()))
}

/// Ends a host run with its guest runs, in the caller's transaction: as many as have slots are admitted.
pub async fn succeed(
    tx: &mut PgConnection,
    metrics: &Metrics,
    lease: &HostLease,
    guests: &[NewGuestRun],
) -> Result<Fence, StoreError> {
    if end_row(tx, lease, "succeeded", None).await? == Fence::Lost {
        return Ok(Fence::Lost);
    }
    let ids: Vec<Uuid> = guests.iter().map(|_| Uuid::now_v7()).collect();
    let guest_ids: Vec<Uuid> = guests.iter().map(|g| g.guest_id).collect();
    let mut states = Vec::with_capacity(guests.len());
    let mut errors: Vec<Option<&str>> = Vec::with_capacity(guests.len());
    let mut classes: Vec<Option<&str>> = Vec::with_capacity(guests.len());
    for guest in guests {
        let (state, error, class) = match &guest.start {
            GuestRunStart::Waiting => ("waiting", None, None),
            GuestRunStart::Failed(why, class) => {
                ("failed", Some(why.as_str()), Some(class.in_database()))
            }
            GuestRunStart::Skipped(why) => ("skipped", Some(why.as_str()), None),
        };
        states.push(state);
        errors.push(error);
        classes.push(class);
    }
    sqlx::query(include_str!("host_runs/guest_runs_insert.sql"))
        .bind(lease.run_id)
        .bind(lease.host_run_id)
        .bind(lease.host_id)
        .bind(ids)
        .bind(guest_ids)
        .bind(states)
        .bind(errors)
        .bind(classes)
        .execute(&mut *tx)
        .await?;
    // Guests that were never seen are on no known node, which may have no slots yet.
    slots::sync(&mut *tx, Some(lease.host_id)).await?;
    admission::admit(tx, lease.host_id).await?;
    run_end::end_and_count(tx, metrics, lease.run_id).await?;
    Ok(Fence::Held)
}

/// Ends an attempt that made no guest runs, in the caller's transaction. What is queued again for a time that is still
/// to come gets its job from the sweep.
pub async fn end(
    tx: &mut PgConnection,
    metrics: &Metrics,
    lease: &HostLease,
    ending: &Ending,
    error: Option<(&str, ErrorClass)>,
) -> Result<Fence, StoreError> {
    let text = error.map(|(text, _)| text);
    let class = error.map(|(_, class)| class.in_database());
    let statement = match ending {
        Ending::Failed | Ending::HostGivenUp => {
            return end_for_good(tx, metrics, lease, "failed", error).await;
        }
        Ending::Cancelled => return end_for_good(tx, metrics, lease, "cancelled", None).await,
        Ending::Retry { delay_secs, .. } => sqlx::query(include_str!("host_runs/retry.sql"))
            .bind(lease.host_run_id)
            .bind(lease.fence)
            .bind(delay_secs)
            .bind(text)
            .bind(class),
        Ending::WaitsForHost => sqlx::query(include_str!("host_runs/wait.sql"))
            .bind(lease.host_run_id)
            .bind(lease.fence)
            .bind(text)
            .bind(class),
        Ending::HandedOver { .. } => {
            let fence = leases::release(&mut *tx, lease).await?;
            if fence == Fence::Held {
                let host_run_id = lease.host_run_id;
                virtuozo_queue::push(tx, &[HostJob { host_run_id }], 0).await?;
            }
            return Ok(fence);
        }
    };
    let done = statement.execute(&mut *tx).await?;
    Ok(Fence::of(done.rows_affected() == 1))
}

async fn end_for_good(
    tx: &mut PgConnection,
    metrics: &Metrics,
    lease: &HostLease,
    state: &str,
    error: Option<(&str, ErrorClass)>,
) -> Result<Fence, StoreError> {
    let fence = end_row(tx, lease, state, error).await?;
    if fence == Fence::Held {
        run_end::end_and_count(tx, metrics, lease.run_id).await?;
    }
    Ok(fence)
}

async fn end_row(
    tx: &mut PgConnection,
    lease: &HostLease,
    state: &str,
    error: Option<(&str, ErrorClass)>,
) -> Result<Fence, StoreError> {
    let changed = sqlx::query(include_str!("host_runs/end.sql"))
        .bind(lease.host_run_id)
        .bind(lease.fence)
        .bind(state)
        .bind(error.map(|(text, _)| text))
        .bind(error.map(|(_, class)| class.in_database()))
        .execute(tx)
        .await?;
    Ok(Fence::of(changed.rows_affected() == 1))
}
