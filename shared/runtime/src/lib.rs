//! How a process stands: whether its database answers, its loops turn and its parts are ready.

pub mod liveness;
pub mod outage;
pub mod readiness;
