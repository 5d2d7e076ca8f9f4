//! Tells how far work on files is, stops at failpoints, and waits while the work may not go on.

use std::{collections::HashMap, time::Instant};

use parking_lot::{Condvar, Mutex};
use virtuozo_child_process::Line;
use virtuozo_repository::Stopped;
use virtuozo_runtime::LIMITS;

use crate::file_work::{FileNews, FileQuestion, StopPlace};

/// Tells the progress of one work.
pub(super) struct Teller<'a> {
    pub(super) line: &'a Line,
    /// When each file was told.
    told: Mutex<HashMap<String, Instant>>,
    /// Where failpoints are ahead.
    ahead: Mutex<Vec<StopPlace>>,
    changed: Condvar,
}

impl<'a> Teller<'a> {
    /// Asks at `stops` whether to go on.
    pub(super) fn new(line: &'a Line, stops: Vec<StopPlace>) -> Self {
        Self {
            line,
            told: Mutex::default(),
            ahead: Mutex::new(stops),
            changed: Condvar::new(),
        }
    }

    /// So much of a file is done. Not each step is told, but the first and the last.
    pub(super) fn moved(&self, label: &str, done_bytes: u64, total_bytes: u64) {
        let is_due = {
            let mut told = self.told.lock();
            let now = Instant::now();
            let last = told.get(label);
            let is_due = done_bytes == 0
                || done_bytes == total_bytes
                || last.is_none_or(|last| now - *last >= LIMITS.files.tell_every);
            if is_due {
                told.insert(label.to_owned(), now);
            }
            is_due
        };
        if is_due {
            self.line.tell(&FileNews::Moved {
                label: label.to_owned(),
                done_bytes,
                total_bytes,
            });
        }
    }

    /// Asks whether to go on, if there is a failpoint here.
    pub(super) fn at(&self, place: StopPlace) {
        let was_ahead = {
            let mut ahead = self.ahead.lock();
            let before = ahead.len();
            ahead.retain(|one| *one != place);
            before > ahead.len()
        };
        if was_ahead {
            self.changed.notify_all();
            // Whoever is gone lets nothing go on.
            let _ = self.line.ask(&FileQuestion::At(place));
        }
    }

    /// Waits until another thread reaches this place, if there is a failpoint.
    pub(super) fn not_past(&self, place: StopPlace) {
        let mut ahead = self.ahead.lock();
        while ahead.contains(&place) {
            self.changed.wait(&mut ahead);
        }
    }

    /// Waits until the work may go on.
    pub(super) fn wait_allowed(&self) -> Result<(), Stopped> {
        self.line.wait_allowed().map_err(|error| Stopped {
            reason: error.to_string(),
        })
    }
}
