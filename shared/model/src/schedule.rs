//! When a schedule is due: cron expressions in time zones, over changes of the clock.
//!
//! A due time that the clock skips (02:30 when it goes from 02:00 to 03:00) is due when it jumps; one
//! that the clock passes twice is due once.

use std::str::FromStr;

use chrono::{DateTime, Timelike, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

use crate::Settings;

/// A schedule's rhythm cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The cron expression is wrong.
    #[error(
        "{text:?} is not a cron expression ({why}): it has five fields, minute hour day month weekday, for example \"30 22 * * 1-5\""
    )]
    Cron {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The expression is right, but no day is like that.
    #[error("the cron expression {0:?} is never due: there is no such day")]
    Never(String),
    /// There is no such time zone.
    #[error("{0:?} is not a time zone: give a name such as Europe/Berlin or UTC")]
    TimeZone(String),
}

/// The rhythm of a schedule.
#[derive(Debug, Clone)]
pub struct Recurrence {
    cron: Cron,
    time_zone: Tz,
}

impl Recurrence {
    /// A cron expression of five fields in a time zone. Without an expression: Monday to Friday at the
    /// daily start time; without a time zone: the site's.
    ///
    /// # Errors
    /// If one of them is wrong, or the expression is never due.
    pub fn new(
        cron: Option<&str>,
        time_zone: Option<&str>,
        settings: &Settings,
    ) -> Result<Self, ScheduleError> {
        let zone = time_zone.unwrap_or(&settings.time_zone);
        let time_zone = Tz::from_str(zone).map_err(|_| ScheduleError::TimeZone(zone.to_owned()))?;
        let text = cron.map_or_else(
            || {
                let at = settings.daily_start_time;
                format!("{} {} * * 1-5", at.minute(), at.hour())
            },
            str::to_owned,
        );
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(&text)
            .map_err(|e| ScheduleError::Cron {
                text: text.clone(),
                why: e.to_string(),
            })?;
        let recurrence = Self { cron, time_zone };
        match recurrence.next_after(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(recurrence),
            None => Err(ScheduleError::Never(text)),
        }
    }

    /// The first due time after `at`.
    pub fn next_after(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = self
            .cron
            .find_next_occurrence(&at.with_timezone(&self.time_zone), false);
        next.ok().map(|due| due.with_timezone(&Utc))
    }

    /// The last due time at or before `at`.
    pub fn last_until(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let last = self
            .cron
            .find_previous_occurrence(&at.with_timezone(&self.time_zone), true);
        last.ok().map(|due| due.with_timezone(&Utc))
    }

    /// The time zone.
    pub fn time_zone(&self) -> Tz {
        self.time_zone
    }
}

#[cfg(test)]
mod tests;
