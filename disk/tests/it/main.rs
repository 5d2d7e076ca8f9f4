//! The integration tests of the disk formats, in one program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail them"
)]

mod common;
mod vmdk_bounds;
mod vmdk_damage;
mod vmdk_model;
mod vmdk_qemu;
