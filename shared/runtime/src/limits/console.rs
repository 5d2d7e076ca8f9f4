//! Limits of commands, and of what the program offers around its services.

use super::{millis, secs};

limits! {
    /// Limits of commands, and of what the program offers around its services.
    ConsoleLimits {
        /// How long a command waits for a database that does not answer.
        database = secs(10);
        /// A repository's directory that does not answer within this time counts as unreadable.
        repository = secs(10);
        /// How often the shown progress is updated.
        redraw_every = millis(200);
        /// How often `run now --wait` reads the run's state.
        run_look_every = millis(300);
        /// How often `status --watch` reads the states again.
        status_every = secs(1);
        /// How long a process may take to answer `health`.
        health = secs(5);
        /// How long a connection to the health endpoint may last; each serves one request.
        http_connection = secs(10);
        /// The pause after a connection could not be accepted, for example because too many files are open.
        http_accept_pause = millis(200);
        /// How often systemd is told the status of the process.
        systemd_status_every = secs(1);
        /// How often `demo` looks whether its processes still run.
        demo_look_every = millis(500);
        /// How long the processes of `demo` may take to end in order.
        demo_stop = secs(15);
        /// How often it is looked whether they have.
        demo_stop_look_every = millis(20);
    }
}
