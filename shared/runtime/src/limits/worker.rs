//! Limits of workers.

use super::{millis, secs};
use crate::BackoffPolicy;

limits! {
    /// Limits of workers. Those of the hosts' answers are the back ends'.
    WorkerLimits {
        /// The pause after a heartbeat without an answer: other processes may take this worker for dead.
        missed_heartbeat_pause = secs(1);
        /// Longest time between two heartbeats, answered or not; the process does not count as live after it.
        heartbeats_standstill = secs(60);
        /// How long a worker that ends waits for the database to record its end.
        farewell = secs(2);
        /// How long a worker that is told to end finishes what it does, unless the administrator sets another time.
        drain = secs(600);
        /// The same for one that ends because its parent process has ended.
        drain_of_child = secs(10);
        /// How often back ends are probed while all can be served.
        probe_every = secs(600);
        /// How often a machine is looked at again for what it lacks: a back end, a location.
        probe_again_every = secs(30);
        /// How long one attempt to take a lease may take: less than a lease lasts by default, since one that is taken later
        /// is over before it is used.
        begin = secs(8);
        /// How long powering a guest on may take, or cutting its power.
        power = secs(120);
        /// How long an unused connection stays open for the next job of the same host.
        unused_connection = secs(3);
        /// How often the progress of long work is recorded.
        progress_every = secs(1);
        /// How long recording the progress may take.
        progress = secs(1);
        /// How often the space of repositories is measured.
        space_every = secs(60);
        /// A storage that takes longer to answer counts as hung.
        space = secs(20);
        /// A mount that takes longer to answer counts as not there.
        mount = secs(5);
        /// How long the datastores of a host may be looked for.
        datastore_search = secs(60);
        /// The pauses between two attempts of a statement while the database is away.
        statements (BackoffPolicy) = BackoffPolicy::doubling(millis(100), secs(3));
        /// The longest delay before another attempt of a run, before jitter. The first one is a setting.
        run_delay = secs(3600);
        /// How often a worker that is paused at a failpoint looks whether to go on.
        failpoint_look_every = millis(50);
    }
}
