//! `virtuozo guest …`.

use anyhow::Result;
use clap::Subcommand;

use crate::context::Context;

/// Commands on guests.
#[derive(Debug, Subcommand)]
pub(crate) enum GuestCommand {}

pub(crate) async fn run(_context: &Context, command: GuestCommand) -> Result<()> {
    match command {}
}
