//! `virtuozo schedule …`: when to back up what.

use anyhow::Result;
use clap::{Args, Subcommand};
use sqlx::PgPool;
use virtuozo_services::{
    names,
    schedules::{self, NewSchedule, Saved, ScheduleChanges, ScheduleLine},
};

use crate::{
    context::Context,
    output,
    resettable::{self, Resettable},
};

/// Commands on schedules.
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Add a schedule; without options: the whole site, Monday to Friday at the daily start time
    #[command(after_help = "Examples:
  virtuozo schedule add nightly
  virtuozo schedule add weekly --cron '0 3 * * 6' --time-zone Europe/Berlin --host alpha
  virtuozo schedule add mail --cron '30 */4 * * *' --guest alpha/mail")]
    Add {
        /// Its name
        name: String,
        /// Cron expression: minute hour day month weekday
        #[arg(long)]
        cron: Option<String>,
        /// Time zone, such as Europe/Berlin [default: the site's]
        #[arg(long, value_name = "ZONE")]
        time_zone: Option<String>,
        #[command(flatten)]
        targets: Targets,
        /// Do not follow it yet
        #[arg(long)]
        disabled: bool,
    },
    /// All schedules and when they are due next
    #[command(after_help = "Example:\n  virtuozo schedule list")]
    List,
    /// Change a schedule
    #[command(after_help = "Examples:
  virtuozo schedule edit nightly --enabled false
  virtuozo schedule edit nightly --cron '0 1 * * *' --time-zone site
  virtuozo schedule edit nightly --host alpha --guest beta/web
  virtuozo schedule edit nightly --whole-site")]
    Edit(Edit),
    /// Remove a schedule; its runs stay
    #[command(after_help = "Example:\n  virtuozo schedule remove nightly")]
    Remove {
        /// Its name
        name: String,
    },
    /// When schedules are due next
    #[command(
        after_help = "Examples:\n  virtuozo schedule next\n  virtuozo schedule next nightly --count 10"
    )]
    Next {
        /// Only this one
        name: Option<String>,
        /// How many times
        #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
        count: u16,
    },
}

/// What is backed up; nothing: the whole site.
#[derive(Debug, Args)]
pub(crate) struct Targets {
    /// Only this host; may be given several times
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Only this guest, as HOST/GUEST; may be given several times
    #[arg(long = "guest", value_name = "HOST/GUEST")]
    guests: Vec<String>,
}

impl Targets {
    fn names(self) -> names::Targets {
        names::Targets {
            hosts: self.hosts,
            guests: self.guests,
        }
    }
}

/// Options of `schedule edit`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args([
    "rename", "cron", "time_zone", "enabled", "hosts", "guests", "whole_site",
]))]
pub(crate) struct Edit {
    /// Its name
    name: String,
    /// A new name
    #[arg(long, value_name = "NAME")]
    rename: Option<String>,
    /// Cron expression, or site for Monday to Friday at the daily start time
    #[arg(long, value_parser = resettable::or_site::<String>)]
    cron: Option<Resettable<String>>,
    /// Time zone, or site for the site's setting
    #[arg(long, value_name = "ZONE", value_parser = resettable::or_site::<String>)]
    time_zone: Option<Resettable<String>>,
    /// Follow it
    #[arg(long, value_name = "true|false")]
    enabled: Option<bool>,
    #[command(flatten)]
    targets: Targets,
    /// Everything, instead of hosts and guests that were named
    #[arg(long, conflicts_with_all = ["hosts", "guests"])]
    whole_site: bool,
}

pub(crate) async fn run(context: &Context, command: ScheduleCommand) -> Result<()> {
    let db = context.database().await?;
    let pool = &db.pool;
    match command {
        ScheduleCommand::Add {
            name,
            cron,
            time_zone,
            targets,
            disabled,
        } => {
            let new = NewSchedule {
                name,
                cron,
                time_zone,
                targets: targets.names(),
                enabled: !disabled,
            };
            say(context, &schedules::add(pool, new).await?, "added")
        }
        ScheduleCommand::List => list(context, pool).await,
        ScheduleCommand::Edit(args) => {
            let name = args.name.clone();
            let saved = schedules::edit(pool, &name, args.changes()).await?;
            say(context, &saved, "changed")
        }
        ScheduleCommand::Remove { name } => {
            let name = schedules::remove(pool, &name).await?;
            context.out.done(&format!("schedule {name} removed"))
        }
        ScheduleCommand::Next { name, count } => context.out.list(
            &schedules::next(pool, name.as_deref(), usize::from(count)).await?,
            "no schedule is followed",
            &["Due", "Schedule"],
            |line| vec![output::time(line.due_at), line.schedule.clone()],
        ),
    }
}

/// What was done, and when the schedule is due next.
fn say(context: &Context, saved: &Saved, done: &str) -> Result<()> {
    let when = saved.next.map_or_else(
        || "it is not followed".to_owned(),
        |at| format!("it is due next at {}", output::time(at)),
    );
    context
        .out
        .done(&format!("schedule {} {done}; {when}", saved.name))
}

impl Edit {
    fn changes(self) -> ScheduleChanges {
        let targets = self.targets.names();
        let are_given = self.whole_site || targets != names::Targets::default();
        ScheduleChanges {
            name: self.rename,
            cron: resettable::given(self.cron),
            time_zone: resettable::given(self.time_zone),
            enabled: self.enabled,
            targets: are_given.then_some(targets),
        }
    }
}

async fn list(context: &Context, pool: &PgPool) -> Result<()> {
    let (lines, settings) = schedules::list(pool).await?;
    context.out.list(
        &lines,
        "no schedules yet; `virtuozo schedule add nightly` adds one for the whole site",
        &["Schedule", "When", "Time zone", "What", "Next"],
        |ScheduleLine {
             schedule,
             targets,
             next,
         }| {
            let daily = || {
                format!(
                    "Mon-Fri {} (site)",
                    settings.daily_start_time.format("%H:%M")
                )
            };
            let site = || format!("{} (site)", settings.time_zone);
            vec![
                schedule.name.clone(),
                schedule.cron.clone().unwrap_or_else(daily),
                schedule.time_zone.clone().unwrap_or_else(site),
                if targets.is_empty() {
                    "whole site".to_owned()
                } else {
                    targets.join(", ")
                },
                if schedule.enabled {
                    output::time_or_dash(*next)
                } else {
                    "disabled".to_owned()
                },
            ]
        },
    )
}
