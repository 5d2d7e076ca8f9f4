//! The port to hypervisors: what Virtuozo asks of any of them, and one folder per back end.
//!
//! Callers ask for a capability, never for a kind of hypervisor. A guest's disks are handed out as
//! [`virtuozo_disk::BlockSource`]s and its small files as bytes.

#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod port;
pub mod snapshot_name;
pub mod vix;

pub use error::{ErrorClass, ErrorKind, HypervisorError};
pub use port::*;
