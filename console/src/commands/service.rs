//! The processes that run on: `scheduler`, `worker`, and `up`, which is both.

use anyhow::Result;
use clap::Args;

use crate::context::Context;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  virtuozo up --data-dir /srv/virtuozo")]
pub(crate) struct UpArgs {}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  virtuozo scheduler --database-url postgres://virtuozo@db/virtuozo"
)]
pub(crate) struct SchedulerArgs {}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  virtuozo worker --name rack2 --database-url postgres://virtuozo@db/virtuozo"
)]
pub(crate) struct WorkerArgs {
    /// Name of this worker in lists and messages [default: the machine's name]
    #[arg(long)]
    pub(crate) name: Option<String>,
}

pub(crate) async fn up(_context: &Context, _args: UpArgs) -> Result<()> {
    anyhow::bail!("not built yet")
}

pub(crate) async fn scheduler(_context: &Context, _args: SchedulerArgs) -> Result<()> {
    anyhow::bail!("not built yet")
}

pub(crate) async fn worker(_context: &Context, _args: WorkerArgs) -> Result<()> {
    anyhow::bail!("not built yet")
}
