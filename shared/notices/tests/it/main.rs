//! The integration tests of notices, in one program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail them"
)]

mod notices;
mod secrets;
mod servers;
mod site;
