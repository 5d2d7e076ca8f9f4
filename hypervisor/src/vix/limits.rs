//! How long the VIX back end waits: one value, [`LIMITS`]. Limits that steps choose come with their calls.

use std::time::Duration;

use super::pauses::Pauses;

/// The limits of the VIX back end.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// How long the host may take to accept a connection.
    pub(super) connect: Duration,
    /// How long the host may take to list its guests.
    pub(super) list: Duration,
    /// How long the host may take to answer a question about a guest.
    pub(super) question: Duration,
    /// How long the library may take to load and to answer.
    pub(super) probe: Duration,
    /// The pauses between two queries of the power state.
    pub(super) power_looks: Pauses,
    /// The pauses between two looks at a job of the library.
    pub(super) job_looks: Pauses,
    /// What the process of a connection is given beyond an operation's own limit before it counts as hung.
    pub(super) grace: Duration,
    /// How long the process of a connection may take to leave by itself once its standard input has ended.
    pub(super) leave: Duration,
    /// How long an orderly farewell from the host may take once nobody listens any more.
    pub(super) disconnect: Duration,
}

/// The limits that hold.
pub(super) const LIMITS: Limits = Limits {
    connect: Duration::from_secs(60),
    list: Duration::from_secs(60),
    question: Duration::from_secs(60),
    probe: Duration::from_secs(20),
    power_looks: Pauses::doubling(Duration::from_millis(20), Duration::from_secs(1)),
    job_looks: Pauses::doubling(Duration::from_millis(1), Duration::from_millis(100)),
    grace: Duration::from_secs(10),
    leave: Duration::from_secs(8),
    disconnect: Duration::from_secs(5),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_disconnects_before_it_is_killed_for_not_leaving() {
        assert!(LIMITS.disconnect < LIMITS.leave);
    }

    #[test]
    fn the_library_is_seen_to_have_answered_before_its_process_counts_as_hung() {
        let mut looks = LIMITS.job_looks;
        let longest = (0..20).map(|_| looks.next()).max();
        assert!(longest < Some(LIMITS.grace / 10));
    }
}
