//! The process that holds one host connection, seen from both sides.

mod calls;
mod client;
mod protocol;
mod request_span;
mod server;

pub(super) use calls::recorded;
pub(super) use client::{ChildProcess, Instruments};
pub(super) use protocol::{Answer, ConnectTo, Operation};
pub use server::run_vix_host;
