//! Whether the loops of a process turn: each reports every turn, and whoever watches the process (systemd's watchdog,
//! a health endpoint) asks whether one of them stands still. A loop that waits for the database turns too.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};

#[derive(Debug)]
struct Loop {
    id: u64,
    what: &'static str,
    limit: Duration,
    turned_at: Instant,
}

#[derive(Debug, Default)]
struct Loops {
    all: Vec<Loop>,
    next_id: u64,
}

/// The liveness of a process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Liveness {
    loops: Arc<Mutex<Loops>>,
}

impl Liveness {
    /// Watches a loop: from now on a turn of it may take as long as `limit`.
    pub fn watch(&self, what: &'static str, limit: Duration) -> WatchedLoop {
        let mut loops = self.loops();
        let id = loops.next_id;
        loops.next_id += 1;
        loops.all.push(Loop {
            id,
            what,
            limit,
            turned_at: Instant::now(),
        });
        WatchedLoop {
            liveness: self.clone(),
            id,
        }
    }

    /// The first loop that stands still; none: all turn.
    pub fn standstill(&self) -> Option<Standstill> {
        self.loops().all.iter().find_map(|one| {
            let since = one.turned_at.elapsed();
            (since > one.limit).then_some(Standstill {
                what: one.what,
                since,
            })
        })
    }

    fn loops(&self) -> MutexGuard<'_, Loops> {
        self.loops.lock()
    }
}

/// A loop that is watched until this value is dropped.
#[derive(Debug)]
pub struct WatchedLoop {
    liveness: Liveness,
    id: u64,
}

impl WatchedLoop {
    /// To be called once in each turn of the loop.
    pub fn turned(&self) {
        if let Some(this) = self
            .liveness
            .loops()
            .all
            .iter_mut()
            .find(|one| one.id == self.id)
        {
            this.turned_at = Instant::now();
        }
    }
}

impl Drop for WatchedLoop {
    fn drop(&mut self) {
        // A loop that ended by a panic stays, and counts as one that stands still.
        if !std::thread::panicking() {
            self.liveness.loops().all.retain(|one| one.id != self.id);
        }
    }
}

/// A loop that should have turned and has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} have stood still for {} seconds", since.as_secs())]
pub struct Standstill {
    /// What the loop does.
    pub what: &'static str,
    /// How long ago it turned last.
    pub since: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing_still(liveness: &Liveness) -> Option<&'static str> {
        liveness.standstill().map(|standstill| standstill.what)
    }

    #[test]
    fn a_loop_stands_still_from_its_limit_on_until_it_turns_or_ends() {
        let liveness = Liveness::default();
        let _slow = liveness.watch("slow loops", Duration::from_secs(3600));
        let brisk = liveness.watch("brisk loops", Duration::from_millis(1));
        while liveness.standstill().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(standing_still(&liveness), Some("brisk loops"));
        brisk.turned();
        // It may stand still again by now: its turn counts for a millisecond only.
        drop(brisk);
        assert_eq!(standing_still(&liveness), None);
    }

    #[test]
    fn a_loop_that_ended_by_a_panic_stands_still() {
        let liveness = Liveness::default();
        let broken = liveness.watch("broken loops", Duration::ZERO);
        let panics = std::thread::spawn(move || {
            let _broken = broken;
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(panics.join().is_err());
        assert_eq!(standing_still(&liveness), Some("broken loops"));
    }
}
