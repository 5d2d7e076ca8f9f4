//! A change of the guest that took effect after the lease was lost. Another worker, or an undo job, may have looked at
//! the guest before, and have deleted the obligation as met.

use tokio::sync::Mutex;
use virtuozo_hypervisor::snapshot_name;
use virtuozo_store::obligations::{self, UndoAction};

use super::GuestRun;
use crate::error::StepError;

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
pub(super) struct UnrecordedChange(Mutex<Option<Change>>);

impl GuestRun {
    /// From here on the guest may be changed.
    pub(super) async fn changes(&self, change: Change) {
        *self.unrecorded_change.0.lock().await = Some(change);
    }

    /// The change is recorded, under a lease that was ours.
    pub(super) async fn change_is_recorded(&self) {
        *self.unrecorded_change.0.lock().await = None;
    }

    /// Writes down, as the lease is lost, what has to be undone if the change takes effect only now.
    pub(crate) async fn record_late_change(&self) -> Result<(), StepError> {
        let Some(change) = self.unrecorded_change.0.lock().await.take() else {
            return Ok(());
        };
        let name = snapshot_name::make(self.row.guest_run_id, self.row.fence);
        let duty = match change {
            Change::Snapshot => UndoAction::RemoveSnapshot(&name),
            Change::PowerOff => UndoAction::PowerOn,
        };
        let recording =
            || obligations::record_late(&self.context.pool, self.row.guest_run_id, duty);
        Ok(self
            .context
            .while_unavailable("the undoing of a change that came too late", recording)
            .await?)
    }
}
