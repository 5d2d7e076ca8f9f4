//! The site's settings, by name.

use std::{fmt::Display, str::FromStr};

use chrono::NaiveTime;
use sqlx::{Acquire, PgExecutor, Postgres};

use super::slots;
use virtuozo_model::{Settings, schedule::Recurrence};
use virtuozo_postgres::StoreError;

/// A setting as administrators see it; one of several that make up `S`.
pub struct Key<S: 'static = Settings> {
    /// Its name.
    pub name: &'static str,
    /// What it is for, as a sentence without a full stop.
    pub about: &'static str,
    pub(super) read: fn(&S) -> String,
    pub(super) write: fn(&mut S, &str) -> Result<(), String>,
}

impl<S> Key<S> {
    /// Its value, as it is typed; empty for none.
    pub fn value(&self, settings: &S) -> String {
        (self.read)(settings)
    }
}

/// A key whose value is written as it is typed, within the limits that `$parse` holds.
macro_rules! key {
    ($field:ident, $about:literal, $parse:expr) => {
        Key {
            name: stringify!($field),
            about: $about,
            read: |settings| show(&settings.$field),
            write: |settings, text| {
                settings.$field = $parse(text)?;
                Ok(())
            },
        }
    };
}
pub(super) use key as typed_key;

/// All settings, in the order in which they are shown.
pub static KEYS: &[Key] = &[
    key!(
        host_threads,
        "hosts that one worker is connected to at most (1-10)",
        host_threads
    ),
    key!(
        guest_threads,
        "guests of one host in work at most, over all workers (1-64)",
        |t| { number(t, 1, 64) }
    ),
    Key {
        name: "fleet_guest_threads",
        about: "guests of all hosts in work at most, over all workers; empty for no cap",
        read: |settings| {
            settings
                .fleet_guest_threads
                .map_or_else(String::new, |n| n.to_string())
        },
        write: |settings, text| {
            settings.fleet_guest_threads = match text {
                "" => None,
                text => Some(number(text, 1, i32::MAX)?),
            };
            Ok(())
        },
    },
    Key {
        name: "destination",
        about: "directory for restore points, as workers see it; empty for none",
        read: |settings| settings.destination.clone().unwrap_or_default(),
        write: |settings, text| {
            if !text.is_empty() {
                super::check_directory(text).map_err(|e| match e {
                    StoreError::Refused(why) => why,
                    other => other.to_string(),
                })?;
            }
            settings.destination = (!text.is_empty()).then(|| super::plain_directory(text));
            Ok(())
        },
    },
    key!(
        mode,
        "how guests are backed up: hot, cold, or auto (hot when the guest runs)",
        word
    ),
    key!(
        resume_power_state,
        "power guests back on that were shut down for their backup",
        yes_no
    ),
    key!(backup_when_off, "back up guests that are off", yes_no),
    key!(
        new_guests,
        "guests that appear on a host: backup, or only report them",
        word
    ),
    key!(
        verify_after_backup,
        "read every restore point once more before it counts",
        yes_no
    ),
    key!(
        keep_last,
        "verified restore points of a guest that are kept",
        |t| number(t, 1, i32::MAX)
    ),
    key!(
        group_may_read,
        "let the group read restore points: files 0640 and directories 0750, instead of 0600 and 0700",
        yes_no
    ),
    key!(
        rpo_secs,
        "seconds that a guest's newest restore point may be old before it is told as too old (0: never)",
        |t| { number(t, 0, i32::MAX) }
    ),
    Key {
        name: "daily_start_time",
        about: "when schedules without a cron expression are due, Monday to Friday (HH:MM)",
        read: |settings| settings.daily_start_time.format("%H:%M").to_string(),
        write: |settings, text| {
            settings.daily_start_time = NaiveTime::parse_from_str(text, "%H:%M")
                .map_err(|_| format!("{text:?} is not a time of the form HH:MM, such as 22:00"))?;
            Ok(())
        },
    },
    Key {
        name: "time_zone",
        about: "time zone of schedules that have none of their own, such as Europe/Berlin",
        read: |settings| settings.time_zone.clone(),
        write: |settings, text| {
            Recurrence::new(None, Some(text), settings).map_err(|e| e.to_string())?;
            settings.time_zone = text.to_owned();
            Ok(())
        },
    },
    key!(
        soft_power_off_secs,
        "seconds a guest may take to shut itself down (0-3600)",
        |t| { number(t, 0, 3600) }
    ),
    key!(
        snapshot_limit_secs,
        "seconds that taking or removing a snapshot may last",
        |t| { number(t, 1, 86_400) }
    ),
    key!(
        file_silence_secs,
        "seconds that nothing may move while files are read or written (2-86400)",
        |t| { number(t, 2, 86_400) }
    ),
    key!(
        max_attempts,
        "attempts for one guest in one run (1-20)",
        |t| number(t, 1, 20)
    ),
    key!(
        max_crashes,
        "workers that may die over one guest in one run (1-20)",
        |t| { number(t, 1, 20) }
    ),
    key!(
        retry_delay_secs,
        "seconds before the second attempt; grows with further ones",
        |t| { number(t, 0, 86_400) }
    ),
    key!(
        lease_secs,
        "seconds until another worker takes over from a silent one (2-3600)",
        |t| { number(t, 2, 3600) }
    ),
    key!(
        event_keep_days,
        "days that events are kept (1-36500)",
        |t| { number(t, 1, 36_500) }
    ),
    key!(
        event_keep_count,
        "events that are kept at most (from 1000 up)",
        |t| number(t, 1000, i32::MAX)
    ),
    key!(
        history_keep_days,
        "days that ended runs are kept, with their guests and steps (1-36500)",
        |t| { number(t, 1, 36_500) }
    ),
    key!(history_keep_runs, "ended runs that are kept at most", |t| {
        number(t, 1, i32::MAX)
    }),
];

