//! How a process stands: whether its database answers, its loops turn and its parts are ready. The program makes one
//! [`Health`] and hands it to whoever has something to say or to ask. And how long things wait: [`LIMITS`], [`Backoff`].

mod availability;
mod backoff;
mod limits;
mod liveness;
mod readiness;

pub use availability::{Availability, StatementErrors};
pub use backoff::{Backoff, BackoffPolicy};
pub use limits::{
    ConsoleLimits, DatabaseLimits, FileLimits, HookLimits, LIMITS, LeaderLimits, Limits,
    NoticeLimits, PrivateServerLimits, ProcessLimits, QueueLimits, SchedulerLimits, ServiceLimits,
    WorkerLimits,
};
pub use liveness::{Liveness, Standstill, WatchedLoop};
pub use readiness::{Component, Readiness};

/// The health of one process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Whether the database answers.
    pub availability: Availability,
    /// Whether the loops of the process turn.
    pub liveness: Liveness,
    /// Whether its components can work.
    pub readiness: Readiness,
}

impl Health {
    /// Why the process cannot work now; none if it can. One that waits for its database is alive, but not ready.
    pub fn unready_reason(&self) -> Option<String> {
        if let Some(standstill) = self.liveness.standstill() {
            return Some(standstill.to_string());
        }
        if let Some(silence) = self.availability.unavailable_for() {
            return Some(format!(
                "waits for the database, which has been silent for {} s",
                silence.as_secs()
            ));
        }
        self.readiness.unready_reason()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_process_is_ready_when_its_loops_turn_the_database_answers_and_all_components_can_work() {
        let health = Health::default();
        assert_eq!(health.unready_reason().as_deref(), Some("starts"));
        let worker = health.readiness.component("the worker");
        worker.ready();
        assert_eq!(health.unready_reason(), None);
        health
            .availability
            .no_answer("a test", Instant::now(), &"nobody there");
        let why = health.unready_reason().unwrap();
        assert!(why.contains("database") && why.contains("0 s"), "{why}");
        health.availability.answered(Instant::now());
        assert_eq!(health.unready_reason(), None);
        let stuck = health.liveness.watch("stuck loops", Duration::ZERO);
        while health.liveness.standstill().is_none() {
            std::thread::yield_now();
        }
        let why = health.unready_reason().unwrap();
        assert!(why.contains("stuck loops"), "{why}");
        drop(stuck);
        assert_eq!(health.unready_reason(), None);
    }

    #[test]
    fn two_healths_in_one_process_do_not_influence_each_other_and_clones_are_one() {
        let (one, other) = (Health::default(), Health::default());
        let clone = one.clone();
        one.readiness.component("a scheduler").ready();
        let component = one.readiness.component("a worker");
        let _stuck = one.liveness.watch("stuck loops", Duration::ZERO);
        one.availability
            .no_answer("a test", Instant::now(), &"nobody there");
        one.availability.count_unanswered();
        while one.liveness.standstill().is_none() {
            std::thread::yield_now();
        }
        assert!(clone.liveness.standstill().is_some());
        assert!(clone.availability.unavailable_for().is_some());
        assert_eq!(clone.availability.outages(), 1);
        assert_eq!(clone.availability.statement_errors().unavailable, 1);
        let reason = clone.readiness.unready_reason();
        assert_eq!(reason.as_deref(), Some("a worker starts"));

        assert_eq!(other.liveness.standstill(), None);
        assert_eq!(other.availability.unavailable_for(), None);
        assert_eq!(other.availability.outages(), 0);
        assert_eq!(
            other.availability.statement_errors(),
            StatementErrors::default()
        );
        assert_eq!(other.unready_reason().as_deref(), Some("starts"));
        drop(component);
    }
}
