//! Measures the space of the repositories that this machine has mounted, for metrics, and records it for processes on
//! other machines.

use std::{path::PathBuf, time::Duration};

use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_child_process::FileProcesses;
use virtuozo_postgres::{StoreError, count_error};
use virtuozo_repository::Space;
use virtuozo_runtime::LIMITS;
use virtuozo_store::{caps, repositories, space};
use virtuozo_telemetry::{
    Telemetry,
    metrics::{Metrics, RepositorySpace},
};

use crate::{file_work::FileWork, files};

/// Measures from time to time, until the future is dropped.
pub(crate) async fn watch(pool: PgPool, telemetry: Telemetry, files: FileProcesses) {
    loop {
        if let Err(error) = look(&pool, &telemetry.metrics, &files).await {
            count_error(&telemetry.health.availability, &error);
            tracing::debug!(%error, "space of repositories could not be read");
        }
        tokio::time::sleep(LIMITS.worker.space_every).await;
    }
}

async fn look(pool: &PgPool, metrics: &Metrics, files: &FileProcesses) -> Result<(), StoreError> {
    let known = caps::repositories(pool).await?;
    let mut places = Vec::new();
    for one in known {
        let id = repositories::known(pool, &one.path).await?.id;
        places.push((one.path, id));
    }
    let files = files.clone();
    let mut looking = tokio::spawn(async move {
        let mut seen = Vec::new();
        for (path, id) in places {
            seen.extend(space_in(&files, path, id).await);
        }
        seen
    });
    let seen = match tokio::time::timeout(LIMITS.worker.space, &mut looking).await {
        Ok(seen) => seen,
        Err(_) => {
            // The last value is outdated. The hung storage keeps this one process, and no further one is started.
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
async fn space_in(
    files: &FileProcesses,
    path: String,
    id: Option<Uuid>,
) -> Option<RepositorySpace> {
    let root = PathBuf::from(&path);
    let work = FileWork::MeasureSpace { root, id };
    let space: Option<Space> = files::ask(files, &work, Duration::MAX).await.ok()?;
    let space = space?;
    Some(RepositorySpace {
        repository: path,
        free_bytes: space.free_bytes,
        size_bytes: space.size_bytes,
    })
}
