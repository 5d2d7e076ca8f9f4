//! Whether the database answers, as this process sees it: said once when it falls silent and once when it
//! answers again, however many parts of the process wait for it.

use std::{
    fmt::Display,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

/// A silence so soon after the last one is part of it: a link that comes and goes is said once. One that goes on is
/// said when this is over.
const SAME_OUTAGE: Duration = Duration::from_secs(10);

struct Sight {
    /// Since when nothing has been heard, if that is so.
    silent_since: Option<Instant>,
    /// The present silence has been said.
    said: bool,
    answered_at: Option<Instant>,
    ended_at: Option<Instant>,
    /// How many outages have begun.
    begun: u64,
}

impl Sight {
    /// It has not been said, and is not the last outage going on for a moment.
    fn is_to_be_said(&self) -> bool {
        !self.said && self.ended_at.is_none_or(|at| at.elapsed() > SAME_OUTAGE)
    }
}

static SIGHT: Mutex<Sight> = Mutex::new(Sight {
    silent_since: None,
    said: false,
    answered_at: None,
    ended_at: None,
    begun: 0,
});

/// Counts the outages that are over.
static OVER: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

fn sight() -> MutexGuard<'static, Sight> {
    // No holder can leave it half changed.
    SIGHT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something that was asked at `asked_at` got no answer. `what` is what waits for it now.
pub fn silent(what: &str, asked_at: Instant, error: &dyn Display) {
    let mut sight = sight();
    // A question from before the last answer tells of the past.
    if sight.silent_since.is_none() && sight.answered_at.is_some_and(|at| at > asked_at) {
        tracing::debug!(what, %error, "waits for the database");
        return;
    }
    if sight.silent_since.is_none() {
        sight.silent_since = Some(asked_at);
        sight.said = false;
        sight.begun += 1;
    }
    if sight.is_to_be_said() {
        sight.said = true;
        tracing::warn!(what, %error, "waiting for the database; work that needs no word with it goes on");
    } else {
        tracing::debug!(what, %error, "waits for the database");
    }
}

/// Something that was asked at `asked_at` was answered.
pub fn answered(asked_at: Instant) {
    let mut sight = sight();
    let now = Instant::now();
    sight.answered_at = Some(now);
    let Some(since) = sight.silent_since.take_if(|since| asked_at >= *since) else {
        return;
    };
    sight.ended_at = Some(now);
    if sight.said {
        tracing::info!(
            away_secs = since.elapsed().as_secs(),
            "the database answers again"
        );
    }
    OVER.send_modify(|outages| *outages += 1);
}

/// How long the database has been silent, if it is.
pub fn silent_for() -> Option<Duration> {
    sight().silent_since.map(|since| since.elapsed())
}

/// How many outages this process has met.
pub fn count() -> u64 {
    sight().begun
}

/// Tells of every outage that is over from now on.
pub fn over() -> watch::Receiver<u64> {
    OVER.subscribe()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, as the state is the process's.
    #[test]
    fn an_outage_ends_with_an_answer_to_a_question_asked_after_it_began() {
        let over = over();
        let before = *over.borrow();
        let early = Instant::now();
        answered(Instant::now());
        silent("a late error", early, &"of the past");
        assert!(
            sight().silent_since.is_none(),
            "an error from before the last answer is no outage"
        );
        let asked = Instant::now();
        silent("a test", asked, &"nobody there");
        silent("another", Instant::now(), &"nobody there");
        answered(early);
        assert_eq!(*over.borrow(), before, "an old answer ends nothing");
        answered(Instant::now());
        assert_eq!(*over.borrow(), before + 1);
        silent("a test", Instant::now(), &"gone again");
        assert!(!sight().said, "the same outage is not said twice");
        sight().ended_at = Instant::now().checked_sub(SAME_OUTAGE * 2);
        silent("another", Instant::now(), &"still gone");
        assert!(sight().said, "a silence that goes on is said");
        answered(Instant::now());
        assert_eq!(*over.borrow(), before + 2);
    }
}
