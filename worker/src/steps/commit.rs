//! Step `commit`: removes our snapshot; the host merges its changes into the guest's disks.

use virtuozo_store::obligations::Obligation;

use super::GuestRun;
use crate::{error::StepError, undo};

/// Removes the snapshot of this run. Returns the obligations that are met.
pub(super) async fn run(run: &GuestRun) -> Result<Vec<Obligation>, StepError> {
    undo::meet_own(run).await
}
