//! Delays between attempts that fail: they grow from failure to failure up to a longest one.

use std::time::Duration;

use rand::RngExt as _;

/// How delays grow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackoffPolicy {
    /// The delay after the first failure.
    pub first: Duration,
    /// By how much each further delay is longer than the one before.
    pub factor: f64,
    /// The longest delay.
    pub longest: Duration,
    /// The part of a delay by which it is shortened or lengthened at random, so that those who failed together do not
    /// come back together; from 0 to 1.
    pub jitter: f64,
}

impl BackoffPolicy {
    /// Delays that double, without jitter.
    pub const fn doubling(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            factor: 2.0,
            longest,
            jitter: 0.0,
        }
    }

    /// The same with jitter.
    #[must_use]
    pub const fn with_jitter(self, jitter: f64) -> Self {
        Self { jitter, ..self }
    }

    /// The delay after so many failures in a row; none after no failure.
    pub fn delay(&self, failures: u32) -> Duration {
        let Some(growths) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        // Finite, as nothing times infinity is no number.
        let growth = self.factor.powf(f64::from(growths)).min(f64::MAX);
        let grown = self.first.as_secs_f64() * growth;
        let bounded = grown.min(self.longest.as_secs_f64());
        let part = match self.jitter {
            0.0 => 1.0,
            jitter => rand::rng().random_range(1.0 - jitter..=1.0 + jitter),
        };
        Duration::try_from_secs_f64(bounded * part).unwrap_or(self.longest)
    }
}

/// The delays of one thing that is tried again and again.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: BackoffPolicy,
    failures: u32,
}

impl Backoff {
    /// Before any failure.
    pub const fn new(policy: BackoffPolicy) -> Self {
        Self {
            policy,
            failures: 0,
        }
    }

    /// Counts a failure: how long to wait before the next attempt.
    #[expect(
        clippy::should_implement_trait,
        reason = "delays are no end of an iteration"
    )]
    pub fn next(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.policy.delay(self.failures)
    }

    /// An attempt succeeded: the next failure is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Whether the last attempt failed.
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BackoffPolicy =
        BackoffPolicy::doubling(Duration::from_secs(1), Duration::from_secs(5));

    #[test]
    fn delays_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(POLICY);
        assert!(!backoff.has_failed());
        let mut next = || backoff.next().as_secs();
        assert_eq!([next(), next(), next(), next(), next()], [1, 2, 4, 5, 5]);
        assert!(backoff.has_failed());
        backoff.reset();
        assert_eq!(backoff.next().as_secs(), 1);
        assert_eq!(POLICY.delay(0), Duration::ZERO);
        assert_eq!(POLICY.delay(u32::MAX), Duration::from_secs(5));
    }

    #[test]
    fn no_first_delay_stays_none_however_many_failures_follow() {
        let policy = BackoffPolicy::doubling(Duration::ZERO, Duration::from_secs(5));
        assert_eq!(policy.delay(1), Duration::ZERO);
        assert_eq!(policy.delay(u32::MAX), Duration::ZERO);
    }

    #[test]
    fn jitter_keeps_a_delay_within_its_part_and_makes_delays_differ() {
        let policy = POLICY.with_jitter(0.2);
        let delays: Vec<f64> = (0..100).map(|_| policy.delay(2).as_secs_f64()).collect();
        assert!(delays.iter().all(|delay| (1.6..=2.4).contains(delay)));
        assert!(delays.iter().any(|delay| *delay != delays[0]));
    }
}
