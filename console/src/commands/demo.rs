//! `virtuozo demo`: the whole way, from a lab of simulated hosts to restored guests.

use anyhow::Result;
use clap::Args;

use crate::context::Context;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  virtuozo demo\n  virtuozo demo --json --keep")]
pub(crate) struct DemoArgs {
    /// Keep the lab, the database and the repository for looking around
    #[arg(long)]
    pub(crate) keep: bool,
}

pub(crate) async fn run(_context: &Context, _args: DemoArgs) -> Result<()> {
    anyhow::bail!("not built yet")
}
