//! Step `power_on`: the guest runs again, if it ran before.

use virtuozo_store::obligations::Obligation;

use super::GuestRun;
use crate::{error::StepError, undo};

/// Meets what the run owes its guest since `power_off`. Returns what is met.
pub(super) async fn run(run: &GuestRun) -> Result<Vec<Obligation>, StepError> {
    undo::meet_own(run).await
}
