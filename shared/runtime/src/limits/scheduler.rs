//! Limits of schedulers, and of the tasks of the one that leads.

use std::time::Duration;

use super::{millis, secs};

limits! {
    /// Limits of schedulers, leading or not.
    SchedulerLimits {
        /// The pause between two turns of the scheduler's own loop.
        turn_pause = secs(1);
        /// A turn is over by then, or nobody turns any more.
        standstill = secs(60);
        /// How long the database may take for a heartbeat. What takes longer waits for a connection that is dead.
        heartbeat = secs(30);
        /// How often a scheduler that does not lead tries to take the lead.
        lead_every = secs(1);
        /// The longest pause between attempts to take the lead that fail.
        lead_pause = secs(5);
        /// How long the database may take to give the lead.
        lead = secs(8);
        /// How often it is looked whether the lead is still certain; certainty ends more than a second before the lease.
        lead_look_every = millis(250);
        /// How long all that is under way may take when the scheduler is told to end: each of its parts has to end
        /// earlier. What is not done then others do.
        end = secs(17);
        /// How long the database may take to be told that the scheduler has ended.
        farewell = secs(1);
    }
}

impl SchedulerLimits {
    /// By then a scheduler that was told to end has ended, whatever hangs: whoever kills what does not end has to wait
    /// longer.
    pub const fn stop(&self) -> Duration {
        secs(self.end.as_secs() + self.farewell.as_secs() + 2 * self.turn_pause.as_secs())
    }
}

limits! {
    /// Limits of what the leading scheduler does, task by task.
    LeaderLimits {
        /// How often a task that is not activated, as another scheduler leads, says that it lives.
        idle_turn = secs(5);
        /// How long an activation may take, for tasks without a limit of their own.
        activation = secs(30);
        /// The longest pause after failures, for tasks without one of their own.
        failure_pause = secs(10);
        /// How long an activation that is under way may go on when the scheduler is told to end. What it has not committed
        /// then is rolled back.
        under_way = secs(2);
        /// How long the last activation of a task may take when the scheduler ends.
        last = secs(3);
        /// The pause between two looks for due schedules.
        schedules_every = secs(1);
        /// The pause between two sweeps.
        sweep_every = secs(1);
        /// How often old rows are deleted, and at once when it was changed how long they are kept.
        prune_every = secs(600);
        /// The pause between two looks for a due digest.
        digest_every = secs(5);
        /// The pause between two looks for events to forward.
        events_every = secs(1);
        /// How long the machine's log may take for a batch of events, before it is written down how far they are forwarded.
        events_batch = secs(15);
        /// How long the machine's log may take for one event.
        event = secs(5);
        /// The pause between two exports of spans.
        spans_every = secs(1);
        /// How long an export of spans may take.
        spans = secs(120);
        /// The longest pause after exports of spans that failed.
        spans_failure_pause = secs(30);
        /// How old a value of the fleet's gauges may be.
        gauges_every = secs(10);
        /// A reading of the fleet that takes longer is not exported: its values would be of the past.
        gauges = secs(8);
    }
}
