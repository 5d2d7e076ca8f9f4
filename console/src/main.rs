//! `virtuozo`, the one program: commands for people, and the processes that do the work.

mod choice;
mod cli;
mod commands;
mod context;
mod describe;
mod error;
mod listen;
mod live;
mod names;
mod output;
mod password;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    cli::{Cli, Command},
    context::Context,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A child of a process of ours: no runtime, no log format, no database.
    if let Command::VixHost(_) = cli.command {
        return commands::internal::vix_host();
    }
    let context = Context::new(cli.global);
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
