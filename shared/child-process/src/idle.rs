//! Processes of files that wait for work.

use std::sync::Arc;

use parking_lot::Mutex;
use virtuozo_runtime::LIMITS;

use crate::connection::Connection;

/// Processes that are done with their work. Each waits for the next for a while, and ends then.
#[derive(Debug, Clone, Default)]
pub(crate) struct Idle(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    /// The number that the next one gets.
    next: u64,
    all: Vec<(u64, Connection)>,
}

impl Idle {
    /// The process that has waited the shortest.
    pub(crate) fn take(&self) -> Option<Connection> {
        loop {
            let (_, mut connection) = self.0.lock().all.pop()?;
            if connection.is_waiting() {
                return Some(connection);
            }
        }
    }

    /// Keeps a process for the next work. A thread is not kept.
    pub(crate) fn keep(&self, connection: Connection) {
        if connection.is_of_thread() {
            return;
        }
        let number = {
            let mut waiting = self.0.lock();
            if waiting.all.len() >= LIMITS.files.idle_processes {
                return;
            }
            waiting.next += 1;
            let number = waiting.next;
            waiting.all.push((number, connection));
            number
        };
        let waiting = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            tokio::time::sleep(LIMITS.files.idle).await;
            if let Some(waiting) = waiting.upgrade() {
                waiting.lock().all.retain(|(one, _)| *one != number);
            }
        });
    }
}
