//! Guest runs: taking and keeping the lease, and everything that ends or hands one over.

use sqlx::{FromRow, PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use super::{
    admission,
    inventory::GuestObservation,
    leases::{Fence, TakenByKey, leased, putting_back, renewal},
    run_end,
};
use virtuozo_model::{ErrorClass, Guest, Settings};
use virtuozo_postgres::StoreError;
use virtuozo_queue::GuestJob;
use virtuozo_telemetry::metrics::Metrics;

/// The right to act for a guest run, as long as its fence is the run's.
#[derive(Debug, Clone, FromRow)]
pub struct GuestLease {
    /// The guest run.
    #[sqlx(rename = "id")]
    pub guest_run_id: Uuid,
    /// The run it is part of.
    pub run_id: Uuid,
    /// The host of the guest.
    pub host_id: Uuid,
    /// The guest.
    pub guest_id: Uuid,
    /// Who has taken it.
    pub owner_id: Uuid,
    /// The number of this lease; grows with every taking.
    pub fence: i64,
    /// The fence under which the present attempt began. Smaller than `fence`: an earlier owner died, and
    /// its done steps count.
    pub attempt_fence: i64,
    /// Attempts that have failed so far.
    pub attempts: i32,
    /// Somebody wants the run to end.
    pub cancel_requested: bool,
    /// How long the lease holds without renewal, in seconds.
    pub lease_secs: i32,
    /// The trace of its run.
    pub trace_id: Uuid,
    /// The fence before the first one of its span in that trace.
    pub trace_fence: i64,
}

leased!(
    GuestLease,
    Guest,
    guest_run_id,
    renewal!(
        "guest_runs",
        "id",
        "x.cancel_requested OR (SELECT r.cancel_requested FROM virtuozo_core.runs r WHERE r.id = x.run_id)"
    ),
    cancel_requested
);

/// An attempt that begins with the taking of a lease begins with its first step.
impl TakenByKey for GuestLease {
    const TAKING: &'static str = include_str!("guest_runs/take.sql");
    const PUTTING_BACK: &'static str =
        putting_back!("guest_runs", "state = 'admitted', admitted_at = now(),");
}

/// How an attempt that was not published ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// Waits for another attempt.
    Retry {
        /// How long, in seconds.
        delay_secs: f64,
        /// The next attempt goes on after the steps that are done, instead of beginning afresh.
        keep_steps: bool,
    },
    /// Waits until its host answers. Counts as no attempt, and goes on after the steps that are done.
    WaitsForHost,
    /// Has failed for good.
    Failed,
    /// Has failed with its host, which does not answer. Counts as no attempt.
    HostGivenUp,
    /// Was cancelled.
    Cancelled,
    /// Goes to another worker at once, because this one stops, or cannot do it. Counts as no attempt.
    HandedOver {
        /// As for [`Ending::Retry`].
        keep_steps: bool,
    },
}

/// What a worker has to know before it begins a guest run.
#[derive(Debug, FromRow)]
pub struct Assignment {
    /// The guest's configuration.
    #[sqlx(flatten)]
    pub guest: Guest,
    /// The site's settings.
    #[sqlx(json)]
    pub settings: Settings,
    /// Devices that are left out of its backups.
    pub ignored_disks: Vec<String>,
    /// Something may have to be undone on the guest first.
    pub has_obligations: bool,
}

/// What is to be known of a guest run that waits to be taken; none if there is nothing to take.
pub async fn assignment(
    db: impl PgExecutor<'_>,
    guest_run_id: Uuid,
) -> Result<Option<Assignment>, StoreError> {
    Ok(sqlx::query_as(include_str!("guest_runs/assignment.sql"))
        .bind(guest_run_id)
        .fetch_optional(db)
        .await?)
}

/// Begins the attempt afresh: what earlier owners did counts no more.
pub async fn restart(pool: &PgPool, lease: &GuestLease) -> Result<Fence, StoreError> {
    let row: Option<Uuid> = sqlx::query_scalar(include_str!("guest_runs/restart.sql"))
        .bind(lease.guest_run_id)
        .bind(lease.fence)
        .fetch_optional(pool)
        .await?;
    Ok(Fence::of(row.is_some()))
}

/// How far the copy of one disk, or of one other large file, has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceProgress {
    /// The device, or the file's name.
    pub device: String,
    /// Bytes to be copied.
    pub bytes_total: u64,
    /// Bytes copied.
    pub bytes_copied: u64,
}

impl DeviceProgress {
    /// Names, totals and copied bytes.
    pub(super) fn columns(devices: &[Self]) -> (Vec<&str>, Vec<i64>, Vec<i64>) {
        let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        (
            devices.iter().map(|d| d.device.as_str()).collect(),
            devices.iter().map(|d| bytes(d.bytes_total)).collect(),
            devices.iter().map(|d| bytes(d.bytes_copied)).collect(),
        )
    }
}

/// Records how far the copy has come, for those who watch.
pub async fn progress(
    db: impl PgExecutor<'_>,
    lease: &GuestLease,
    devices: &[DeviceProgress],
) -> Result<Fence, StoreError> {
    let (names, totals, copied) = DeviceProgress::columns(devices);
    let row: Option<Uuid> = sqlx::query_scalar(include_str!("guest_runs/progress.sql"))
        .bind(lease.guest_run_id)
        .bind(lease.fence)
        .bind(names)
        .bind(totals)
        .bind(copied)
        .fetch_optional(db)
        .await?;
    Ok(Fence::of(row.is_some()))
}

