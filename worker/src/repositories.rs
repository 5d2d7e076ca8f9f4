//! The repositories that this worker writes to. Before each change the marker in the directory is compared with the id
//! that the site knows, so that the empty directory below a mount point is never taken for a repository.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::Mutex;
use uuid::Uuid;
use virtuozo_child_process::FileProcesses;
use virtuozo_disk::MachineRoots;
use virtuozo_postgres::Pool;
use virtuozo_repository::Access;
use virtuozo_runtime::Availability;
use virtuozo_store::repositories;

use crate::{
    error::{RepositoryFailure, RepositoryFailureKind, StepError},
    file_work::{Entered, FileWork},
    files,
    retry::while_unavailable,
};

/// The ids of the repositories that this process has opened. The database is asked only about other paths, and where
/// an id differs.
#[derive(Debug)]
pub(crate) struct Repositories {
    availability: Availability,
    /// Where this machine writes at all.
    allowed: MachineRoots,
    processes: FileProcesses,
    seen: Mutex<HashMap<PathBuf, Uuid>>,
}

impl Repositories {
    /// Without any id yet.
    pub(crate) fn new(
        availability: Availability,
        allowed: MachineRoots,
        processes: FileProcesses,
    ) -> Self {
        Self {
            availability,
            allowed,
            processes,
            seen: Mutex::default(),
        }
    }

    /// Opens a repository for a change. At the site's first use, the directory and its marker are created. Its file system
    /// may be silent for `silence`. What is written in it is for those whom `access` names.
    ///
    /// # Errors
    /// The directory is not the repository that the site knows, cannot be read or does not answer. Nothing was changed.
    pub(crate) async fn open(
        &self,
        pool: &Pool,
        root: &Path,
        access: Access,
        silence: Duration,
    ) -> Result<(), StepError> {
        let seen = self.seen().get(root).copied();
        if let Some(id) = seen {
            match self
                .enter(root, Some(id), Vec::new(), access, silence)
                .await
            {
                Ok(_) => return Ok(()),
                // It would not answer now either.
                Err(error @ StepError::Files(_)) => return Err(error),
                Err(_) => {}
            }
        }
        let path = root.to_string_lossy();
        let known = while_unavailable(&self.availability, "the repository's id", || {
            repositories::known(pool, &path)
        })
        .await?;
        let first_use = known.id.is_none();
        let mut id = self
            .enter(root, known.id, known.points, access, silence)
            .await?;
        if first_use {
            tracing::info!(repository = %root.display(), %id, "repository is used for the first time");
            // Another worker may have recorded another directory first; then this one is the wrong one.
            id = while_unavailable(&self.availability, "the repository's id", || {
                repositories::learn(pool, &path, id)
            })
            .await?;
            self.enter(root, Some(id), Vec::new(), access, silence)
                .await?;
        }
        self.seen().insert(root.to_owned(), id);
        Ok(())
    }

    /// Of an error that something is not where it was: whether that is because the repository is not there.
    pub(crate) async fn explain(
        &self,
        pool: &Pool,
        root: &Path,
        error: StepError,
        silence: Duration,
    ) -> StepError {
        match error {
            StepError::Repository(RepositoryFailure {
                kind: RepositoryFailureKind::NotFound,
                ..
            }) => {
                // Nothing is made in a repository that was written to before.
                let opening = self.open(pool, root, Access::default(), silence);
                opening.await.err().unwrap_or(error)
            }
            error => error,
        }
    }

    fn seen(&self) -> parking_lot::MutexGuard<'_, HashMap<PathBuf, Uuid>> {
        self.seen.lock()
    }

    async fn enter(
        &self,
        root: &Path,
        id: Option<Uuid>,
        points: Vec<String>,
        access: Access,
        silence: Duration,
    ) -> Result<Uuid, StepError> {
        let work = FileWork::Enter {
            root: root.to_owned(),
            id,
            points,
            access,
            allowed: self.allowed.clone(),
        };
        match files::ask(&self.processes, &work, silence).await? {
            Entered::Id(id) => Ok(id),
            Entered::NotAllowed => Err(StepError::operator(self.allowed.refusal("write to", root))),
        }
    }
}
