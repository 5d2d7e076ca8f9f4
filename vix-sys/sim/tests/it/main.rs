//! The integration tests of the VIX simulator, in one program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail them"
)]

mod api;
mod c_programs;
mod common;
mod crash;
mod power;
mod snapshots;
