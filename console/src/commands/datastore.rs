//! `virtuozo datastore …`.

use anyhow::Result;
use clap::Subcommand;

use crate::context::Context;

/// Commands on datastores.
#[derive(Debug, Subcommand)]
pub(crate) enum DatastoreCommand {}

pub(crate) async fn run(_context: &Context, command: DatastoreCommand) -> Result<()> {
    match command {}
}
