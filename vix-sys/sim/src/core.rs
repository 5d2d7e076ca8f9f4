//! What the simulator does, without the C API: hosts, guests, power, snapshots, faults.

pub(crate) mod chain;
pub(crate) mod connection;
pub(crate) mod error;
pub(crate) mod faults;
pub(crate) mod files;
pub(crate) mod guest;
pub(crate) mod host;
pub(crate) mod power;
pub(crate) mod process;
pub(crate) mod product;
mod recovery;
pub(crate) mod snapshot;
pub(crate) mod state;
