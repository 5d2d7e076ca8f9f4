//! Whether this process can work now, and if not, why: for load balancers, orchestrators and people. One that
//! waits for the database is not ready, and not ill either: see [`liveness`].

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{liveness, outage};

struct Part {
    id: u64,
    name: &'static str,
    /// Why it cannot work; none if it can.
    waits: Option<&'static str>,
}

struct Parts {
    all: Vec<Part>,
    next_id: u64,
}

static PARTS: Mutex<Parts> = Mutex::new(Parts {
    all: Vec::new(),
    next_id: 0,
});

fn parts() -> MutexGuard<'static, Parts> {
    // No holder can leave it half changed.
    PARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A part of this process, scheduler or worker, until this value goes.
#[derive(Debug)]
pub struct Standing {
    id: u64,
}

/// A part that begins, and is not ready yet.
pub fn starts(name: &'static str) -> Standing {
    let mut parts = parts();
    let id = parts.next_id;
    parts.next_id += 1;
    parts.all.push(Part {
        id,
        name,
        waits: Some("starts"),
    });
    Standing { id }
}

impl Standing {
    /// It can work.
    pub fn is_ready(&self) {
        self.set(None);
    }

    /// It cannot, for this reason.
    pub fn waits(&self, why: &'static str) {
        self.set(Some(why));
    }

    fn set(&self, waits: Option<&'static str>) {
        if let Some(part) = parts().all.iter_mut().find(|part| part.id == self.id) {
            part.waits = waits;
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        parts().all.retain(|part| part.id != self.id);
    }
}

/// Why this process cannot work now; none if it can.
pub fn obstacle() -> Option<String> {
    if let Some(standstill) = liveness::standstill() {
        return Some(standstill.to_string());
    }
    obstacle_during(outage::silent_for())
}

fn obstacle_during(silence: Option<Duration>) -> Option<String> {
    if let Some(silence) = silence {
        return Some(format!(
            "waits for the database, which has been silent for {} s",
            silence.as_secs()
        ));
    }
    let parts = parts();
    if parts.all.is_empty() {
        // It has not come so far.
        return Some("starts".to_owned());
    }
    parts
        .all
        .iter()
        .find_map(|part| Some(format!("{} {}", part.name, part.waits?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, as the parts are the process's.
    #[test]
    fn a_process_is_ready_when_the_database_answers_and_all_its_parts_can_work() {
        let now = || obstacle_during(None);
        assert_eq!(now().as_deref(), Some("starts"));
        let (scheduler, worker) = (starts("the scheduler"), starts("the worker"));
        assert_eq!(now().as_deref(), Some("the scheduler starts"));
        scheduler.is_ready();
        assert_eq!(now().as_deref(), Some("the worker starts"));
        worker.is_ready();
        assert_eq!(now(), None);
        let why = obstacle_during(Some(Duration::from_secs(7))).unwrap();
        assert!(why.contains("database") && why.contains("7 s"), "{why}");
        worker.waits("drains");
        assert_eq!(now().as_deref(), Some("the worker drains"));
        drop(worker);
        assert_eq!(now(), None);
    }
}
