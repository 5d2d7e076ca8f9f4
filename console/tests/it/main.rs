//! The integration tests of the program `virtuozo`, in one program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail them"
)]

mod configuration;
mod precedence;
mod services;
