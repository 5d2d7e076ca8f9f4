//! When: leader, schedules to runs, admission into the queues, sweeps.
