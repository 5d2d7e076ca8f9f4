//! Measures the space of the repositories that this machine has mounted, for metrics, and records it for processes on
//! other machines.

use std::path::Path;

use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_postgres::{StoreError, count_error};
use virtuozo_repository::Repository;
use virtuozo_runtime::LIMITS;
use virtuozo_store::{caps, repositories, space};
use virtuozo_telemetry::{
    Telemetry,
    metrics::{Metrics, RepositorySpace},
};

/// Measures from time to time, until the future is dropped.
pub(crate) async fn watch(pool: PgPool, telemetry: Telemetry) {
    loop {
        if let Err(error) = look(&pool, &telemetry.metrics).await {
            count_error(&telemetry.health.availability, &error);
            tracing::debug!(%error, "space of repositories could not be read");
        }
        tokio::time::sleep(LIMITS.worker.space_every).await;
    }
}

async fn look(pool: &PgPool, metrics: &Metrics) -> Result<(), StoreError> {
    let known = caps::repositories(pool).await?;
    let mut places = Vec::new();
    for one in known {
        let id = repositories::known(pool, &one.path).await?.id;
        places.push((one.path, id));
    }
    let mut looking = tokio::task::spawn_blocking(move || {
        places
            .into_iter()
            .filter_map(|(path, id)| space_in(path, id))
            .collect::<Vec<_>>()
    });
    let seen = match tokio::time::timeout(LIMITS.worker.space, &mut looking).await {
        Ok(seen) => seen,
        Err(_) => {
            // The last value is outdated. The hung storage keeps this one thread, and no further one is started.
            metrics.set_repositories(Vec::new());
            looking.await
        }
    }
    .unwrap_or_default();
    for one in &seen {
        space::seen(pool, &one.repository, one.free_bytes).await?;
    }
    metrics.set_repositories(seen);
    Ok(())
}

/// `None` where the repository is not mounted on this machine, does not exist yet, or does not tell its space.
fn space_in(path: String, id: Option<Uuid>) -> Option<RepositorySpace> {
    let root = Path::new(&path);
    Repository::recognise(root, id, &[]).ok()?;
    let space = virtuozo_repository::space(root).ok()??;
    Some(RepositorySpace {
        repository: path,
        free_bytes: space.free_bytes,
        size_bytes: space.size_bytes,
    })
}
