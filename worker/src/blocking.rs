//! Blocking work on a thread of its own.

use crate::error::StepError;

/// Runs blocking work on a thread of its own, within the current span.
///
/// # Errors
/// The work's own; or the thread panicked.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, StepError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, StepError> + Send + 'static,
{
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
        .await
        .map_err(|e| StepError::retry(format!("a thread of the worker died: {e}")))?
}
