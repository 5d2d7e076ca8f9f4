//! Pauses between two looks at something that comes to its end by itself: short at first, longer with each look.

use std::time::Duration;

/// Pauses that double from look to look, up to a longest one.
#[derive(Debug, Clone)]
pub(super) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    /// Before the first look.
    pub(super) const fn doubling(first: Duration, longest: Duration) -> Self {
        Self {
            next: first,
            longest,
        }
    }

    /// How long to wait before the next look.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next.min(self.longest);
        self.next = pause.saturating_mul(2);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut pauses = Pauses::doubling(Duration::from_secs(1), Duration::from_secs(5));
        let mut next = || pauses.next().as_secs();
        assert_eq!([next(), next(), next(), next(), next()], [1, 2, 4, 5, 5]);
    }
}
