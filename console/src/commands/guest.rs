//! `virtuozo guest …`: the virtual machines on the hosts.

use anyhow::Result;
use clap::{Args, Subcommand};
use virtuozo_model::{Guest, Mode, terminal};
use virtuozo_services::guests::{self, Added, GuestChanges, GuestDetails, GuestLine};

use super::disk;
use crate::{
    back_ends::KnownBackEnds,
    context::Context,
    output,
    resettable::{self, Resettable},
};

/// Commands on guests.
#[derive(Debug, Subcommand)]
pub(crate) enum GuestCommand {
    /// All guests and their states
    #[command(
        after_help = "Examples:\n  virtuozo guest list\n  virtuozo guest list --host alpha --json"
    )]
    List {
        /// Only of this host
        #[arg(long)]
        host: Option<String>,
    },
    /// One guest and its disks
    #[command(after_help = "Examples:\n  virtuozo guest show alpha/mail")]
    Show {
        /// The guest, as HOST/GUEST
        guest: String,
    },
    /// Back up a guest that was only reported, or one that its host has not named yet
    #[command(after_help = "Examples:
  virtuozo guest add alpha mail
  virtuozo guest add alpha '[standard] mail/mail.vmx'")]
    Add {
        /// Its host
        host: String,
        /// Its name, if its host has named it already (`virtuozo host check`), or its locator: what its host finds it
        /// by, for example the path of its .vmx
        guest: String,
    },
    /// Change how a guest is backed up
    #[command(after_help = "Examples:
  virtuozo guest edit alpha/mail --mode hot --keep-last 14
  virtuozo guest edit alpha/mail --destination /srv/backup/mail
  virtuozo guest edit alpha/scratch --ignored true
  virtuozo guest edit alpha/archive --rpo-secs 0")]
    Edit(Edit),
    /// Forget a guest; its restore points stay
    #[command(after_help = "Example:\n  virtuozo guest remove alpha/old")]
    Remove {
        /// The guest, as HOST/GUEST
        guest: String,
    },
}

/// Options of `guest edit`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct Edit {
    /// The guest, as HOST/GUEST
    guest: String,
    /// Leave it out of every run
    #[arg(long, value_name = "true|false", group = "what")]
    ignored: Option<bool>,
    /// hot, cold, auto, or site for the site's setting
    #[arg(long, value_name = "MODE", group = "what", value_parser = resettable::or_site::<Mode>)]
    mode: Option<Resettable<Mode>>,
    /// Directory for its restore points as workers see it, or site for the site's setting
    #[arg(long, value_name = "DIR", group = "what", value_parser = resettable::or_site::<String>)]
    destination: Option<Resettable<String>>,
    /// Power it back on when it was shut down for its backup: true, false or site
    #[arg(long, value_name = "BOOL", group = "what", value_parser = resettable::or_site::<bool>)]
    resume_power_state: Option<Resettable<bool>>,
    /// Back it up when it is off: true, false or site
    #[arg(long, value_name = "BOOL", group = "what", value_parser = resettable::or_site::<bool>)]
    backup_when_off: Option<Resettable<bool>>,
    /// Verified restore points to keep, or site for the site's setting
    #[arg(long, value_name = "N", group = "what", value_parser = resettable::or_site::<i32>)]
    keep_last: Option<Resettable<i32>>,
    /// Seconds that its newest restore point may be old before it is told as too old, 0 for any age, or
    /// site for the site's setting
    #[arg(long, value_name = "SECS", group = "what", value_parser = resettable::or_site::<i32>)]
    rpo_secs: Option<Resettable<i32>>,
}

pub(crate) async fn run(context: &Context, command: GuestCommand) -> Result<()> {
    match command {
        GuestCommand::List { host } => list(context, host.as_deref()).await,
        GuestCommand::Show { guest } => show(context, &guest).await,
        GuestCommand::Add { host, guest } => add(context, &host, &guest).await,
        GuestCommand::Edit(args) => edit(context, args).await,
        GuestCommand::Remove { guest } => remove(context, &guest).await,
    }
}

async fn list(context: &Context, host: Option<&str>) -> Result<()> {
    let db = context.database().await?;
    table(context, &guests::list(&db.pool, host).await?)
}

