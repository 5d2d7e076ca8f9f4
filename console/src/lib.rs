//! All of `virtuozo`, the one program: commands for people, and the processes that do the work. The program
//! itself only calls [`run`].

mod back_ends;
mod cli;
mod commands;
mod configuration;
mod context;
#[cfg(test)]
mod deployment;
mod error;
mod http;
mod operation;
mod options;
mod output;
mod password;
mod progress;
mod repositories;
mod requests;
mod resettable;
mod systemd;
mod text;

use std::{process::ExitCode, sync::Arc};

use virtuozo_worker::Failpoints;

use crate::{
    cli::{Cli, Command},
    context::Context,
    output::Output,
};

/// Runs the command that the arguments of the process name. Its workers call `failpoints`.
pub fn run(failpoints: Arc<dyn Failpoints>) -> ExitCode {
    let (cli, configuration) = match Cli::read() {
        Ok(read) => read,
        Err(failure) => return error::report(&Output::without_options(), &failure),
    };
    // Children of this program's own processes need no runtime, no log and no database.
    if let Command::VixHost(_) = cli.command {
        return commands::internal::vix_host();
    }
    if let Command::FileProcess = cli.command {
        return commands::internal::file_process();
    }
    if let Command::HookGuard(args) = &cli.command {
        return commands::internal::hook_guard(args);
    }
    let is_service = cli.command.is_service();
    let context = Context::new(cli.global, configuration, failpoints, is_service);
    context.start_logging(is_service);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(failure) => return error::report(&context.out, &failure.into()),
    };
    let done = runtime.block_on(cli.command.run(&context));
    // A thread in a blocking call must not keep a finished command from ending.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => error::report(&context.out, &failure),
    }
}
