//! Waiting for a database that is away, so that nobody loses work because of it.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use virtuozo_postgres::StoreError;
use virtuozo_runtime::outage;

/// The first pause between two attempts; doubled up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(3);
/// An attempt that takes longer waits on a connection that is dead.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(20);

/// Does something with the database, again and again while it does not answer. What is repeated has to
/// be fenced or idempotent: nobody knows whether the attempt before was carried out.
pub(crate) async fn patiently<T, F, Fut>(what: &str, mut operation: F) -> Result<T, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    let mut pause = MIN_PAUSE;
    loop {
        let asked_at = Instant::now();
        match tokio::time::timeout(ATTEMPT_LIMIT, operation()).await {
            Ok(Ok(value)) => {
                outage::answered(asked_at);
                return Ok(value);
            }
            Ok(Err(error)) if error.is_conflict() => {
                tracing::debug!(what, %error, "another transaction came first, trying again");
            }
            Ok(Err(error)) if error.is_unavailable() => outage::silent(what, asked_at, &error),
            Ok(Err(error)) => return Err(error),
            Err(_) => outage::silent(what, asked_at, &"it is silent"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
