//! Step `power_on`: powers the guest on again, if it ran before.

use virtuozo_store::obligations::Obligation;

use super::GuestRun;
use crate::{error::StepError, undo};

/// Powers the guest on again, if this run has powered it off. Returns the obligations that are met.
pub(super) async fn run(run: &GuestRun) -> Result<Vec<Obligation>, StepError> {
    undo::meet_own(run).await
}
