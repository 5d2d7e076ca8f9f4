//! What became of runs, for the trace exporter: rows that have ended and whose spans were not sent yet.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use virtuozo_postgres::StoreError;

/// Runs that are older are exported no more: tracing was off, or its receiver away, for too long.
const EXPORT_WINDOW_SECS: f64 = 86_400.0;

/// A run that has ended.
#[derive(Debug, Clone, FromRow)]
pub struct TracedRun {
    /// The run.
    pub id: Uuid,
    /// Its trace.
    pub trace_id: Uuid,
    /// The trace it had before an operator reopened it.
    pub trace_before: Option<Uuid>,
    /// Who wanted it.
    pub requested_by: String,
    /// When it was due; none for one started by hand.
    pub due_at: Option<DateTime<Utc>>,
    /// How it ended.
    pub state: String,
    /// What failed, as numbers.
    pub error: Option<String>,
    /// When it began, or was reopened.
    pub began_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// Guests in it.
    pub guests: i64,
    /// Something in it went wrong, even if it was mended.
    pub troubled: bool,
}

/// A host run of a run that has ended.
#[derive(Debug, Clone, FromRow)]
pub struct TracedHost {
    /// The host run.
    pub id: Uuid,
    /// The host's name.
    pub host: String,
    /// How it ended.
    pub state: String,
    /// Attempts that failed.
    pub attempts: i32,
    /// Workers that died with it.
    pub crashes: i32,
    /// How often it was taken.
    pub fence: i64,
    /// Why it did not succeed, or why an earlier attempt did not.
    pub error: Option<String>,
    /// What could be done about that.
    pub error_class: Option<String>,
    /// When it began to wait for a worker.
    pub began_at: DateTime<Utc>,
    /// When a worker took it first.
    pub started_at: Option<DateTime<Utc>>,
    /// When the host was validated, or was given up.
    pub inspected_at: Option<DateTime<Utc>>,
    /// When the last of its guests ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// A guest run that has ended.
#[derive(Debug, Clone, FromRow)]
pub struct TracedGuest {
    /// The guest run.
    pub id: Uuid,
    /// The run it is part of.
    pub run_id: Uuid,
    /// The trace of that.
    pub trace_id: Uuid,
    /// Its host run.
    pub host_run_id: Uuid,
    /// The host's name.
    pub host: String,
    /// The guest's name.
    pub guest: String,
    /// How it ended.
    pub state: String,
    /// `hot` or `cold`, once that was decided.
    pub mode: Option<String>,
    /// Attempts that failed.
    pub attempts: i32,
    /// Workers that died with it.
    pub crashes: i32,
    /// The last fence.
    pub fence: i64,
    /// The fence before the first one of this span.
    pub trace_fence: i64,
    /// Why it did not succeed, or why an earlier attempt did not.
    pub error: Option<String>,
    /// What could be done about that.
    pub error_class: Option<String>,
    /// Bytes copied.
    pub bytes_copied: i64,
    /// When it began to wait for a slot.
    pub began_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
}

/// A step of a guest run that has ended.
#[derive(Debug, Clone, FromRow)]
pub struct TracedStep {
    /// The guest run.
    pub guest_run_id: Uuid,
    /// The lease under which it was done.
    pub fence: i64,
    /// Its name.
    pub name: String,
    /// `done`, `failed`, or `running` where its worker died.
    pub state: String,
    /// What it left for the next ones.
    pub output: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
    /// The kind of that error.
    pub error_type: Option<String>,
    /// The hypervisor's own code.
    pub error_code: Option<i64>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended; none where its worker died.
    pub ended_at: Option<DateTime<Utc>>,
    /// The name of its worker.
    pub worker: Option<String>,
}

/// Guest runs that have ended and whose spans were not sent, at most `limit`, of open runs too.
pub async fn guests_to_export(pool: &PgPool, limit: i64) -> Result<Vec<TracedGuest>, StoreError> {
    Ok(sqlx::query_as(include_str!("traces/guests.sql"))
        .bind(limit)
        .bind(EXPORT_WINDOW_SECS)
        .fetch_all(pool)
        .await?)
}

/// The steps of guest runs, one guest run after the other, in the order in which they began.
pub async fn steps_of(pool: &PgPool, guest_runs: &[Uuid]) -> Result<Vec<TracedStep>, StoreError> {
    Ok(sqlx::query_as(include_str!("traces/steps.sql"))
        .bind(guest_runs)
        .fetch_all(pool)
        .await?)
}

/// Notes that the spans of guest runs were sent. One that an operator has put back since gets another span when it ends.
pub async fn mark_guests_exported(pool: &PgPool, guests: &[TracedGuest]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = guests.iter().map(|g| g.id).collect();
    let fences: Vec<i64> = guests.iter().map(|g| g.fence).collect();
    sqlx::query(include_str!("traces/guests_sent.sql"))
        .bind(ids)
        .bind(fences)
        .execute(pool)
        .await?;
    Ok(())
}

/// Runs that have ended and whose span was not sent although those of all their guest runs were, at most `limit`.
pub async fn runs_to_export(pool: &PgPool, limit: i64) -> Result<Vec<TracedRun>, StoreError> {
    Ok(sqlx::query_as(include_str!("traces/runs.sql"))
        .bind(limit)
        .bind(EXPORT_WINDOW_SECS)
        .fetch_all(pool)
        .await?)
}

/// The host runs of a run.
pub async fn hosts_of(pool: &PgPool, run_id: Uuid) -> Result<Vec<TracedHost>, StoreError> {
    Ok(sqlx::query_as(include_str!("traces/hosts.sql"))
        .bind(run_id)
        .fetch_all(pool)
        .await?)
}

/// Notes that the span of a run was sent, unless it was reopened since.
pub async fn mark_run_exported(pool: &PgPool, run: &TracedRun) -> Result<(), StoreError> {
    sqlx::query(include_str!("traces/run_sent.sql"))
        .bind(run.id)
        .bind(run.trace_id)
        .execute(pool)
        .await?;
    Ok(())
}
