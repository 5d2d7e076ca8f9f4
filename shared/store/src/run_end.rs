//! The end of a run: when nothing in it is open any more, or because it cannot begin.

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;
use virtuozo_model::{NoticeKind, Severity};
use virtuozo_postgres::StoreError;
use virtuozo_telemetry::metrics::Metrics;

use super::{
    events::{self, NewEvent},
    notices,
};

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct EndedRun {
    /// `succeeded`, `failed` or `cancelled`.
    pub(crate) state: String,
    /// What failed, with numbers.
    pub(crate) error: Option<String>,
    /// Guests in the run.
    pub(crate) guests: i64,
    /// Guests with a new restore point.
    pub(crate) succeeded: i64,
}

/// As [`end_if_done`], and counts the run in the metrics of this process. Returns whether it ended.
pub(super) async fn end_and_count(
    tx: &mut PgConnection,
    metrics: &Metrics,
    run_id: Uuid,
) -> Result<bool, StoreError> {
    let ended = end_if_done(tx, run_id).await?;
    if let Some(run) = &ended {
        metrics.run_ended(&run.state);
    }
    Ok(ended.is_some())
}

/// Ends a run if nothing in it is open any more, with an event and a notice. `None` if something is open, or it has ended
/// before.
pub(super) async fn end_if_done(
    tx: &mut PgConnection,
    run_id: Uuid,
) -> Result<Option<EndedRun>, StoreError> {
    // The lock is a statement of its own, so that the next one sees what another transaction has committed meanwhile.
    sqlx::query(include_str!("run_end/lock.sql"))
        .bind(run_id)
        .execute(&mut *tx)
        .await?;
    let ended: Option<EndedRun> = sqlx::query_as(include_str!("run_end/end.sql"))
        .bind(run_id)
        .fetch_optional(&mut *tx)
        .await?;
    if let Some(run) = &ended {
        let severity = match run.state.as_str() {
            "succeeded" => Severity::Info,
            "cancelled" => Severity::Warning,
            _ => Severity::Error,
        };
        let message = format!(
            "the run {}: {} of {} guests have a new restore point{}",
            run.state,
            run.succeeded,
            run.guests,
            run.error
                .as_ref()
                .map_or(String::new(), |error| format!("; {error}"))
        );
        events::record(&mut *tx, &NewEvent::user(severity, message).run(run_id)).await?;
        let kind = match run.state.as_str() {
            "succeeded" => Some(NoticeKind::Success),
            "failed" => Some(NoticeKind::Failure),
            _ => None,
        };
        if let Some(kind) = kind {
            notices::of_run(tx, run_id, kind).await?;
        }
    }
    Ok(ended)
}

/// Whether anything of a run is open on a host. The caller holds the host's lock, so that of two transactions that end
/// something the second finds nothing open.
pub(super) async fn is_open_on(
    tx: &mut PgConnection,
    run_id: Uuid,
    host_id: Uuid,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar(include_str!("run_end/open_on_host.sql"))
        .bind(run_id)
        .bind(host_id)
        .fetch_one(tx)
        .await?)
}

/// Ends a run that cannot begin, as failed. Returns whether it was running.
pub(super) async fn fail(
    tx: &mut PgConnection,
    run_id: Uuid,
    why: &str,
) -> Result<bool, StoreError> {
    let done = sqlx::query(include_str!("run_end/fail.sql"))
        .bind(run_id)
        .bind(why)
        .execute(tx)
        .await?;
    Ok(done.rows_affected() > 0)
}
