//! The process that holds one host connection, seen from both sides.

mod calls;
mod client;
mod protocol;
mod server;

pub(super) use calls::noted;
pub(super) use client::ChildProcess;
pub(super) use protocol::{Answer, ConnectTo, Operation};
pub use server::run_vix_host;
