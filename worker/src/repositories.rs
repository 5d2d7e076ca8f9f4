//! The repositories that this worker writes to. Before each change the marker in the directory is compared with the id
//! that the site knows, so that the empty directory below a mount point is never taken for a repository.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use uuid::Uuid;
use virtuozo_disk::MachineRoots;
use virtuozo_postgres::Pool;
use virtuozo_repository::{Access, Repository, RepositoryError};
use virtuozo_runtime::Availability;
use virtuozo_store::repositories;

use crate::{blocking::blocking, error::StepError, retry::while_unavailable};

/// The ids of the repositories that this process has opened. The database is asked only about other paths, and where
/// an id differs.
#[derive(Debug)]
pub(crate) struct Repositories {
    availability: Availability,
    /// Where this machine writes at all.
    allowed: MachineRoots,
    seen: Mutex<HashMap<PathBuf, Uuid>>,
}

impl Repositories {
    /// Without any id yet.
    pub(crate) fn new(availability: Availability, allowed: MachineRoots) -> Self {
        Self {
            availability,
            allowed,
            seen: Mutex::default(),
        }
    }

    /// Opens a repository for a change. At the site's first use, the directory and its marker are created. What is
    /// written in it is for those whom `access` names.
    ///
    /// # Errors
    /// The directory is not the repository that the site knows, or cannot be read. Nothing was changed.
    pub(crate) async fn open(
        &self,
        pool: &Pool,
        root: &Path,
        access: Access,
    ) -> Result<Repository, StepError> {
        self.check_allowed(root).await?;
        let seen = self.seen().get(root).copied();
        if let Some(id) = seen
            && let Ok((repository, _)) = enter(root, Some(id), Vec::new(), access).await
        {
            return Ok(repository);
        }
        let path = root.to_string_lossy();
        let known = while_unavailable(&self.availability, "the repository's id", || {
            repositories::known(pool, &path)
        })
        .await?;
        let first_use = known.id.is_none();
        let (mut repository, mut id) = enter(root, known.id, known.points, access).await?;
        if first_use {
            tracing::info!(repository = %root.display(), %id, "repository is used for the first time");
            // Another worker may have recorded another directory first; then this one is the wrong one.
            id = while_unavailable(&self.availability, "the repository's id", || {
                repositories::learn(pool, &path, id)
            })
            .await?;
            (repository, _) = enter(root, Some(id), Vec::new(), access).await?;
        }
        self.seen().insert(root.to_owned(), id);
        Ok(repository)
    }

    /// Refuses a directory where the machine's own configuration lets nothing be written.
    async fn check_allowed(&self, root: &Path) -> Result<(), StepError> {
        let (allowed, place) = (self.allowed.clone(), root.to_owned());
        let held = blocking(move || {
            allowed.hold_place(&place).map_err(|error| {
                StepError::elsewhere(format!("cannot look at {}: {error}", place.display()))
            })
        });
        if held.await? {
            Ok(())
        } else {
            Err(StepError::operator(self.allowed.refusal("write to", root)))
        }
    }

    /// Of an error that something is not where it was: whether that is because the repository is not there.
    pub(crate) async fn explain(&self, pool: &Pool, root: &Path, error: StepError) -> StepError {
        match error {
            StepError::Repository(RepositoryError::NotFound { .. }) => {
                // Nothing is made in a repository that was written to before.
                self.open(pool, root, Access::default())
                    .await
                    .err()
                    .unwrap_or(error)
            }
            error => error,
        }
    }

    fn seen(&self) -> parking_lot::MutexGuard<'_, HashMap<PathBuf, Uuid>> {
        self.seen.lock()
    }
}

async fn enter(
    root: &Path,
    id: Option<Uuid>,
    recorded: Vec<String>,
    access: Access,
) -> Result<(Repository, Uuid), StepError> {
    let root = root.to_owned();
    blocking(move || Ok(Repository::enter(root, id, &recorded, access)?)).await
}
