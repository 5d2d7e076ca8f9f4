//! What all parts of a worker share.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;
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
    /// The ways to hosts, for what has a connection of its own.
    pub(crate) connectors: Connectors,
    /// The file with the key that opens host passwords.
    pub(crate) key_file: PathBuf,
    /// This start of this worker; owner of its leases.
    pub(crate) incarnation: Uuid,
    /// The work in progress. It outlives the delivery of its job.
    pub(crate) work: TaskTracker,
    /// What that work is about.
    pub(crate) runs_in_work: RunsInWork,
    /// What this machine was found to lack for single hosts.
    pub(crate) missing_capabilities: MissingCapabilities,
    /// Where restore points go.
    pub(crate) repositories: Repositories,
    /// The program that guards hooks; none: they outlive a worker that dies.
    pub(crate) hook_guard: Option<PathBuf>,
    /// What disturbs it at certain places.
    pub(crate) failpoints: failpoints::Hooks,
    /// This worker stops: nothing new is begun, and what takes long is handed over.
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

/// The runs that this process works on. A second delivery of one of these is nothing new; a lease of this process on
/// another one is a lease that it does not know of, because the answer to its taking was lost.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunsInWork(Arc<Mutex<HashSet<Uuid>>>);

impl RunsInWork {
    /// Begins to work on a run; none if this process does already.
    pub(crate) fn begin(&self, id: Uuid) -> Option<RunInWork> {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut ids = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.remove(&self.id);
    }
}
