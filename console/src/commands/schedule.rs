//! `virtuozo schedule …`.

use anyhow::Result;
use clap::Subcommand;

use crate::context::Context;

/// Commands on schedules.
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {}

pub(crate) async fn run(_context: &Context, command: ScheduleCommand) -> Result<()> {
    match command {}
}
