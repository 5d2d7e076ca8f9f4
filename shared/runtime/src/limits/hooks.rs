//! Limits of hooks. How long a command may run is set for each hook.

use super::{millis, secs};

limits! {
    /// Limits of hooks.
    HookLimits {
        /// How often a process looks for a due hook, and tries to record the end of one.
        poll_every = secs(1);
        /// How long a command has to end after SIGTERM, before SIGKILL.
        termination = secs(5);
        /// How long the output is read after the command's end: its background processes may hold the pipe open.
        output = millis(500);
        /// How long a process that ends waits until its hooks are killed and handed over.
        stop = secs(8);
    }
}
