//! Monitoring is told how much room there is in the repositories that this worker can see.

use std::{path::Path, time::Duration};

use shared::{
    store::caps,
    telemetry::metrics::{self, Space},
};
use sqlx::PgPool;

/// How old what is told may be.
const EVERY: Duration = Duration::from_secs(60);

/// Looks now and then, if somebody reads it; to be dropped when the worker ends.
pub(crate) async fn watch(pool: PgPool) {
    if !metrics::are_read() {
        return;
    }
    loop {
        match caps::repositories(&pool).await {
            Ok(known) => {
                // A storage that hangs takes this thread, and none further: the next look waits for it.
                let seen = tokio::task::spawn_blocking(move || {
                    known
                        .into_iter()
                        .filter_map(|one| look(one.path))
                        .collect::<Vec<_>>()
                });
                metrics::set_repositories(seen.await.unwrap_or_default());
            }
            Err(error) => tracing::debug!(%error, "the repositories are not known"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// None where this worker cannot see it: it is there for other workers, or not made yet.
fn look(path: String) -> Option<Space> {
    let space = repository::space(Path::new(&path)).ok()?;
    Some(Space {
        repository: path,
        free_bytes: space.free_bytes,
        size_bytes: space.size_bytes,
    })
}
