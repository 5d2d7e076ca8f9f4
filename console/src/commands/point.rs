//! `virtuozo point …` and `virtuozo restore`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::context::Context;

/// Commands on restore points.
#[derive(Debug, Subcommand)]
pub(crate) enum PointCommand {
    /// Restore points, newest first
    #[command(
        after_help = "Examples:\n  virtuozo point list\n  virtuozo point list --guest alpha/mail --json"
    )]
    List {
        /// Only of this guest, as HOST/GUEST
        #[arg(long, value_name = "HOST/GUEST")]
        guest: Option<String>,
    },
    /// One restore point and its files
    #[command(after_help = "Example:\n  virtuozo point show 5f2c81aa")]
    Show {
        /// Id, or a beginning or end that only this point has
        point: String,
    },
    /// Read every byte again and hold it against the manifest
    #[command(
        after_help = "Examples:\n  virtuozo point verify 5f2c81aa\n  virtuozo point verify --all"
    )]
    Verify {
        /// Id, or a beginning or end that only this point has
        #[arg(required_unless_present = "all")]
        point: Option<String>,
        /// All points
        #[arg(long, conflicts_with = "point")]
        all: bool,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  virtuozo restore 5f2c81aa --to /srv/restored/mail")]
pub(crate) struct RestoreArgs {
    /// Id of the restore point, or a beginning or end that only this point has
    pub(crate) point: String,
    /// Directory to restore into: new or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
}

pub(crate) async fn run(_context: &Context, _command: PointCommand) -> Result<()> {
    anyhow::bail!("not built yet")
}

pub(crate) async fn restore(_context: &Context, _args: RestoreArgs) -> Result<()> {
    anyhow::bail!("not built yet")
}