/// Forgets the progress of an earlier attempt.
pub async fn clear_progress(pool: &PgPool, lease: &GuestLease) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM virtuozo_core.disk_progress WHERE guest_run_id = $1")
        .bind(lease.guest_run_id)
        .execute(pool)
        .await?;
    Ok(())
}

/// Ends an attempt that was not published, in the caller's transaction: the slot is free, the host's
/// next guest runs are admitted, and the run ends with its last guest run.
pub async fn end(
    tx: &mut PgConnection,
    metrics: &Metrics,
    lease: &GuestLease,
    ending: &Ending,
    error: Option<(&str, ErrorClass)>,
) -> Result<Fence, StoreError> {
    let text = error.map(|(text, _)| text);
    let class = error.map(|(_, class)| class.in_database());
    let changed = match ending {
        Ending::Retry {
            delay_secs,
            keep_steps,
        } => {
            sqlx::query(include_str!("guest_runs/retry.sql"))
                .bind(lease.guest_run_id)
                .bind(lease.fence)
                .bind(delay_secs)
                .bind(text)
                .bind(class)
                .bind(keep_steps)
                .execute(&mut *tx)
                .await?
        }
        Ending::WaitsForHost => {
            sqlx::query(include_str!("guest_runs/wait.sql"))
                .bind(lease.guest_run_id)
                .bind(lease.fence)
                .bind(text)
                .bind(class)
                .execute(&mut *tx)
                .await?
        }
        Ending::Failed | Ending::HostGivenUp | Ending::Cancelled => {
            let state = if *ending == Ending::Cancelled {
                "cancelled"
            } else {
                "failed"
            };
            sqlx::query(include_str!("guest_runs/end.sql"))
                .bind(lease.guest_run_id)
                .bind(lease.fence)
                .bind(state)
                .bind(text)
                .bind(class)
                .bind(*ending == Ending::Failed)
                .execute(&mut *tx)
                .await?
        }
        Ending::HandedOver { keep_steps } => {
            let changed = sqlx::query(include_str!("guest_runs/release.sql"))
                .bind(lease.guest_run_id)
                .bind(lease.fence)
                .bind(keep_steps)
                .execute(&mut *tx)
                .await?;
            if changed.rows_affected() == 1 {
                let job = GuestJob {
                    guest_run_id: lease.guest_run_id,
                };
                virtuozo_queue::push(tx, &[job], 0).await?;
            }
            return Ok(Fence::of(changed.rows_affected() == 1));
        }
    };
    if changed.rows_affected() == 0 {
        return Ok(Fence::Lost);
    }
    leave_slot(tx, metrics, lease).await?;
    Ok(Fence::Held)
}

/// Ends the run after its last guest run, which `lease` was for. Where nobody does, the sweep will.
pub async fn end_run(
    pool: &PgPool,
    metrics: &Metrics,
    lease: &GuestLease,
) -> Result<(), StoreError> {
    let mut tx = pool.begin().await?;
    end_run_if_last(&mut tx, metrics, lease).await?;
    tx.commit().await?;
    Ok(())
}

async fn leave_slot(
    tx: &mut PgConnection,
    metrics: &Metrics,
    lease: &GuestLease,
) -> Result<(), StoreError> {
    let admitted = admission::leave_slot(tx, lease.guest_run_id, lease.host_id).await?;
    if !admitted.contains(&lease.run_id) {
        end_run_if_last(tx, metrics, lease).await?;
    }
    Ok(())
}

/// Ends the run after its last guest run. The run's row is shared by all hosts, so it is left alone until the
/// run is over on this one.
async fn end_run_if_last(
    tx: &mut PgConnection,
    metrics: &Metrics,
    lease: &GuestLease,
) -> Result<(), StoreError> {
    if !run_end::is_open_on(tx, lease.run_id, lease.host_id).await? {
        run_end::end_and_count(tx, metrics, lease.run_id).await?;
    }
    Ok(())
}

/// From which fence on the copies of these guest runs may still be needed. Guest runs that are not known
/// are left out.
pub async fn needed_from(
    pool: &PgPool,
    guest_runs: &[Uuid],
) -> Result<Vec<(Uuid, i64)>, StoreError> {
    Ok(sqlx::query_as(include_str!("guest_runs/needed_from.sql"))
        .bind(guest_runs)
        .fetch_all(pool)
        .await?)
}

/// The guest, as `HOST/NAME`, that one of these guest runs backs up right now, and which of them; `guest_id` is
/// not meant.
pub async fn at_work_elsewhere(
    pool: &PgPool,
    guest_runs: &[Uuid],
    guest_id: Uuid,
) -> Result<Option<(Uuid, String)>, StoreError> {
    Ok(sqlx::query_as(include_str!("guest_runs/elsewhere.sql"))
        .bind(guest_runs)
        .bind(guest_id)
        .fetch_optional(pool)
        .await?)
}

/// Records what a guest run has seen of its guest; nothing, if its lease is another's by now.
pub async fn saw(
    pool: &PgPool,
    lease: &GuestLease,
    seen: &GuestObservation,
) -> Result<(), StoreError> {
    let seeing = sqlx::query_as(include_str!("guest_runs/saw.sql"))
        .bind(lease.guest_run_id)
        .bind(lease.fence);
    let _: Option<((),)> = seen.bind(seeing).fetch_optional(pool).await?;
    Ok(())
}
