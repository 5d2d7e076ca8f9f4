//! All of `virtuozo`, the one program: commands for people, and the processes that do the work. The program
//! itself only calls [`run`].

mod back_ends;
mod choice;
mod cli;
mod commands;
mod configuration;
mod context;
#[cfg(test)]
mod deployment;
mod describe;
mod error;
mod key;
mod listen;
mod live;
mod names;
mod output;
mod password;
mod systemd;

use std::{process::ExitCode, sync::Arc};

use virtuozo_worker::Failpoints;

use crate::{cli::Command, configuration::Configuration, context::Context, output::Output};

/// Does what the arguments of the process say. `failpoints` disturb its workers.
pub fn run(failpoints: Arc<dyn Failpoints>) -> ExitCode {
    let (cli, configuration) = match Configuration::read() {
        Ok(read) => read,
        // Whether JSON was asked for is not known before the options are.
        Err(failure) => {
            let json = std::env::args_os().any(|arg| arg == "--json");
            return error::report(&Output::new(json), &failure);
        }
    };
    // A child of a process of ours: no runtime, no log format, no database.
    if let Command::VixHost(_) = cli.command {
        return commands::internal::vix_host();
    }
    if let Command::HookGuard(args) = &cli.command {
        return commands::internal::hook_guard(args);
    }
    let context = Context::new(cli.global, configuration, failpoints);
    context.start_logging(cli.command.is_service());
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(failure) => return error::report(&context.out, &failure.into()),
    };
    let done = runtime.block_on(commands::run(&context, cli.command));
    // Threads that wait inside a blocking call must not keep a finished command alive.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => error::report(&context.out, &failure),
    }
}
