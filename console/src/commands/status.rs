//! `virtuozo status`: the tree of hosts, guests and disks, and what is being copied.

use anyhow::Result;
use clap::Args;

use crate::context::Context;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  virtuozo status\n  virtuozo status --watch\n  virtuozo status --json"
)]
pub(crate) struct StatusArgs {
    /// Keep showing it, with progress bars, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub(crate) watch: bool,
}

pub(crate) async fn run(_context: &Context, _args: StatusArgs) -> Result<()> {
    anyhow::bail!("not built yet")
}
