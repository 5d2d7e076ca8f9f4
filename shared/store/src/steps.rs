//! The steps of a guest run: durable, each with the output that the next ones need.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{
    guest_runs::{DeviceProgress, GuestLease},
    inventory::GuestObservation,
    leases::Fence,
    obligations::Obligation,
};
use virtuozo_model::StepName;
use virtuozo_postgres::StoreError;

/// Records that a step begins, and the mode once it is decided; [`Fence::Lost`] if the lease is no longer
/// ours.
pub async fn begin(
    db: impl PgExecutor<'_>,
    lease: &GuestLease,
    step: StepName,
    mode: Option<&str>,
) -> Result<Fence, StoreError> {
    let row: Option<(String,)> = sqlx::query_as(include_str!("steps/begin.sql"))
        .bind(lease.guest_run_id)
        .bind(lease.fence)
        .bind(step.as_str())
        .bind(mode)
        .fetch_optional(db)
        .await?;
    Ok(Fence::of(row.is_some()))
}

/// A step that follows at once on one that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextStep {
    /// The step.
    pub step: StepName,
    /// `hot` or `cold`, as `validate` has decided.
    pub mode: &'static str,
}

/// What a step leaves behind when it is done.
#[derive(Debug, Default)]
pub struct DoneStep {
    /// What later steps need.
    pub output: Value,
    /// How far the copy is.
    pub progress: Vec<DeviceProgress>,
    /// Obligations that were seen to be met; they are deleted, unless a newer run has taken them over.
    pub met: Vec<Obligation>,
}

/// Records what a step leaves behind, and that the next one begins; [`Fence::Lost`] if the lease is no longer
/// ours.
pub async fn done(
    db: impl PgExecutor<'_>,
    lease: &GuestLease,
    step: StepName,
    done: &DoneStep,
    next: Option<NextStep>,
) -> Result<Fence, StoreError> {
    let (devices, totals, copied) = DeviceProgress::columns(&done.progress);
    let (met, fences): (Vec<Uuid>, Vec<i64>) = done.met.iter().map(|o| (o.id, o.fence)).unzip();
    let held: bool = sqlx::query_scalar(
        "SELECT virtuozo_core.step_done($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(lease.guest_run_id)
    .bind(lease.fence)
    .bind(step.as_str())
    .bind(&done.output)
    .bind(next.map(|n| n.step.as_str()))
    .bind(next.map(|n| n.mode))
    .bind(devices)
    .bind(totals)
    .bind(copied)
    .bind(met)
    .bind(fences)
    .fetch_one(db)
    .await?;
    Ok(Fence::of(held))
}

/// Records the output of `validate` and what it has seen of the guest, and that the next step begins; if that
/// takes a snapshot, also that the snapshot has to be removed. Returns the time, by the database's clock; none if
/// the lease is no longer ours.
pub async fn validated(
    db: impl PgExecutor<'_>,
    lease: &GuestLease,
    output: &Value,
    next: Option<NextStep>,
    obligation: Option<&Obligation>,
    seen: &GuestObservation,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let recording = sqlx::query_as(include_str!("steps/validated.sql"))
        .bind(lease.guest_run_id)
        .bind(lease.fence)
        .bind(output)
        .bind(next.map(|n| n.step.as_str()))
        .bind(next.map(|n| n.mode))
        .bind(obligation.map(|o| o.id))
        .bind(obligation.and_then(Obligation::snapshot_name))
        .bind(lease.guest_id);
    let recorded: Option<(Option<DateTime<Utc>>, ())> =
        seen.bind(recording).fetch_optional(db).await?;
    Ok(recorded.and_then(|(at, ())| at))
}

/// Why a step failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepFailure<'a> {
    /// As a sentence for the administrator.
    pub message: &'a str,
    /// The kind of error, for programs.
    pub error_type: &'a str,
    /// The hypervisor's own code, where it gave one.
    pub code: Option<u64>,
}

/// Records a step's failure in the caller's transaction, which must have checked the fence.
pub async fn failed(
    tx: &mut PgConnection,
    lease: &GuestLease,
    step: StepName,
    failure: StepFailure<'_>,
) -> Result<(), StoreError> {
    sqlx::query(include_str!("steps/failed.sql"))
        .bind(lease.guest_run_id)
        .bind(lease.fence)
        .bind(step.as_str())
        .bind(failure.message)
        .bind(failure.error_type)
        .bind(failure.code.and_then(|code| i64::try_from(code).ok()))
        .execute(tx)
        .await?;
    Ok(())
}

/// Records how far the verification of a copy has come, for those who watch.
pub async fn verifying(
    db: impl PgExecutor<'_>,
    lease: &GuestLease,
    bytes_read: u64,
    bytes_total: u64,
) -> Result<Fence, StoreError> {
    let count = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let row: Option<Uuid> = sqlx::query_scalar(include_str!("steps/verifying.sql"))
        .bind(lease.guest_run_id)
        .bind(lease.fence)
        .bind(count(bytes_read))
        .bind(count(bytes_total))
        .fetch_optional(db)
        .await?;
    Ok(Fence::of(row.is_some()))
}

/// How many copies of this guest run did not read back as they were written, since it began or an operator put it
/// back to work.
pub async fn bad_copies(
    db: impl PgExecutor<'_>,
    lease: &GuestLease,
    error_type: &str,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(include_str!("steps/bad_copies.sql"))
        .bind(lease.guest_run_id)
        .bind(lease.trace_fence)
        .bind(error_type)
        .fetch_one(db)
        .await?)
}

/// The outputs of the steps that are done in the present attempt, by the step's name.
pub async fn done_in_attempt(
    db: impl PgExecutor<'_>,
    lease: &GuestLease,
) -> Result<HashMap<String, Value>, StoreError> {
    let rows: Vec<(String, Option<Value>)> = sqlx::query_as(include_str!("steps/of_attempt.sql"))
        .bind(lease.guest_run_id)
        .bind(lease.attempt_fence)
        .fetch_all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(name, output)| (name, output.unwrap_or(Value::Null)))
        .collect())
}
