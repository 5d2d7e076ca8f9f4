//! Whether the database answers, as this process sees it. An outage is logged once when it begins and once when it is
//! over, however many parts of the process wait for the database.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::LIMITS;

/// The availability of the database. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Availability {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// The number of outages that are over.
    outages_over: watch::Sender<u64>,
    refused: AtomicU64,
    unanswered: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Since when there has been no answer; none: the database answers.
    unavailable_since: Option<Instant>,
    /// The present outage has been logged.
    is_logged: bool,
    answered_at: Option<Instant>,
    /// When the last outage ended.
    ended_at: Option<Instant>,
    /// The number of outages that have begun.
    outages: u64,
}

impl State {
    /// The outage has not been logged, and is not the last one going on for a moment.
    fn is_to_be_logged(&self) -> bool {
        !self.is_logged
            && self
                .ended_at
                .is_none_or(|at| at.elapsed() > LIMITS.database.same_outage)
    }
}

/// How many statements of a process failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatementErrors {
    /// The database answered them with an error.
    pub refused: u64,
    /// They got no answer.
    pub unavailable: u64,
}

impl Availability {
    /// A question that was asked at `asked_at` got no answer. `what` is what waits for it now.
    pub fn no_answer(&self, what: &str, asked_at: Instant, error: &dyn Display) {
        let mut state = self.state();
        // An error of a question from before the last answer says nothing about the present.
        if state.unavailable_since.is_none() && state.answered_at.is_some_and(|at| at > asked_at) {
            tracing::debug!(what, %error, "waits for the database");
            return;
        }
        if state.unavailable_since.is_none() {
            state.unavailable_since = Some(asked_at);
            state.is_logged = false;
            state.outages += 1;
        }
        if state.is_to_be_logged() {
            state.is_logged = true;
            tracing::warn!(what, %error, "waiting for the database; work that does not need it goes on");
        } else {
            tracing::debug!(what, %error, "waits for the database");
        }
    }

    /// A question that was asked at `asked_at` was answered.
    pub fn answered(&self, asked_at: Instant) {
        let mut state = self.state();
        let now = Instant::now();
        state.answered_at = Some(now);
        let Some(since) = state.unavailable_since.take_if(|since| asked_at >= *since) else {
            return;
        };
        state.ended_at = Some(now);
        if state.is_logged {
            tracing::info!(
                away_secs = since.elapsed().as_secs(),
                "the database answers again"
            );
        }
        self.shared.outages_over.send_modify(|over| *over += 1);
    }

    /// How long the database has given no answer; none: it answers.
    pub fn unavailable_for(&self) -> Option<Duration> {
        self.state().unavailable_since.map(|since| since.elapsed())
    }

    /// How many outages this process has met.
    pub fn outages(&self) -> u64 {
        self.state().outages
    }

    /// Changes with every outage that is over from now on.
    pub fn outages_over(&self) -> watch::Receiver<u64> {
        self.shared.outages_over.subscribe()
    }

    /// Counts a statement that the database answered with an error.
    pub fn count_refused(&self) {
        self.shared.refused.fetch_add(1, Relaxed);
    }

    /// Counts a statement that got no answer.
    pub fn count_unanswered(&self) {
        self.shared.unanswered.fetch_add(1, Relaxed);
    }

    /// The statements that failed so far.
    pub fn statement_errors(&self) -> StatementErrors {
        StatementErrors {
            refused: self.shared.refused.load(Relaxed),
            unavailable: self.shared.unanswered.load(Relaxed),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_ends_with_an_answer_to_a_question_asked_after_it_began() {
        let availability = Availability::default();
        let over = availability.outages_over();
        let early = Instant::now();
        availability.answered(Instant::now());
        availability.no_answer("a late error", early, &"of the past");
        assert!(
            availability.unavailable_for().is_none(),
            "an error from before the last answer is no outage"
        );
        let asked = Instant::now();
        availability.no_answer("a test", asked, &"nobody there");
        availability.no_answer("another", Instant::now(), &"nobody there");
        assert_eq!(availability.outages(), 1);
        availability.answered(early);
        assert_eq!(*over.borrow(), 0, "an old answer ends nothing");
        availability.answered(Instant::now());
        assert_eq!(*over.borrow(), 1);
        availability.no_answer("a test", Instant::now(), &"gone again");
        assert!(
            !availability.state().is_logged,
            "the same outage is not logged twice"
        );
        availability.state().ended_at = Instant::now().checked_sub(LIMITS.database.same_outage * 2);
        availability.no_answer("another", Instant::now(), &"still gone");
        assert!(
            availability.state().is_logged,
            "an outage that goes on is logged"
        );
        availability.answered(Instant::now());
        assert_eq!(*over.borrow(), 2);
    }
}