/// Guests with their states, as `guest list` and `host check` show them.
pub(crate) fn table(context: &Context, lines: &[GuestLine]) -> Result<()> {
    context.out.list(
        lines,
        "no guests yet; `virtuozo host check` finds those of a host",
        &["Guest", "State", "Power", "Backup", "Last point", "Why"],
        |line| {
            let guest = &line.guest;
            let late = if line.rpo_exceeded { " (too old)" } else { "" };
            vec![
                guest.full_name(),
                guest.state.to_string(),
                output::or_dash(guest.power),
                backup(guest),
                format!("{}{late}", output::time_or_dash(line.last_point_at)),
                output::or_dash(guest.state_reason.as_deref()),
            ]
        },
    )
}

fn rpo_text(secs: i32) -> String {
    match secs {
        0 => "none".to_owned(),
        secs => format!("{secs} s"),
    }
}

fn backup(guest: &Guest) -> String {
    match (guest.configured, guest.ignored, guest.mode) {
        (false, ..) => "not configured".to_owned(),
        (_, true, _) => "ignored".to_owned(),
        (_, _, Some(mode)) => mode.to_string(),
        (_, _, None) => "site".to_owned(),
    }
}

async fn show(context: &Context, name: &str) -> Result<()> {
    let db = context.database().await?;
    let details = guests::show(&db.pool, name).await?;
    let site = |value: Option<String>| value.unwrap_or_else(|| "site".to_owned());
    context.out.show(&details, |GuestDetails { guest, disks }| {
        let mut fields = vec![
            ("Guest", guest.full_name()),
            ("Locator", guest.locator.clone()),
            (
                "UUID",
                output::or_dash(guest.uuid.map(|uuid| uuid.to_string())),
            ),
            ("Node", output::or_dash(guest.node.as_deref())),
            ("State", guest.state.to_string()),
            ("Why", output::or_dash(guest.state_reason.as_deref())),
            ("Power", output::or_dash(guest.power)),
            ("Checked", output::time_or_dash(guest.checked_at)),
            ("Configured", output::yes_no(guest.configured)),
            ("Ignored", output::yes_no(guest.ignored)),
            ("Mode", site(guest.mode.map(|mode| mode.to_string()))),
            ("Destination", site(guest.destination.clone())),
            (
                "Resume power state",
                site(guest.resume_power_state.map(output::yes_no)),
            ),
            (
                "Backup when off",
                site(guest.backup_when_off.map(output::yes_no)),
            ),
            ("Keep last", site(guest.keep_last.map(|n| n.to_string()))),
            ("RPO", site(guest.rpo_secs.map(rpo_text))),
        ];
        fields.extend(disks.iter().map(|disk| ("Disk", disk::line(disk))));
        fields
    })
}

async fn add(context: &Context, host: &str, guest: &str) -> Result<()> {
    let db = context.database().await?;
    let added = guests::add(&db.pool, &KnownBackEnds, host, guest).await?;
    context.out.done(&match added {
        Added::Configured(guest) => {
            format!("guest {} is backed up from now on", guest.full_name())
        }
        Added::New(guest) => format!(
            "guest {} added; `{}` looks whether the host knows it",
            guest.full_name(),
            terminal::command("host check", &[&guest.host_name])
        ),
    })
}

async fn edit(context: &Context, args: Edit) -> Result<()> {
    let db = context.database().await?;
    let changes = GuestChanges {
        ignored: args.ignored,
        mode: resettable::given(args.mode),
        destination: resettable::given(args.destination),
        resume_power_state: resettable::given(args.resume_power_state),
        backup_when_off: resettable::given(args.backup_when_off),
        keep_last: resettable::given(args.keep_last),
        rpo_secs: resettable::given(args.rpo_secs),
    };
    let guest = guests::edit(&db.pool, &args.guest, changes).await?;
    context
        .out
        .done(&format!("guest {} changed", guest.full_name()))
}

async fn remove(context: &Context, name: &str) -> Result<()> {
    let db = context.database().await?;
    let guest = guests::remove(&db.pool, name).await?;
    context.out.done(&format!(
        "guest {} forgotten; its restore points stay. If its host still has it, it comes back as a new \
         guest: to leave it out for good use `{}` then",
        guest.full_name(),
        terminal::command("guest edit --ignored true", &[guest.full_name()])
    ))
}
