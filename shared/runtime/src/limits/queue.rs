//! Limits of the queues of jobs.

use super::{millis, secs};
use crate::BackoffPolicy;

limits! {
    /// Limits of queues of jobs.
    QueueLimits {
        /// How often a queue is polled without a notification: for jobs with a delay, and for lost notifications.
        poll_every = millis(500);
        /// How many heartbeats in a row ([`super::ProcessLimits::heartbeat_every`]) a claimer may miss; after one more it
        /// counts as dead.
        missed_heartbeats (usize) = 12;
        /// The pauses before restarts of a queue's loop.
        restarts (BackoffPolicy) = BackoffPolicy::doubling(millis(250), secs(10));
        /// The loop asks far more often than this; if nothing was answered for so long it hangs.
        silence = secs(20);
        /// How long the database may take for the answer to nothing.
        answer = secs(15);
        /// How long jobs that were just claimed may take to be handed over when the process stops, and connections to
        /// close.
        stop = secs(5);
        /// The pause of the job listener after an error; meanwhile the queues are polled.
        listener_pause = secs(1);
    }
}
