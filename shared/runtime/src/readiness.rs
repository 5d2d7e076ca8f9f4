//! Whether the components of a process can work now, and if not, why: for load balancers, orchestrators and people.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

#[derive(Debug)]
struct Entry {
    id: u64,
    name: &'static str,
    /// Why the component cannot work; none if it can.
    unready_reason: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Components {
    all: Vec<Entry>,
    next_id: u64,
}

/// The readiness of a process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    components: Arc<Mutex<Components>>,
}

impl Readiness {
    /// Adds a component, which starts and is not ready yet.
    pub fn component(&self, name: &'static str) -> Component {
        let mut components = self.components();
        let id = components.next_id;
        components.next_id += 1;
        components.all.push(Entry {
            id,
            name,
            unready_reason: Some("starts"),
        });
        Component {
            readiness: self.clone(),
            id,
        }
    }

    /// Why one of the components cannot work now; none if all can. A process without any has not started them yet.
    pub fn unready_reason(&self) -> Option<String> {
        let components = self.components();
        if components.all.is_empty() {
            return Some("starts".to_owned());
        }
        components
            .all
            .iter()
            .find_map(|one| Some(format!("{} {}", one.name, one.unready_reason?)))
    }

    fn components(&self) -> MutexGuard<'_, Components> {
        self.components.lock()
    }
}

/// A component of the process, scheduler or worker, until this value is dropped.
#[derive(Debug)]
pub struct Component {
    readiness: Readiness,
    id: u64,
}

impl Component {
    /// It can work.
    pub fn ready(&self) {
        self.set(None);
    }

    /// It cannot work, for this reason, which continues a sentence that begins with the component's name.
    pub fn unready(&self, reason: &'static str) {
        self.set(Some(reason));
    }

    fn set(&self, unready_reason: Option<&'static str>) {
        let mut components = self.readiness.components();
        if let Some(entry) = components.all.iter_mut().find(|one| one.id == self.id) {
            entry.unready_reason = unready_reason;
        }
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        let mut components = self.readiness.components();
        components.all.retain(|one| one.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_all_its_components_can_work() {
        let readiness = Readiness::default();
        let now = || readiness.unready_reason();
        assert_eq!(now().as_deref(), Some("starts"));
        let scheduler = readiness.component("the scheduler");
        let worker = readiness.component("the worker");
        assert_eq!(now().as_deref(), Some("the scheduler starts"));
        scheduler.ready();
        assert_eq!(now().as_deref(), Some("the worker starts"));
        worker.ready();
        assert_eq!(now(), None);
        worker.unready("drains");
        assert_eq!(now().as_deref(), Some("the worker drains"));
        drop(worker);
        assert_eq!(now(), None);
    }
}
