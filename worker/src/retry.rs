//! Retries: of statements while the database is unreachable, and the delay before another attempt of a run.

use std::{future::Future, time::Duration};

use virtuozo_postgres::{StoreError, ask};
use virtuozo_runtime::Availability;

/// The first pause between two attempts; doubled up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(3);
/// The longest delay before another attempt of a run, in seconds.
const MAX_DELAY_SECS: f64 = 3600.0;
/// A statement that takes longer waits on a dead connection.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(20);

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
    let mut pause = MIN_PAUSE;
    loop {
        match ask(availability, what, ATTEMPT_LIMIT, operation()).await {
            Err(error) if error.is_conflict() => {
                tracing::debug!(what, %error, "transaction conflict, trying again");
            }
            Err(error) if error.is_unavailable() => {}
            answer => return answer,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// The delay before the next attempt, in seconds: doubled with each failed one, and randomised so that runs that failed
/// together do not retry together.
pub(crate) fn delay_secs(first_secs: i32, failed_before: i32) -> f64 {
    let doubled = f64::from(first_secs.max(0)) * 2_f64.powi(failed_before.clamp(0, 20));
    doubled.min(MAX_DELAY_SECS) * rand::random_range(0.8..1.2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_pause_grows_with_failures_and_has_a_limit(first in 0..86_400_i32, failed in -1..1000_i32) {
            let delay = delay_secs(first, failed);
            prop_assert!((0.0..=MAX_DELAY_SECS * 1.2).contains(&delay));
            if first > 0 && first < 100 && failed == 2 {
                prop_assert!(delay >= f64::from(first) * 4.0 * 0.8);
            }
        }
    }
}
