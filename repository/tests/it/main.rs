//! The integration tests of the repository, in one program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail them"
)]

mod damage;
mod identity;
mod killed;
mod lifecycle;
mod links;
mod marker;
mod resume;
mod round_trip;
mod support;
