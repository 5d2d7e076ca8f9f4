//! Hidden commands that only processes of this program start.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args;
use serde_json::Value;
use virtuozo_hypervisor::vix;
use virtuozo_worker::{FILE_WORK, serve_file_work};

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
    vix::run_vix_host()
}

/// Reads and writes files until stdin ends.
pub(crate) fn file_process() -> ExitCode {
    virtuozo_child_process::run_file_process(Arc::new(|work, request, line| match work {
        FILE_WORK => serve_file_work(request, line),
        vix::FILE_WORK => vix::serve_file_work(request, line),
        // The answer of another version is understood by nobody.
        _ => Value::Null,
    }))
}

/// Options of `hook-guard`.
#[derive(Debug, Args)]
pub(crate) struct HookGuardArgs {
    /// The hook
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// Runs a hook until it ends, or stdin does.
pub(crate) fn hook_guard(args: &HookGuardArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(virtuozo_hooks::guard(&args.command));
            // The read of stdin does not end by itself.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("the guard of a hook cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
