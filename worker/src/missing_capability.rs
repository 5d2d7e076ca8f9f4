//! What this worker's machine lacks: a mount, or for a host a key or a library. It is found in a job, which is handed back
//! then. For some minutes this worker claims no job that needs it while another worker runs that may have it. A location
//! is looked for meanwhile, since its mount may come back.

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virtuozo_child_process::FileProcesses;
use virtuozo_model::ErrorClass;
use virtuozo_postgres::{Pool, StoreError};
use virtuozo_queue::Job;
use virtuozo_runtime::{Availability, LIMITS};
use virtuozo_store::{
    repositories::{self, KnownRepository},
    workers::{self, Missing},
};

use crate::{error::StepError, file_work::FileWork, files, retry::while_unavailable};

/// What this worker's machine was found to lack.
#[derive(Clone)]
pub(crate) struct MissingCapabilities {
    pool: Pool,
    availability: Availability,
    /// The worker's name, for messages.
    name: String,
    /// The worker's id.
    incarnation: Uuid,
    looks: Looks,
}

/// The locations that a process looks at now. One whose storage hangs keeps its process, and gets no further one.
#[derive(Debug, Clone)]
struct Looks {
    now: Arc<Mutex<HashSet<String>>>,
    files: FileProcesses,
}

impl MissingCapabilities {
    pub(crate) fn new(
        pool: Pool,
        availability: Availability,
        name: String,
        incarnation: Uuid,
        files: FileProcesses,
    ) -> Self {
        Self {
            pool,
            availability,
            name,
            incarnation,
            looks: Looks {
                now: Arc::default(),
                files,
            },
        }
    }

    /// Records what an error of the class [`ErrorClass::Elsewhere`] in a job says that the machine lacks, and adds to its
    /// message the machine, and the others where it was tried. Returns whether another worker runs that may be able to do
    /// the job. Other errors are left as they are.
    ///
    /// # Errors
    /// The database refuses the record.
    pub(crate) async fn note<J: Job>(
        &self,
        job: J,
        run_id: Option<Uuid>,
        error: &StepError,
        message: &mut String,
    ) -> Result<bool, StoreError> {
        if error.class() != ErrorClass::Elsewhere {
            return Ok(false);
        }
        let location = error.missing_location().map(Path::to_string_lossy);
        let missing = Missing {
            queue: J::QUEUE,
            subject: job.subject(),
            run_id,
            location: location.as_deref(),
            reason: message.as_str(),
        };
        let noted = while_unavailable(&self.availability, "what this machine lacks", || {
            workers::record_missing_capability(&self.pool, self.incarnation, missing)
        })
        .await?;
        let here = format!("worker {} on {}", self.name, workers::machine());
        *message = format!("{here}: {message}");
        if !noted.leaves_to_others {
            let advice = format!(
                "; no worker is left that can do it (tried: {}): run `virtuozo doctor` on these machines, or start a \
                 worker on another one",
                noted.tried
            );
            message.push_str(&advice);
        }
        Ok(noted.leaves_to_others)
    }

    /// Looks from time to time for the locations that the machine lacks, and drops the record of those that are there.
    pub(crate) async fn keep_looking(self, every: Duration, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = self.look_again().await {
                tracing::debug!(%error, "locations that this machine lacks were not looked for");
            }
        }
    }

    async fn look_again(&self) -> Result<(), StoreError> {
        let locations = workers::lacked_locations(&*self.pool, self.incarnation).await?;
        let mut there = Vec::new();
        for location in locations {
            let repository = repositories::known(&*self.pool, &location).await?;
            if self.looks.is_there(&location, repository).await {
                tracing::info!(location, "location is there again");
                there.push(location);
            }
        }
        if !there.is_empty() {
            workers::found_again(&*self.pool, self.incarnation, &there).await?;
        }
        Ok(())
    }
}

impl Looks {
    /// Whether a location is there now. One that is still being looked at is not.
    async fn is_there(&self, location: &str, repository: KnownRepository) -> bool {
        if !self.now.lock().insert(location.to_owned()) {
            return false;
        }
        let (looks, location) = (self.clone(), location.to_owned());
        let look = tokio::spawn(async move {
            let work = FileWork::IsMounted {
                location: location.clone().into(),
                id: repository.id,
                points: repository.points,
            };
            let is_there = files::ask(&looks.files, &work, Duration::MAX).await;
            looks.now.lock().remove(&location);
            is_there.unwrap_or(false)
        });
        matches!(
            tokio::time::timeout(LIMITS.worker.mount, look).await,
            Ok(Ok(true))
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use virtuozo_repository::Repository;

    use super::*;

    fn looks() -> Looks {
        Looks {
            now: Arc::default(),
            files: FileProcesses::threads(Arc::new(|_, request, line| {
                crate::serve_file_work(request, line)
            })),
        }
    }

    fn repository(id: Option<Uuid>) -> KnownRepository {
        KnownRepository {
            id,
            points: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_location_is_there_when_its_directory_can_be_read_and_holds_its_repository() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("mount");
        let path = place.to_str().unwrap();
        let looks = looks();
        assert!(!looks.is_there(path, repository(None)).await);
        fs::create_dir(&place).unwrap();
        assert!(looks.is_there(path, repository(None)).await);
        let under_mount_point = looks.is_there(path, repository(Some(Uuid::now_v7())));
        assert!(!under_mount_point.await);
        let (_, id) =
            Repository::enter(&place, None, &[], virtuozo_repository::Access::Owner).unwrap();
        assert!(looks.is_there(path, repository(Some(id))).await);
        let another = looks.is_there(path, repository(Some(Uuid::now_v7())));
        assert!(!another.await);
        assert!(looks.now.lock().is_empty());
    }

    #[tokio::test]
    async fn a_location_that_is_still_being_looked_at_gets_no_second_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let looks = looks();
        looks.now.lock().insert(path.to_owned());
        assert!(!looks.is_there(path, repository(None)).await);
        looks.now.lock().clear();
        assert!(looks.is_there(path, repository(None)).await);
    }
}
