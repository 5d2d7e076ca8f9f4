//! Whether the loops of this process turn: each says so once a turn, and who watches over the process
//! (systemd's watchdog, a health endpoint) asks whether one of them stands still. A loop that bears an
//! outage of the database turns too.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

struct Loop {
    id: u64,
    what: &'static str,
    limit: Duration,
    turned_at: Instant,
}

struct Loops {
    all: Vec<Loop>,
    next_id: u64,
}

static LOOPS: Mutex<Loops> = Mutex::new(Loops {
    all: Vec::new(),
    next_id: 0,
});

fn loops() -> MutexGuard<'static, Loops> {
    // No holder can leave it half changed.
    LOOPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A loop that is watched from now on, until this value goes.
#[derive(Debug)]
pub struct Watched {
    id: u64,
}

/// Watches a loop: from now on a turn of it may take as long as `limit`.
pub fn watch(what: &'static str, limit: Duration) -> Watched {
    let mut loops = loops();
    let id = loops.next_id;
    loops.next_id += 1;
    loops.all.push(Loop {
        id,
        what,
        limit,
        turned_at: Instant::now(),
    });
    Watched { id }
}

impl Watched {
    /// To be called once in each turn of the loop.
    pub fn turned(&self) {
        if let Some(this) = loops().all.iter_mut().find(|one| one.id == self.id) {
            this.turned_at = Instant::now();
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // A loop that ends by a panic is to be missed.
        if !std::thread::panicking() {
            loops().all.retain(|one| one.id != self.id);
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

/// Whether one of the loops stands still, and which.
pub fn standstill() -> Option<Standstill> {
    loops().all.iter().find_map(|one| {
        let since = one.turned_at.elapsed();
        (since > one.limit).then_some(Standstill {
            what: one.what,
            since,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, as the loops are the process's.
    #[test]
    fn a_loop_stands_still_from_its_limit_on_until_it_turns_or_ends() {
        let patient = watch("patient loops", Duration::from_secs(3600));
        let brisk = watch("brisk loops", Duration::from_millis(1));
        while standstill().is_none() {
            std::thread::yield_now();
        }
        let found = standstill().map(|stands| stands.what);
        assert_eq!(found, Some("brisk loops"));
        brisk.turned();
        // It may stand still again by now: its turn counts for a millisecond only.
        drop(brisk);
        assert_eq!(standstill(), None);
        drop(patient);

        let panics = std::thread::spawn(|| {
            let _broken = watch("broken loops", Duration::ZERO);
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(panics.join().is_err());
        let found = standstill().map(|stands| stands.what);
        assert_eq!(found, Some("broken loops"));
        loops().all.retain(|one| one.what != "broken loops");
    }
}
