//! Whether work in another process may continue: while the lease certainly holds, the run is not cancelled, and the worker
//! does not drain.

use tokio_util::sync::CancellationToken;
use virtuozo_store::leases::LeaseHandle;

use super::GuestRun;

/// Looked at again and again while the work goes on.
pub(super) struct Permission {
    lease: LeaseHandle,
    drain: CancellationToken,
}

impl Permission {
    /// The permission for work on a guest run.
    pub(super) fn of(run: &GuestRun) -> Self {
        Self {
            lease: run.lease.clone(),
            drain: run.context.drain.clone(),
        }
    }

    /// Whether it is certain that the work may continue.
    pub(super) fn given(&self) -> bool {
        matches!(self.lease.now(), Some(Ok(()))) && !self.drain.is_cancelled()
    }
}
