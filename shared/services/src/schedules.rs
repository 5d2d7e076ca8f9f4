//! Schedules: when to back up what.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
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

use crate::{error::ServiceError, hosts::set, names::Targets};

/// A schedule to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSchedule {
    /// The name.
    pub name: String,
    /// Cron expression; none: Monday to Friday at the daily start time.
    pub cron: Option<String>,
    /// Time zone; none: the site's.
    pub time_zone: Option<String>,
    /// What is backed up.
    pub targets: Targets,
    /// Is followed.
    pub enabled: bool,
}

/// What is changed of a schedule; none: it stays. `Some(None)` leaves it to the site's setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduleChanges {
    /// Its name.
    pub name: Option<String>,
    /// Cron expression.
    pub cron: Option<Option<String>>,
    /// Time zone.
    pub time_zone: Option<Option<String>>,
    /// Whether it is followed.
    pub enabled: Option<bool>,
    /// What is backed up; neither hosts nor guests: the whole site.
    pub targets: Option<Targets>,
}

/// A schedule as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScheduleLine {
    /// The schedule.
    #[serde(flatten)]
    pub schedule: Schedule,
    /// The names of what is backed up; none: the whole site.
    pub targets: Vec<String>,
    /// When it is due next; none: it is not followed.
    pub next: Option<DateTime<Utc>>,
}

/// A time at which a schedule is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DueLine {
    /// Its name.
    pub schedule: String,
    /// When.
    pub due_at: DateTime<Utc>,
}

/// A schedule that was added or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its name.
    pub name: String,
    /// When it is due next; none: it is not followed.
    pub next: Option<DateTime<Utc>>,
}

/// Adds a schedule; it is due from now on.
///
/// # Errors
/// [`virtuozo_postgres::StoreError::Exists`] or `Refused`, or `NotFound` for an unknown host or guest.
pub async fn add(pool: &PgPool, new: NewSchedule) -> Result<Saved, ServiceError> {
    let (host_ids, guest_ids) = new.targets.ids(pool).await?;
    let config = ScheduleConfig {
        name: new.name,
        cron: new.cron,
        time_zone: new.time_zone,
        enabled: new.enabled,
        host_ids,
        guest_ids,
    };
    schedules::insert(pool, &config).await?;
    saved(pool, config.name).await
}

/// Changes a schedule.
///
/// # Errors
/// As [`add`], or [`virtuozo_postgres::StoreError::NotFound`].
pub async fn edit(
    pool: &PgPool,
    name: &str,
    changes: ScheduleChanges,
) -> Result<Saved, ServiceError> {
    let schedule = schedules::by_name(pool, name).await?;
    let id = schedule.id;
    let mut config = ScheduleConfig::from(schedule);
    if let Some(targets) = changes.targets {
        (config.host_ids, config.guest_ids) = targets.ids(pool).await?;
    }
    set(&mut config.cron, changes.cron);
    set(&mut config.time_zone, changes.time_zone);
    set(&mut config.enabled, changes.enabled);
    set(&mut config.name, changes.name);
    schedules::update(pool, id, &config).await?;
    saved(pool, config.name).await
}

async fn saved(pool: &PgPool, name: String) -> Result<Saved, ServiceError> {
    let settings = settings::get(pool).await?;
    let due = due(&schedules::by_name(pool, &name).await?, &settings, 1)?;
    Ok(Saved {
        name,
        next: due.first().copied(),
    })
}

/// Removes a schedule; its runs stay. Returns its name.
///
/// # Errors
/// [`virtuozo_postgres::StoreError::NotFound`].
pub async fn remove(pool: &PgPool, name: &str) -> Result<String, ServiceError> {
    let schedule = schedules::by_name(pool, name).await?;
    schedules::remove(pool, schedule.id).await?;
    Ok(schedule.name)
}

/// All schedules, and the settings that stand in for what they leave open.
pub async fn list(pool: &PgPool) -> Result<(Vec<ScheduleLine>, Settings), ServiceError> {
    let settings = settings::get(pool).await?;
    let hosts = hosts::list(pool).await?;
    let hosts = hosts.into_iter().map(|host| (host.id, host.name));
    let guests = guests::list(pool, None).await?;
    let guests = guests.into_iter().map(|one| (one.id, one.full_name()));
    let names: HashMap<Uuid, String> = hosts.chain(guests).collect();
    let mut lines = Vec::new();
    for schedule in schedules::list(pool).await? {
        let ids = schedule.host_ids.iter().chain(&schedule.guest_ids);
        let targets = ids.filter_map(|id| names.get(id).cloned()).collect();
        let next = due(&schedule, &settings, 1)?.first().copied();
        lines.push(ScheduleLine {
            schedule,
            targets,
            next,
        });
    }
    Ok((lines, settings))
}

/// The next `count` times at which a schedule is due, or any.
///
/// # Errors
/// [`virtuozo_postgres::StoreError::NotFound`].
pub async fn next(
    pool: &PgPool,
    name: Option<&str>,
    count: usize,
) -> Result<Vec<DueLine>, ServiceError> {
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
    Ok(lines)
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
    let all = std::iter::successors(first, |at| recurrence.next_after(*at));
    Ok(all.take(count).collect())
}
