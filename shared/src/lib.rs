//! What scheduler and worker both say: model, store, queue, config, secrets, events, telemetry.

pub mod db;
mod error;
pub mod pg;
pub mod queue;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::StoreError;
