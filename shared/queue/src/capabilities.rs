//! What a process can do, held against what jobs need when it claims them.

use tokio::sync::watch;

/// What the job of no host needs, or one whose host is not known: every process may claim it.
const NOTHING: &str = "";

/// The kinds of host that a process serves now. It claims no job of another kind.
#[derive(Debug, Clone)]
pub struct Capabilities(watch::Receiver<Vec<String>>);

impl Capabilities {
    /// Those that are served change while the process runs.
    pub fn of_kinds(kinds: watch::Receiver<Vec<String>>) -> Self {
        Self(kinds)
    }

    /// For jobs that need no host.
    pub fn none() -> Self {
        Self(watch::channel(Vec::new()).1)
    }

    /// The values of `needs_kind` of jobs that can be done now.
    pub(super) fn now(&self) -> Vec<String> {
        let mut kinds = self.0.borrow().clone();
        kinds.push(NOTHING.to_owned());
        kinds
    }
}