pub(super) fn show(value: &impl Display) -> String {
    value.to_string()
}

pub(super) fn number(text: &str, least: i32, most: i32) -> Result<i32, String> {
    match text.parse::<i32>() {
        Ok(n) if (least..=most).contains(&n) => Ok(n),
        _ if most == i32::MAX => Err(format!("{text:?} is not a whole number from {least} up")),
        _ => Err(format!(
            "{text:?} is not a whole number from {least} to {most}"
        )),
    }
}

fn host_threads(text: &str) -> Result<i32, String> {
    number(text, 1, 10).map_err(|e| match text.parse::<i64>() {
        Ok(n) if n > 10 => format!(
            "{n} is too many: the VIX library allows about ten connections per process, so one \
             worker serves 1 to 10 hosts at a time; for more, start more workers"
        ),
        _ => e,
    })
}

pub(super) fn yes_no(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

pub(super) fn word<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse::<T>().map_err(|e| e.to_string())
}

/// The key of this name.
///
/// # Errors
/// [`StoreError::Refused`] with all names.
pub fn key<S>(keys: &'static [Key<S>], name: &str) -> Result<&'static Key<S>, StoreError> {
    keys.iter().find(|key| key.name == name).ok_or_else(|| {
        let names: Vec<_> = keys.iter().map(|key| key.name).collect();
        StoreError::Refused(format!(
            "there is no setting {name:?}; there are {}",
            names.join(", ")
        ))
    })
}

/// The settings now.
pub async fn get(db: impl PgExecutor<'_>) -> Result<Settings, StoreError> {
    Ok(sqlx::query_as(include_str!("settings/get.sql"))
        .fetch_one(db)
        .await?)
}

/// Until the caller's transaction ends, nobody else changes settings or imports a configuration.
pub async fn lock(db: impl PgExecutor<'_>) -> Result<(), StoreError> {
    sqlx::query(include_str!("settings/lock.sql"))
        .execute(db)
        .await?;
    Ok(())
}

/// Changes settings in memory.
pub(super) fn apply<S>(
    keys: &'static [Key<S>],
    settings: &mut S,
    changes: &[(&str, &str)],
) -> Result<(), StoreError> {
    for (name, text) in changes {
        (key(keys, name)?.write)(settings, text.trim())
            .map_err(|why| StoreError::Refused(format!("{name}: {why}")))?;
    }
    Ok(())
}

/// Changes settings, all or none; they apply at once, everywhere. Returns them as they stand then.
///
/// # Errors
/// [`StoreError::Refused`] for an unknown name or a value that is not permitted.
pub async fn set(
    db: impl Acquire<'_, Database = Postgres>,
    changes: &[(&str, &str)],
) -> Result<Settings, StoreError> {
    let mut tx = db.begin().await?;
    lock(&mut *tx).await?;
    let mut settings = get(&mut *tx).await?;
    apply(KEYS, &mut settings, changes)?;
    let s = &settings;
    sqlx::query(include_str!("settings/save.sql"))
        .bind(s.host_threads)
        .bind(s.guest_threads)
        .bind(&s.destination)
        .bind(s.mode)
        .bind(s.resume_power_state)
        .bind(s.backup_when_off)
        .bind(s.new_guests)
        .bind(s.verify_after_backup)
        .bind(s.keep_last)
        .bind(s.daily_start_time)
        .bind(&s.time_zone)
        .bind(s.soft_power_off_secs)
        .bind(s.snapshot_limit_secs)
        .bind(s.max_attempts)
        .bind(s.max_crashes)
        .bind(s.retry_delay_secs)
        .bind(s.lease_secs)
        .bind(s.event_keep_days)
        .bind(s.event_keep_count)
        .bind(s.history_keep_days)
        .bind(s.history_keep_runs)
        .bind(s.fleet_guest_threads)
        .bind(s.rpo_secs)
        .bind(s.group_may_read)
        .bind(s.file_silence_secs)
        .execute(&mut *tx)
        .await?;
    slots::sync(&mut tx, None).await?;
    tx.commit().await?;
    Ok(settings)
}
