//! Waiting for a database that is away, so that nobody loses work because of it.

use std::{future::Future, time::Duration};

use shared::StoreError;

/// The first pause between two attempts; doubled up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// Does something with the database, again and again while it does not answer. What is repeated has to
/// be fenced or idempotent: nobody knows whether the attempt before was carried out.
pub(crate) async fn patiently<T, F, Fut>(what: &str, mut operation: F) -> Result<T, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    let mut pause = MIN_PAUSE;
    let mut waits = false;
    loop {
        match operation().await {
            Ok(value) => {
                if waits {
                    tracing::info!(what, "the database answers again");
                }
                return Ok(value);
            }
            Err(error) if error.is_unavailable() || is_conflict(&error) => {
                if !waits {
                    tracing::warn!(what, %error, "waiting for the database");
                    waits = true;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Two transactions stood in each other's way and this one was rolled back (PostgreSQL, appendix "Error
/// Codes": serialization failure, deadlock).
fn is_conflict(error: &StoreError) -> bool {
    matches!(error, StoreError::Query(sqlx::Error::Database(e))
        if e.code().is_some_and(|code| code == "40001" || code == "40P01"))
}
