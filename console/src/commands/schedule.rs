//! `virtuozo schedule …`: when to back up what.

use std::collections::HashMap;

use anyhow::Result;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_model::{
    Schedule, Settings,
    schedule::{Recurrence, ScheduleError},
};
use virtuozo_store::{
    guests, hosts,
    schedules::{self, ScheduleConfig},
    settings,
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
    async fn ids(&self, pool: &PgPool) -> Result<(Vec<Uuid>, Vec<Uuid>)> {
        let (mut host_ids, mut guest_ids) = (Vec::new(), Vec::new());
        for name in &self.hosts {
            host_ids.push(hosts::by_name(pool, name).await?.id);
        }
        for name in &self.guests {
            guest_ids.push(guests::by_name(pool, name).await?.id);
        }
        Ok((host_ids, guest_ids))
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
            let (host_ids, guest_ids) = targets.ids(pool).await?;
            let config = ScheduleConfig {
                name,
                cron,
                time_zone,
                enabled: !disabled,
                host_ids,
                guest_ids,
            };
            schedules::insert(pool, &config).await?;
            let done = format!("schedule {} added", config.name);
            say(context, pool, &config.name, &done).await
        }
        ScheduleCommand::List => list(context, pool).await,
        ScheduleCommand::Edit(args) => edit(context, pool, args).await,
        ScheduleCommand::Remove { name } => {
            let schedule = schedules::by_name(pool, &name).await?;
            schedules::remove(pool, schedule.id).await?;
            context
                .out
                .done(&format!("schedule {} removed", schedule.name))
        }
        ScheduleCommand::Next { name, count } => {
            next(context, pool, name.as_deref(), usize::from(count)).await
        }
    }
}

/// What was done, and when the schedule is due next.
async fn say(context: &Context, pool: &PgPool, name: &str, done: &str) -> Result<()> {
    let settings = settings::get(pool).await?;
    let due = due(&schedules::by_name(pool, name).await?, &settings, 1)?;
    let when = due.first().map_or_else(
        || "it is not followed".to_owned(),
        |at| format!("it is due next at {}", output::time(*at)),
    );
    context.out.done(&format!("{done}; {when}"))
}

async fn edit(context: &Context, pool: &PgPool, args: Edit) -> Result<()> {
    let schedule = schedules::by_name(pool, &args.name).await?;
    let id = schedule.id;
    let mut config = ScheduleConfig::from(schedule);
    let (host_ids, guest_ids) = args.targets.ids(pool).await?;
    if args.whole_site || !host_ids.is_empty() || !guest_ids.is_empty() {
        (config.host_ids, config.guest_ids) = (host_ids, guest_ids);
    }
    resettable::apply(&mut config.cron, args.cron);
    resettable::apply(&mut config.time_zone, args.time_zone);
    config.enabled = args.enabled.unwrap_or(config.enabled);
    config.name = args.rename.unwrap_or(config.name);
    schedules::update(pool, id, &config).await?;
    say(
        context,
        pool,
        &config.name,
        &format!("schedule {} changed", config.name),
    )
    .await
}

/// The next times at which a schedule is due; none if it is not followed.
fn due(
    schedule: &Schedule,
    settings: &Settings,
    count: usize,
) -> Result<Vec<DateTime<Utc>>, ScheduleError> {
    if !schedule.enabled {
        return Ok(Vec::new());
    }
    let (cron, zone) = (schedule.cron.as_deref(), schedule.time_zone.as_deref());
    let recurrence = Recurrence::new(cron, zone, settings)?;
    let first = recurrence.next_after(Utc::now());
    Ok(
        std::iter::successors(first, |at| recurrence.next_after(*at))
            .take(count)
            .collect(),
    )
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    schedule: Schedule,
    targets: Vec<String>,
    next: Option<DateTime<Utc>>,
}

async fn list(context: &Context, pool: &PgPool) -> Result<()> {
    let settings = settings::get(pool).await?;
    let hosts = hosts::list(pool)
        .await?
        .into_iter()
        .map(|host| (host.id, host.name));
    let guests = guests::list(pool, None).await?;
    let guests = guests
        .into_iter()
        .map(|guest| (guest.id, guest.full_name()));
    let names: HashMap<Uuid, String> = hosts.chain(guests).collect();
    let mut lines = Vec::new();
    for schedule in schedules::list(pool).await? {
        let ids = schedule.host_ids.iter().chain(&schedule.guest_ids);
        let targets = ids.filter_map(|id| names.get(id).cloned()).collect();
        let next = due(&schedule, &settings, 1)?.first().copied();
        lines.push(Line {
            schedule,
            targets,
            next,
        });
    }
    context.out.list(
        &lines,
        "no schedules yet; `virtuozo schedule add nightly` adds one for the whole site",
        &["Schedule", "When", "Time zone", "What", "Next"],
        |Line {
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

#[derive(Serialize)]
struct DueLine {
    schedule: String,
    due_at: DateTime<Utc>,
}

async fn next(context: &Context, pool: &PgPool, name: Option<&str>, count: usize) -> Result<()> {
    let settings = settings::get(pool).await?;
    let all = match name {
        Some(name) => vec![schedules::by_name(pool, name).await?],
        None => schedules::list(pool).await?,
    };
    let mut lines = Vec::new();
    for schedule in &all {
        let times = due(schedule, &settings, count)?.into_iter();
        lines.extend(times.map(|due_at| DueLine {
            schedule: schedule.name.clone(),
            due_at,
        }));
    }
    lines.sort_by_key(|line| line.due_at);
    lines.truncate(count);
    context.out.list(
        &lines,
        "no schedule is followed",
        &["Due", "Schedule"],
        |line| vec![output::time(line.due_at), line.schedule.clone()],
    )
}
