//! The progress of a step that reads all bytes of a guest: the copy, or its verification.

use chrono::{DateTime, Utc};
use virtuozo_store::views::{GuestLine, GuestRunLine};

/// The progress of a step that reads all bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepProgress {
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; not 0.
    pub total: u64,
    /// The average rate since the step began; none before any time has passed.
    pub bytes_per_sec: Option<u64>,
}

impl StepProgress {
    /// Progress from the counters of a guest run; `None` while the total is unknown.
    pub fn new(
        done: i64,
        total: Option<i64>,
        started_at: Option<DateTime<Utc>>,
        progress_at: Option<DateTime<Utc>>,
    ) -> Option<Self> {
        let total = u64::try_from(total?).ok().filter(|total| *total > 0)?;
        let done = u64::try_from(done).unwrap_or(0).min(total);
        let millis = progress_at
            .zip(started_at)
            .and_then(|(to, from)| u64::try_from((to - from).num_milliseconds()).ok())
            .filter(|millis| *millis > 0);
        let bytes_per_sec = millis
            .and_then(|millis| done.checked_mul(1000).map(|bytes| bytes / millis))
            .filter(|rate| *rate > 0);
        Some(Self {
            done,
            total,
            bytes_per_sec,
        })
    }

    /// The progress of the current step of a guest run.
    pub fn of_guest_run(line: &GuestRunLine) -> Option<Self> {
        match (line.state.as_str(), line.step.as_deref()) {
            ("running", Some("copy")) => Self::new(
                line.bytes_copied,
                line.bytes_total,
                line.copy_started_at,
                line.progress_at,
            ),
            ("running", Some("verify")) => Self::new(
                line.verify_bytes_read.unwrap_or(0),
                line.verify_bytes_total,
                line.verify_started_at,
                line.progress_at,
            ),
            _ => None,
        }
    }

    /// The progress of the current step of a guest's open guest run.
    pub fn of_guest(line: &GuestLine) -> Option<Self> {
        match (line.run_state.as_deref(), line.step.as_deref()) {
            (Some("running"), Some("copy")) => Self::new(
                line.bytes_copied.unwrap_or(0),
                line.bytes_total,
                line.copy_started_at,
                line.progress_at,
            ),
            (Some("running"), Some("verify")) => Self::new(
                line.verify_bytes_read.unwrap_or(0),
                line.verify_bytes_total,
                line.verify_started_at,
                line.progress_at,
            ),
            _ => None,
        }
    }

    /// Seconds left at the average rate.
    pub fn secs_left(&self) -> Option<u64> {
        self.bytes_per_sec
            .map(|rate| (self.total - self.done).div_ceil(rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_a_rate_and_a_time_left_once_time_has_passed() {
        let at = |secs| DateTime::from_timestamp(secs, 0);
        let copy = StepProgress::new(50 << 20, Some(100 << 20), at(0), at(5)).unwrap();
        assert_eq!(copy.bytes_per_sec, Some(10 << 20));
        assert_eq!(copy.secs_left(), Some(5));
        let fresh = StepProgress::new(0, Some(100), at(0), at(0)).unwrap();
        assert_eq!(fresh.secs_left(), None);
        assert_eq!(StepProgress::new(0, None, at(0), at(1)), None);
        assert_eq!(StepProgress::new(0, Some(0), at(0), at(1)), None);
    }
}
