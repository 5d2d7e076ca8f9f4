//! The integration tests of the port and of its VIX back end, in one program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail them"
)]

mod conformance;
mod connection;
mod facts;
mod lab;
mod memory;
