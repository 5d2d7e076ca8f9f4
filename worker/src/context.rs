//! What all parts of a worker share.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;
use virtuozo_postgres::Pool;

use crate::{connections::Connections, failpoints, fitness::Fitness, repositories::Repositories};

/// What all parts of a worker share.
pub(crate) struct Context {
    /// Connections to the database.
    pub(crate) pool: Pool,
    /// Connections to hosts.
    pub(crate) connections: Arc<Connections>,
    /// Its name, for people.
    pub(crate) name: String,
    /// This start of this worker; owner of its leases.
    pub(crate) incarnation: Uuid,
    /// The work in progress. It outlives the delivery of its job.
    pub(crate) work: TaskTracker,
    /// What that work is about.
    pub(crate) in_hand: InHand,
    /// What this machine lacks.
    pub(crate) fitness: Fitness,
    /// Where restore points go.
    pub(crate) repositories: Repositories,
    /// The program that guards hooks; none: they outlive a worker that dies.
    pub(crate) hook_guard: Option<PathBuf>,
    /// What disturbs it at certain places.
    pub(crate) failpoints: failpoints::Hooks,
    /// This worker stops: nothing new is begun, and what takes long is handed over.
    pub(crate) drain: CancellationToken,
}

/// The runs that this process has in hand: a second delivery of one is no news, and a lease of this
/// process on another is one that it does not know of, because the answer to the taking was lost.
#[derive(Debug, Clone, Default)]
pub(crate) struct InHand(Arc<Mutex<HashSet<Uuid>>>);

impl InHand {
    /// Takes a run in hand; none if it is already.
    pub(crate) fn take(&self, id: Uuid) -> Option<Hand> {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.insert(id).then(|| Hand {
            all: self.clone(),
            id,
        })
    }
}

/// A run in hand, until this is dropped.
#[derive(Debug)]
pub(crate) struct Hand {
    all: InHand,
    id: Uuid,
}

impl Drop for Hand {
    fn drop(&mut self) {
        let mut ids = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.remove(&self.id);
    }
}
