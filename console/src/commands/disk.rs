//! `virtuozo disk …`.

use anyhow::Result;
use clap::Subcommand;

use crate::context::Context;

/// Commands on disks.
#[derive(Debug, Subcommand)]
pub(crate) enum DiskCommand {}

pub(crate) async fn run(_context: &Context, command: DiskCommand) -> Result<()> {
    match command {}
}
