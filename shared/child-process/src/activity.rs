//! Whether the threads of this process move, as the kernel sees it.

use std::{collections::BTreeMap, fs};

use rustix::thread::gettid;

/// The processor's time that counts as a move by itself, in nanoseconds: some tens of calls on files. A client of a network
/// file system that tries again and again in the thread that waits needs less.
const MOVE_NS: u64 = 1_000_000;

/// The moves of all threads but those that only speak with the other process.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Threads that are not looked at.
    apart: Vec<i32>,
    /// Reads and writes of each thread that have returned.
    calls: BTreeMap<i32, u64>,
    /// The processor's time of all threads at the last move.
    ran_ns: u64,
    moves: u64,
}

impl Activity {
    /// Leaves out the thread that calls this, and `reader`.
    pub(crate) fn apart_from(reader: i32) -> Self {
        Self {
            apart: vec![reader, this_thread()],
            ..Self::default()
        }
    }

    /// The number of moves that were seen.
    pub(crate) fn look(&mut self) -> u64 {
        let mut calls = BTreeMap::new();
        let mut ran_ns = 0_u64;
        for thread in fs::read_dir("/proc/self/task")
            .into_iter()
            .flatten()
            .flatten()
        {
            let Some(id) = thread.file_name().to_str().and_then(|id| id.parse().ok()) else {
                continue;
            };
            if self.apart.contains(&id) {
                continue;
            }
            let read =
                |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            calls.insert(id, returned(&read("io")));
            ran_ns = ran_ns.saturating_add(ran(&read("schedstat")));
        }
        // A thread that has ended takes its time along.
        if calls != self.calls || ran_ns < self.ran_ns || ran_ns - self.ran_ns >= MOVE_NS {
            self.calls = calls;
            self.ran_ns = ran_ns;
            self.moves += 1;
        }
        self.moves
    }
}

/// The kernel's number of the thread that calls this.
pub(crate) fn this_thread() -> i32 {
    gettid().as_raw_nonzero().get()
}

/// The calls in `/proc/…/io`.
fn returned(io: &str) -> u64 {
    let counts = io.lines().filter_map(|line| {
        let count = line
            .strip_prefix("syscr: ")
            .or_else(|| line.strip_prefix("syscw: "))?;
        count.trim().parse::<u64>().ok()
    });
    counts.fold(0, u64::saturating_add)
}

/// The time in `/proc/…/schedstat`.
fn ran(schedstat: &str) -> u64 {
    let first = schedstat.split_whitespace().next();
    first.and_then(|ns| ns.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        sync::mpsc,
        thread,
        time::Duration,
    };

    use super::*;

    #[test]
    fn what_the_kernel_says_of_a_thread_is_read() {
        assert_eq!(
            returned("rchar: 9\nsyscr: 12\nsyscw: 30\nread_bytes: 4\n"),
            42
        );
        assert_eq!(ran("1103750 1870089 3\n"), 1_103_750);
        assert_eq!((returned(""), ran("")), (0, 0));
    }

    /// Looks only at one thread: other tests run beside this one.
    fn of(thread: i32) -> Activity {
        let others = fs::read_dir("/proc/self/task").unwrap().flatten();
        let apart = others
            .filter_map(|one| one.file_name().to_str()?.parse().ok())
            .filter(|id| *id != thread)
            .collect();
        Activity {
            apart,
            ..Activity::default()
        }
    }

    #[test]
    fn a_thread_that_waits_for_a_file_does_not_move_and_one_whose_call_returned_does() {
        let (mut from, mut to) = std::io::pipe().unwrap();
        let (told, hear) = mpsc::channel();
        let reading = thread::spawn(move || {
            let mut byte = [0];
            loop {
                told.send(this_thread()).unwrap();
                if from.read(&mut byte).unwrap() == 0 {
                    return;
                }
            }
        });
        let id = hear.recv().unwrap();
        let mut activity = of(id);
        // It may still be on its way into the call.
        while {
            let before = activity.look();
            thread::sleep(Duration::from_millis(20));
            activity.look() != before
        } {}
        let still = activity.look();
        to.write_all(b"x").unwrap();
        hear.recv().unwrap();
        assert!(activity.look() > still);
        drop(to);
        reading.join().unwrap();
    }
}
