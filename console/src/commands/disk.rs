//! `virtuozo disk …`: which disks of a guest are backed up.

use anyhow::Result;
use clap::Subcommand;
use virtuozo_model::Disk;
use virtuozo_services::guests::{self, DiskLine};

use crate::{context::Context, output};

/// Commands on disks.
#[derive(Debug, Subcommand)]
pub(crate) enum DiskCommand {
    /// Disks and their states
    #[command(
        after_help = "Examples:\n  virtuozo disk list\n  virtuozo disk list --guest alpha/mail"
    )]
    List {
        /// Only of this guest, as HOST/GUEST
        #[arg(long, value_name = "HOST/GUEST")]
        guest: Option<String>,
    },
    /// Leave a disk out of backups, or take it in again
    #[command(after_help = "Example:\n  virtuozo disk edit alpha/mail scsi0:1 --ignored true")]
    Edit {
        /// The guest, as HOST/GUEST
        guest: String,
        /// The disk's device, as `disk list` shows it
        device: String,
        /// Leave it out
        #[arg(long, value_name = "true|false", required = true, action = clap::ArgAction::Set)]
        ignored: bool,
    },
}

pub(crate) async fn run(context: &Context, command: DiskCommand) -> Result<()> {
    match command {
        DiskCommand::List { guest } => list(context, guest.as_deref()).await,
        DiskCommand::Edit {
            guest,
            device,
            ignored,
        } => edit(context, &guest, &device, ignored).await,
    }
}

async fn list(context: &Context, guest: Option<&str>) -> Result<()> {
    let db = context.database().await?;
    let lines = guests::disks(&db.pool, guest).await?;
    context.out.list(
        &lines,
        "no disks known yet; `virtuozo host check` finds them",
        &["Guest", "Device", "Size", "State", "Backup", "File", "Why"],
        |DiskLine { guest, disk }| {
            vec![
                guest.clone(),
                disk.device.clone(),
                output::size_or_dash(disk.capacity_bytes),
                disk.state.to_string(),
                if disk.ignored { "ignored" } else { "yes" }.to_owned(),
                disk.file_name.clone(),
                output::or_dash(disk.state_reason.as_deref()),
            ]
        },
    )
}

/// A disk in one line.
pub(crate) fn line(disk: &Disk) -> String {
    let mut text = format!(
        "{}  {}  {}  {}",
        disk.device,
        output::size_or_dash(disk.capacity_bytes),
        disk.file_name,
        disk.state
    );
    if disk.ignored {
        text += "  (ignored)";
    }
    if let Some(why) = &disk.state_reason {
        text += &format!("  {why}");
    }
    text
}

async fn edit(context: &Context, guest: &str, device: &str, ignored: bool) -> Result<()> {
    let db = context.database().await?;
    let guest = guests::ignore_disk(&db.pool, guest, device, ignored).await?;
    let what = if ignored {
        "left out of backups"
    } else {
        "backed up"
    };
    context.out.done(&format!(
        "disk {device} of {} is {what} from now on",
        guest.full_name()
    ))
}
