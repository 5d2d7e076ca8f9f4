//! `virtuozo run …`: start, list, explain and cancel runs.

use anyhow::Result;
use clap::Subcommand;

use crate::context::Context;

/// Commands on runs.
#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// Back up now
    #[command(after_help = "Examples:
  virtuozo run now
  virtuozo run now --host alpha --wait
  virtuozo run now --guest alpha/mail --guest alpha/web")]
    Now {
        /// Only this host; may be given several times
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// Only this guest, as HOST/GUEST; may be given several times
        #[arg(long = "guest", value_name = "HOST/GUEST")]
        guests: Vec<String>,
        /// Show progress and return when the run has ended; exit 1 if anything in it failed
        #[arg(long)]
        wait: bool,
    },
    /// The latest runs
    #[command(after_help = "Example:\n  virtuozo run list --limit 50")]
    List {
        /// How many
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u32,
    },
    /// One run: its guests, steps and why something waits or failed
    #[command(
        after_help = "Examples:\n  virtuozo run show latest\n  virtuozo run show 5f2c81aa --json"
    )]
    Show {
        /// Id, or a beginning or end that only this run has; or `latest`
        run: String,
    },
    /// Stop a run: what waits is dropped, what runs is undone
    #[command(after_help = "Example:\n  virtuozo run cancel 5f2c81aa")]
    Cancel {
        /// Id, or a beginning or end that only this run has; or `latest`
        run: String,
    },
}

pub(crate) async fn run(_context: &Context, _command: RunCommand) -> Result<()> {
    anyhow::bail!("not built yet")
}
