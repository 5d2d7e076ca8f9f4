//! What scheduler and worker both say: model, store, queue, config, secrets, events, telemetry.

pub mod db;
mod error;
pub mod hooks;
pub mod human;
pub mod liveness;
pub mod model;
pub mod outage;
pub mod pg;
pub mod queue;
pub mod readiness;
pub mod schedule;
pub mod secrets;
pub mod site_file;
pub mod store;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::StoreError;
