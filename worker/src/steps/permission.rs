//! Tells work on a thread of its own whether it may continue: while the lease holds, the run is not cancelled, and the
//! worker does not drain.

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use virtuozo_repository::Stopped;
use virtuozo_store::leases::LeaseHandle;

use super::GuestRun;
use crate::error::Stop;

/// Checked before each piece of the work.
pub(super) struct Permission {
    lease: LeaseHandle,
    drain: CancellationToken,
    runtime: Handle,
}

impl Permission {
    /// The permission for work on a guest run. Has to be created within a task of the runtime.
    pub(super) fn of(run: &GuestRun) -> Self {
        Self {
            lease: run.lease.clone(),
            drain: run.context.drain.clone(),
            runtime: Handle::current(),
        }
    }

    /// Whether it is certain that the work may continue.
    pub(super) fn given(&self) -> bool {
        self.stop().is_none() && self.lease.now().is_some()
    }

    /// Why the work has to stop; `None` if it may continue, or if it is uncertain whether the lease holds.
    pub(super) fn stop(&self) -> Option<Stop> {
        match self.lease.now() {
            Some(Err(end)) => Some(end.into()),
            _ if self.drain.is_cancelled() => Some(Stop::Draining),
            _ => None,
        }
    }

    /// Blocks this thread while it is uncertain whether the lease holds.
    ///
    /// # Errors
    /// The work has to stop.
    pub(super) fn wait(&self) -> Result<(), Stopped> {
        let because = |stop: Stop| Stopped {
            reason: stop.to_string(),
        };
        if let Some(stop) = self.stop() {
            return Err(because(stop));
        }
        if self.lease.now().is_some() {
            return Ok(());
        }
        let deciding = async {
            tokio::select! {
                biased;
                answer = self.lease.allowed() => answer.map_err(Stop::from),
                () = self.drain.cancelled() => Err(Stop::Draining),
            }
        };
        self.runtime.block_on(deciding).map_err(because)
    }
}
