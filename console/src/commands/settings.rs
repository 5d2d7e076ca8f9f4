//! `virtuozo settings …`.

use anyhow::Result;
use clap::Subcommand;

use crate::context::Context;

/// Commands on settingss.
#[derive(Debug, Subcommand)]
pub(crate) enum SettingsCommand {}

pub(crate) async fn run(_context: &Context, command: SettingsCommand) -> Result<()> {
    match command {}
}
