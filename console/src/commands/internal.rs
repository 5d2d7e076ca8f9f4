//! Hidden commands: children that our own processes start.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

/// Options of `vix-host`; all else comes over stdin.
#[derive(Debug, Args)]
pub(crate) struct VixHostArgs {
    /// The VIX library to load
    #[arg(long, value_name = "FILE")]
    #[allow(dead_code, reason = "the back end reads it from the arguments itself")]
    library: PathBuf,
}

/// Serves one host connection until stdin ends.
pub(crate) fn vix_host() -> ExitCode {
    hypervisor::vix::run_vix_host()
}
