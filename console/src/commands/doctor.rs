//! `virtuozo doctor`: is everything here that Virtuozo needs, and what to do where not.

use anyhow::Result;
use clap::Args;

use crate::context::Context;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  virtuozo doctor")]
pub(crate) struct DoctorArgs {}

pub(crate) async fn run(_context: &Context, _args: DoctorArgs) -> Result<()> {
    anyhow::bail!("not built yet")
}
