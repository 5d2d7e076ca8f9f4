//! One file for each group of commands.

pub(crate) mod config;
pub(crate) mod datastore;
pub(crate) mod demo;
pub(crate) mod disk;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod guest;
pub(crate) mod health;
pub(crate) mod hook;
pub(crate) mod host;
pub(crate) mod internal;
pub(crate) mod notice;
pub(crate) mod obligation;
pub(crate) mod point;
pub(crate) mod point_delete;
pub(crate) mod repository;
pub(crate) mod run;
pub(crate) mod scan;
pub(crate) mod schedule;
pub(crate) mod service;
pub(crate) mod settings;
pub(crate) mod status;
pub(crate) mod transfer;
pub(crate) mod version;
pub(crate) mod workers;

use anyhow::Result;

use crate::{cli::Command, context::Context};

/// Does what was asked.
pub(crate) async fn run(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Demo(args) => demo::run(context, args).await,
        Command::Up(args) => service::up(context, args).await,
        Command::Host(command) => host::run(context, command).await,
        Command::Guest(command) => guest::run(context, command).await,
        Command::Disk(command) => disk::run(context, command).await,
        Command::Datastore(command) => datastore::run(context, command).await,
        Command::Repository(command) => repository::run(context, command).await,
        Command::Schedule(command) => schedule::run(context, command).await,
        Command::Settings(command) => settings::run(context, command).await,
        Command::Hook(command) => hook::run(context, command).await,
        Command::Export(args) => transfer::export(context, args).await,
        Command::Import(args) => transfer::import(context, args).await,
        Command::Notice(command) => notice::run(context, command).await,
        Command::Run(command) => run::run(context, command).await,
        Command::Obligation(command) => obligation::run(context, command).await,
        Command::Events(args) => events::run(context, args).await,
        Command::Status(args) => status::run(context, args).await,
        Command::Point(command) => point::run(context, command).await,
        Command::Restore(args) => point::restore(context, args).await,
        Command::Scheduler(args) => service::scheduler(context, args).await,
        Command::Worker(args) => service::worker(context, args).await,
        Command::Config(command) => config::run(context, command),
        Command::Health(args) => health::run(context, args).await,
        Command::Doctor(args) => doctor::run(context, args).await,
        Command::Version(args) => version::run(context, args),
        // Answered before a runtime exists.
        Command::VixHost(_) | Command::HookGuard(_) => Ok(()),
    }
}
