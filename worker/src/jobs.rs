//! One file for each kind of job: how its lease is taken and what is done under it.

pub(crate) mod guest;
pub(crate) mod host;
pub(crate) mod undo;

use std::{future::Future, sync::Arc, time::Duration};

use uuid::Uuid;
use virtuozo_model::Settings;
use virtuozo_postgres::StoreError;

use crate::{connections::Seat, context::Context, fitness, patience::patiently};

/// After how long another worker is offered a job that this one has no room for, in seconds.
pub(crate) const HAND_BACK_SECS: u32 = 1;
/// How long one attempt to take a lease may take: not longer than the shortest useful lease holds.
const BEGIN_LIMIT: Duration = Duration::from_secs(8);
/// The longest pause between two attempts, in seconds.
const MAX_DELAY_SECS: f64 = 3600.0;

/// A seat at the host's connection; none if this worker is full, stops, or leaves the host to others.
async fn seat(
    context: &Context,
    host_id: Uuid,
    settings: &Settings,
) -> Result<Option<Seat>, StoreError> {
    if context.drain.is_cancelled() || fitness::leaves_to_others(context, host_id).await? {
        return Ok(None);
    }
    let max_hosts = usize::try_from(settings.host_threads).unwrap_or(1);
    Ok(context.connections.reserve(host_id, max_hosts))
}

/// Does the beginning of a job outside of its delivery, which the queue drops when the database is away;
/// `begin` learns whether an earlier attempt got no answer.
/// What is lost nevertheless, with this process, the scheduler delivers again.
fn outside<F, Fut>(context: &Arc<Context>, what: &'static str, begin: F)
where
    F: Fn(Arc<Context>, bool) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), StoreError>> + Send,
{
    let of_work = Arc::clone(context);
    context.work.spawn(async move {
        let mut again = false;
        let beginning = || {
            let begun = begin(Arc::clone(&of_work), std::mem::replace(&mut again, true));
            async {
                let begun = tokio::time::timeout(BEGIN_LIMIT, begun).await;
                begun.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))
            }
        };
        if let Err(error) = patiently(what, beginning).await {
            tracing::warn!(%error, "{what} was refused");
        }
    });
}

/// The pause before the next attempt, after so many failed ones: twice as long each time, and never the
/// same for all who failed together.
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
