//! The integration tests of the worker, in one program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail them"
)]

mod common;
mod elsewhere;
mod flow;
mod left_out;
mod one_instant;
mod outage;
mod recovery;
mod requests;
mod retention;
mod silent_host;
mod verify;
