//! The end-to-end tests, in one program: sites driven only through `virtuozo`, as an administrator would.

mod deploy;
mod failpoints;
mod faults;
mod flow;
mod json_output;
mod monitoring;
mod recovery;
mod secrets;
#[path = "../../shared/notices/tests/it/servers.rs"]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    reason = "helpers of the scheduler's tests, not all of them used here"
)]
mod servers;
mod takeover;
mod traces;
