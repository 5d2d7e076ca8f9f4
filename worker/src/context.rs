//! What all parts of a worker share.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;
use virtuozo_child_process::FileProcesses;
use virtuozo_hooks::HookPrograms;
use virtuozo_hypervisor::Connectors;
use virtuozo_postgres::{Pool, StoreError};
use virtuozo_telemetry::Telemetry;

use crate::{
    connections::Connections, failpoints, missing_capability::MissingCapabilities,
    repositories::Repositories, retry,
};

/// What all parts of a worker share.
pub(crate) struct Context {
    /// Connections to the database.
    pub(crate) pool: Pool,
    /// How this process stands, what it counts, and where its spans go.
    pub(crate) telemetry: Telemetry,
    /// Connections to hosts.
    pub(crate) connections: Arc<Connections>,
    /// Connectors for work with a connection of its own.
    pub(crate) connectors: Connectors,
    /// The file with the key that decrypts the passwords of hosts.
    pub(crate) key_file: PathBuf,
    /// The id of this worker process; the owner of its leases.
    pub(crate) incarnation: Uuid,
    /// The tasks in progress. They outlive the delivery of their jobs.
    pub(crate) work: TaskTracker,
    /// The runs that these tasks work on.
    pub(crate) runs_in_work: RunsInWork,
    /// What this machine lacks for single hosts.
    pub(crate) missing_capabilities: MissingCapabilities,
    /// The repositories that restore points are written to.
    pub(crate) repositories: Repositories,
    /// The processes that read and write files.
    pub(crate) files: FileProcesses,
    /// The hooks that this machine runs.
    pub(crate) hooks: HookPrograms,
    /// Called at the places of [`failpoints::Place`].
    pub(crate) failpoints: failpoints::ActiveFailpoints,
    /// Cancelled when this worker drains: nothing new is begun, and long work is handed over.
    pub(crate) drain: CancellationToken,
}

impl Context {
    /// [`retry::while_unavailable`] with the database of this worker.
    pub(crate) async fn while_unavailable<T, F, Fut>(
        &self,
        what: &str,
        operation: F,
    ) -> Result<T, StoreError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, StoreError>>,
    {
        retry::while_unavailable(&self.telemetry.health.availability, what, operation).await
    }
}

/// The runs that this process works on. A second delivery of one of these is ignored. If this process owns the lease of
/// another run, it does not know of that lease, because the answer to the statement that took it was lost.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunsInWork(Arc<Mutex<HashSet<Uuid>>>);

impl RunsInWork {
    /// Begins to work on a run; `None` if this process works on it already.
    pub(crate) fn begin(&self, id: Uuid) -> Option<RunInWork> {
        let mut ids = self.0.lock();
        ids.insert(id).then(|| RunInWork {
            all: self.clone(),
            id,
        })
    }
}

/// A run that this process works on, until this is dropped.
#[derive(Debug)]
pub(crate) struct RunInWork {
    all: RunsInWork,
    id: Uuid,
}

impl Drop for RunInWork {
    fn drop(&mut self) {
        let mut ids = self.all.0.lock();
        ids.remove(&self.id);
    }
}
