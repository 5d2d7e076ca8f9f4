//! Retries: of statements while the database is unreachable, and the delay before another attempt of a run.

use std::{future::Future, time::Duration};

use virtuozo_postgres::{StoreError, ask};
use virtuozo_runtime::{Availability, Backoff, BackoffPolicy, LIMITS};

/// The part of a delay that is left to chance: runs that failed together do not retry together.
const JITTER: f64 = 0.2;

/// Repeats an operation on the database while that is unreachable. The operation has to be fenced or idempotent: an
/// attempt without an answer may have taken effect.
pub(crate) async fn while_unavailable<T, F, Fut>(
    availability: &Availability,
    what: &str,
    mut operation: F,
) -> Result<T, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    let mut backoff = Backoff::new(LIMITS.worker.statements);
    loop {
        match ask(availability, what, LIMITS.database.statement, operation()).await {
            Err(error) if error.is_conflict() => {
                tracing::debug!(what, %error, "transaction conflict, trying again");
            }
            Err(error) if error.is_unavailable() => {}
            answer => return answer,
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// The delay before the next attempt of a run, in seconds: doubled with each one that failed before.
pub(crate) fn delay_secs(first_secs: i32, failed_before: i32) -> f64 {
    let first = Duration::from_secs(u64::try_from(first_secs).unwrap_or_default());
    let failures = u32::try_from(failed_before).unwrap_or_default() + 1;
    BackoffPolicy::doubling(first, LIMITS.worker.run_delay)
        .with_jitter(JITTER)
        .delay(failures)
        .as_secs_f64()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_pause_grows_with_failures_and_has_a_limit(first in 0..86_400_i32, failed in -1..1000_i32) {
            let delay = delay_secs(first, failed);
            prop_assert!((0.0..=LIMITS.worker.run_delay.as_secs_f64() * 1.2).contains(&delay));
            if first > 0 && first < 100 && failed == 2 {
                prop_assert!(delay >= f64::from(first) * 4.0 * 0.8);
            }
        }
    }
}
