//! Limits of the processes that read and write files. How long they may be silent is a setting.

use super::{millis, secs};

limits! {
    /// Limits of the processes that read and write files.
    FileLimits {
        /// How often a process says whether it moves, and how often that is looked at.
        look_every = millis(500);
        /// For how long work may go on without hearing that it still may: longer than some looks take, and shorter than a
        /// frozen process takes to lose its lease by default.
        allowed = secs(3);
        /// How often work tells how far it is with a file.
        tell_every = millis(100);
        /// How long nothing moves before that is told as a wait.
        tell_wait_after = secs(10);
        /// How long a process that was killed is waited for before it is left behind.
        end = secs(3);
        /// How long a process waits for the next work before it ends.
        idle = secs(60);
        /// How many processes wait for work at most.
        idle_processes (usize) = 16;
        /// How many bytes a second a medium is expected to sync at least: a sync may stand still for as long as that takes.
        sync_bytes_per_sec (u64) = 1 << 20;
    }
}
