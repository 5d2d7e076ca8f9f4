//! Events: what people are told.

pub mod follow;
pub mod forwarder;
#[cfg(test)]
mod tests;

use serde_json::Value;
use sqlx::PgExecutor;
use uuid::Uuid;

use virtuozo_model::{Event, Severity};
use virtuozo_postgres::StoreError;

/// The code of events for users: done, failed.
pub const USER: i32 = 200;
/// The code of events about threads and processes.
pub const THREADING: i32 = 100;
/// The code of events about the flow of code.
pub const FLOW: i32 = 50;

/// An event to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    pub(super) code: i32,
    pub(super) severity: Severity,
    pub(super) message: String,
    run_id: Option<Uuid>,
    host_id: Option<Uuid>,
    guest_id: Option<Uuid>,
    guest_run_id: Option<Uuid>,
    pub(super) detail: Option<Value>,
}

impl NewEvent {
    /// For users: something was done, or failed.
    pub fn user(severity: Severity, message: impl Into<String>) -> Self {
        Self::of(USER, severity, message.into())
    }

    /// About threads and processes.
    pub fn threading(message: impl Into<String>) -> Self {
        Self::of(THREADING, Severity::Info, message.into())
    }

    /// About the flow of code.
    pub fn flow(message: impl Into<String>) -> Self {
        Self::of(FLOW, Severity::Info, message.into())
    }

    fn of(code: i32, severity: Severity, message: String) -> Self {
        Self {
            code,
            severity,
            message,
            run_id: None,
            host_id: None,
            guest_id: None,
            guest_run_id: None,
            detail: None,
        }
    }

    /// How grave it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is told, as a sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// It is about this run.
    #[must_use]
    pub fn run(self, id: Uuid) -> Self {
        Self {
            run_id: Some(id),
            ..self
        }
    }

    /// It is about this host.
    #[must_use]
    pub fn host(self, id: Uuid) -> Self {
        Self {
            host_id: Some(id),
            ..self
        }
    }

    /// It is about this guest.
    #[must_use]
    pub fn guest(self, id: Uuid) -> Self {
        Self {
            guest_id: Some(id),
            ..self
        }
    }

    /// It is about this guest run.
    #[must_use]
    pub fn guest_run(self, id: Uuid) -> Self {
        Self {
            guest_run_id: Some(id),
            ..self
        }
    }

    /// More, for programs.
    #[must_use]
    pub fn detail(self, detail: Value) -> Self {
        Self {
            detail: Some(detail),
            ..self
        }
    }
}

/// Tells an event; in the transaction of what it tells about, so that neither is without the other.
pub async fn record(db: impl PgExecutor<'_>, event: &NewEvent) -> Result<(), StoreError> {
    sqlx::query(include_str!("events/insert.sql"))
        .bind(event.code)
        .bind(event.severity)
        .bind(&event.message)
        .bind(event.run_id)
        .bind(event.host_id)
        .bind(event.guest_id)
        .bind(event.guest_run_id)
        .bind(&event.detail)
        .execute(db)
        .await?;
    Ok(())
}

/// Which events.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// From this code on.
    pub min_code: i32,
    /// About this run.
    pub run_id: Option<Uuid>,
    /// About this host or a guest of it.
    pub host_id: Option<Uuid>,
    /// About this guest.
    pub guest_id: Option<Uuid>,
}

/// The latest events, oldest first.
pub async fn list(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<Event>, StoreError> {
    Ok(sqlx::query_as(include_str!("events/list.sql"))
        .bind(filter.min_code)
        .bind(filter.run_id)
        .bind(filter.host_id)
        .bind(filter.guest_id)
        .bind(limit)
        .fetch_all(db)
        .await?)
}
