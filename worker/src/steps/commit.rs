//! Step `commit`: our snapshot is removed, and its changes go back into the guest's disks.

use virtuozo_store::obligations::Obligation;

use super::GuestRun;
use crate::{error::StepError, undo};

/// Meets what the run owes its guest since `snapshot`. Returns what is met.
pub(super) async fn run(run: &GuestRun) -> Result<Vec<Obligation>, StepError> {
    undo::meet_own(run).await
}
