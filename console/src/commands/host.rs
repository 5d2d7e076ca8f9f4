//! `virtuozo host …`.

use anyhow::Result;
use clap::Subcommand;

use crate::context::Context;

/// Commands on hosts.
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {}

pub(crate) async fn run(_context: &Context, command: HostCommand) -> Result<()> {
    match command {}
}
