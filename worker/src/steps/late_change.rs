//! A change of the guest that takes effect after the lease is lost. Another worker or an undo job may have checked the
//! guest before that, and have deleted the obligation as met.

use tokio::sync::Mutex;
use virtuozo_hypervisor::snapshot_name;
use virtuozo_store::obligations::{self, UndoAction};

use super::GuestRun;
use crate::error::StepError;

/// A change that has to be undone.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// Our snapshot was taken.
    Snapshot,
    /// The guest was powered off, and has to be powered on again.
    PowerOff,
}

/// The change that was begun and is not recorded yet. After the record, whoever takes the run over knows it.
#[derive(Debug, Default)]
pub(super) struct UnrecordedChange(Mutex<Option<Change>>);

impl GuestRun {
    /// A change of the guest begins.
    pub(super) async fn changes(&self, change: Change) {
        *self.unrecorded_change.0.lock().await = Some(change);
    }

    /// The change is recorded under our lease.
    pub(super) async fn change_is_recorded(&self) {
        *self.unrecorded_change.0.lock().await = None;
    }

    /// Records an obligation after the lease is lost, in case the change takes effect only now.
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
