//! How long the simulator waits: one value, [`LIMITS`].

use std::time::Duration;

/// The limits of the simulator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How often a condition on disk is looked at.
    pub(crate) look_every: Duration,
    /// A guest process that does not stop within this time is killed.
    pub(crate) stop: Duration,
    /// Shortest pause between batches of a guest's writes, in which others get the guest's lock.
    pub(crate) shortest_nap: Duration,
    /// Longest pause between them.
    pub(crate) longest_nap: Duration,
}

/// The limits that hold.
pub(crate) const LIMITS: Limits = Limits {
    look_every: Duration::from_millis(2),
    stop: Duration::from_secs(20),
    shortest_nap: Duration::from_millis(2),
    longest_nap: Duration::from_millis(200),
};
