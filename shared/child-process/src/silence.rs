//! When a process counts as silent. Time is what its caller says it is.

use std::time::Duration;

use virtuozo_runtime::LIMITS;

use crate::messages::{Pulse, Within};

/// Follows the signs of life of one work.
#[derive(Debug)]
pub(crate) struct Silence {
    /// How long nothing may move; none: for ever.
    limit: Option<Duration>,
    /// None before the first sign.
    moves: Option<u64>,
    within: Within,
    silent: Duration,
}

impl Silence {
    /// Work that has just begun.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            moves: None,
            within: Within::default(),
            silent: Duration::ZERO,
        }
    }

    /// A sign of life. One that says that nothing has moved ends no silence.
    pub(crate) fn pulse(&mut self, pulse: Pulse) {
        if self.moves != Some(pulse.moves) {
            self.moves = Some(pulse.moves);
            self.silent = Duration::ZERO;
        }
        self.within = pulse.within;
    }

    /// Something was heard, or the work waited for us.
    pub(crate) fn broken(&mut self) {
        self.silent = Duration::ZERO;
    }

    /// So much time has passed since the last call. Counted is no more than would have passed if we had looked in time: this
    /// process, or the whole machine, may have stood still itself.
    pub(crate) fn passed(&mut self, time: Duration) {
        self.silent += time.min(LIMITS.files.look_every * 2);
    }

    /// For how long nothing has moved.
    pub(crate) fn lasts(&self) -> Duration {
        self.silent
    }

    /// What does not answer; the subject of a sentence.
    pub(crate) fn what(&self) -> &str {
        match self.within.what.as_str() {
            "" => "its files",
            what => what,
        }
    }

    /// Whether it has lasted too long.
    pub(crate) fn is_over(&self) -> bool {
        let beyond = Duration::from_millis(self.within.beyond_ms);
        self.limit
            .is_some_and(|limit| self.silent >= limit.saturating_add(beyond))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(120);
    const LOOK: Duration = LIMITS.files.look_every;

    fn pulse(moves: u64, what: &str, beyond_ms: u64) -> Pulse {
        Pulse {
            moves,
            within: Within {
                what: what.to_owned(),
                beyond_ms,
            },
        }
    }

    /// How long it takes until the silence is over, while the process says the same each time; none after an hour.
    fn until_over(silence: &mut Silence, pulse: Option<&Pulse>) -> Option<Duration> {
        let mut passed = Duration::ZERO;
        while passed < Duration::from_secs(3600) {
            if let Some(pulse) = pulse {
                silence.pulse(pulse.clone());
            }
            silence.passed(LOOK);
            passed += LOOK;
            if silence.is_over() {
                return Some(passed);
            }
        }
        None
    }

    #[test]
    fn a_process_that_says_nothing_is_silent_after_the_limit_and_not_before() {
        let mut silence = Silence::new(Some(LIMIT));
        assert_eq!(until_over(&mut silence, None), Some(LIMIT));
        assert_eq!(silence.what(), "its files");
    }

    #[test]
    fn a_process_that_only_says_that_nothing_moves_is_silent_as_well() {
        let mut silence = Silence::new(Some(LIMIT));
        let stuck = pulse(7, "reads from standard", 0);
        assert_eq!(until_over(&mut silence, Some(&stuck)), Some(LIMIT));
        assert_eq!(silence.what(), "reads from standard");
        assert_eq!(silence.lasts(), LIMIT);
    }

    #[test]
    fn whoever_moves_now_and_then_is_never_silent() {
        let mut silence = Silence::new(Some(LIMIT));
        for moves in 0..100 {
            silence.pulse(pulse(moves, "reads from standard", 0));
            for _ in 0..(LIMIT.as_millis() / LOOK.as_millis() - 1) {
                silence.passed(LOOK);
                assert!(!silence.is_over());
            }
        }
    }

    #[test]
    fn a_sync_of_many_bytes_has_the_time_for_them_beside_the_limit_and_no_more() {
        let mut silence = Silence::new(Some(LIMIT));
        let syncing = pulse(7, "syncs of disk.vmdk", 600_000);
        let over = until_over(&mut silence, Some(&syncing));
        assert_eq!(over, Some(LIMIT + Duration::from_secs(600)));
    }

    #[test]
    fn a_machine_that_slept_for_a_night_has_not_heard_silence_all_night() {
        let mut silence = Silence::new(Some(LIMIT));
        silence.pulse(pulse(7, "reads from standard", 0));
        silence.passed(Duration::from_secs(8 * 3600));
        assert!(!silence.is_over());
        assert!(until_over(&mut silence, None).is_some());
    }

    #[test]
    fn waiting_for_us_is_no_silence() {
        let mut silence = Silence::new(Some(LIMIT));
        silence.pulse(pulse(7, "reads from standard", 0));
        for _ in 0..1000 {
            silence.passed(LOOK);
            silence.broken();
        }
        assert!(!silence.is_over());
        assert!(until_over(&mut Silence::new(None), None).is_none());
    }
}
