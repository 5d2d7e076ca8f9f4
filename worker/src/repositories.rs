//! The repositories that this worker changes: each is held against what the site knows of it before, so that
//! nothing is written to, or judged by, the empty directory under a mount point.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use uuid::Uuid;
use virtuozo_postgres::Pool;
use virtuozo_repository::{Repository, RepositoryError};
use virtuozo_runtime::Availability;
use virtuozo_store::repositories;

use crate::{blocking::blocking, error::StepError, retry::while_unavailable};

/// The repositories that this process has seen, with their ids. The database is asked only about others, and where
/// an id is not as it was.
#[derive(Debug)]
pub(crate) struct Repositories {
    availability: Availability,
    seen: Mutex<HashMap<PathBuf, Uuid>>,
}

impl Repositories {
    /// None seen so far.
    pub(crate) fn new(availability: Availability) -> Self {
        Self {
            availability,
            seen: Mutex::default(),
        }
    }

    /// Opens a repository before it is changed. At the site's first use of it the directory is made and marked.
    ///
    /// # Errors
    /// What lies there is not what the site has written to; nothing was changed.
    pub(crate) async fn open(&self, pool: &Pool, root: &Path) -> Result<Repository, StepError> {
        let seen = self.seen().get(root).copied();
        if let Some(id) = seen
            && let Ok((repository, _)) = enter(root, Some(id), Vec::new()).await
        {
            return Ok(repository);
        }
        let path = root.to_string_lossy();
        let known = while_unavailable(&self.availability, "the repository's id", || {
            repositories::known(pool, &path)
        })
        .await?;
        let first_use = known.id.is_none();
        let (mut repository, mut id) = enter(root, known.id, known.points).await?;
        if first_use {
            tracing::info!(repository = %root.display(), %id, "the site uses this repository from now on");
            // Another worker may have come first, and to another directory: then this one is not it.
            id = while_unavailable(&self.availability, "the repository's id", || {
                repositories::learn(pool, &path, id)
            })
            .await?;
            (repository, _) = enter(root, Some(id), Vec::new()).await?;
        }
        self.seen().insert(root.to_owned(), id);
        Ok(repository)
    }

    /// Of an error that something is not where it was: whether that is because the repository is not there.
    pub(crate) async fn explain(&self, pool: &Pool, root: &Path, error: StepError) -> StepError {
        match error {
            StepError::Repository(RepositoryError::NotFound { .. }) => {
                self.open(pool, root).await.err().unwrap_or(error)
            }
            error => error,
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Uuid>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn enter(
    root: &Path,
    id: Option<Uuid>,
    recorded: Vec<String>,
) -> Result<(Repository, Uuid), StepError> {
    let root = root.to_owned();
    blocking(move || Ok(Repository::enter(root, id, &recorded)?)).await
}
