//! A change of the guest that took effect too late: another worker, or an undo job, may have looked before it did, and
//! has forgotten what was owed for it then.

use tokio::sync::Mutex;
use virtuozo_hypervisor::snapshot_name;
use virtuozo_store::obligations::{self, Duty};

use super::GuestRun;
use crate::{error::StepError, patience::patiently};

/// A change that has to be undone.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// Our snapshot is taken.
    Snapshot,
    /// The guest is powered off, and is to be powered on again.
    PowerOff,
}

/// The change that was begun and is not recorded yet. Who takes over after its record finds it.
#[derive(Debug, Default)]
pub(super) struct Unrecorded(Mutex<Option<Change>>);

impl GuestRun {
    /// From here on the guest may be changed.
    pub(super) async fn changes(&self, change: Change) {
        *self.unrecorded.0.lock().await = Some(change);
    }

    /// The change is recorded, under a lease that was ours.
    pub(super) async fn is_recorded(&self) {
        *self.unrecorded.0.lock().await = None;
    }

    /// Writes down, as the lease is lost, what has to be undone if the change takes effect only now.
    pub(crate) async fn owe_late(&self) -> Result<(), StepError> {
        let Some(change) = self.unrecorded.0.lock().await.take() else {
            return Ok(());
        };
        let name = snapshot_name::make(self.row.guest_run_id, self.row.fence);
        let duty = match change {
            Change::Snapshot => Duty::RemoveSnapshot(&name),
            Change::PowerOff => Duty::PowerOn,
        };
        let owing =
            || obligations::owe_late(&self.context.pool, self.row.guest_run_id, duty.clone());
        Ok(patiently("the undoing of a change that came too late", owing).await?)
    }
}
