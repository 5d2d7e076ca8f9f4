//! What a process can do, held against what jobs need when it claims them.

use tokio::sync::watch;
use uuid::Uuid;

/// What the job of no host needs, or one whose host is not known: every process may claim it.
const NOTHING: &str = "";

/// Who claims jobs, and the kinds of host that it serves now. It claims no job of another kind, and leaves jobs that need what
/// its machine lacks to workers that may have it.
#[derive(Debug, Clone)]
pub struct Capabilities {
    worker: Option<Uuid>,
    kinds: watch::Receiver<Vec<String>>,
}

impl Capabilities {
    /// Of a worker, by its id. The kinds that it serves change while it runs; what its machine lacks is in the database.
    pub fn of_worker(id: Uuid, kinds: watch::Receiver<Vec<String>>) -> Self {
        Self {
            worker: Some(id),
            kinds,
        }
    }

    /// For jobs that need no host.
    pub fn none() -> Self {
        Self {
            worker: None,
            kinds: watch::channel(Vec::new()).1,
        }
    }

    /// The worker, if it is one.
    pub(super) fn worker(&self) -> Option<Uuid> {
        self.worker
    }

    /// The values of `needs_kind` of jobs that can be done now.
    pub(super) fn kinds(&self) -> Vec<String> {
        let mut kinds = self.kinds.borrow().clone();
        kinds.push(NOTHING.to_owned());
        kinds
    }
}
