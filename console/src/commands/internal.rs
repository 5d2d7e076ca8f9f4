//! Hidden commands: children that our own processes start.

use std::process::ExitCode;

use clap::Args;

/// Options of `vix-host`; all else comes over stdin.
#[derive(Debug, Args)]
pub(crate) struct VixHostArgs {}

/// Serves one host connection until stdin ends.
pub(crate) fn vix_host() -> ExitCode {
    ExitCode::FAILURE
}
