//! What the leases of guest runs, host runs and obligations have in common.

use sqlx::FromRow;

/// Whether a fenced statement found its row. Not the same as a connection error, after which nothing is
/// known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Fence {
    /// The lease is still ours.
    Held,
    /// Somebody else has it, or the run has ended: stop, and write nothing more.
    Lost,
}

impl Fence {
    pub(super) fn of(found: bool) -> Self {
        if found { Self::Held } else { Self::Lost }
    }
}

/// The answer to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Renewal {
    /// Somebody wants the run to end.
    pub cancel_requested: bool,
    /// How long the lease holds from now on, in seconds.
    pub lease_secs: i32,
}
