//! When a schedule is due: cron expressions in time zones, over changes of the clock.
//!
//! An expression that names hours means times of a day: one that the clock skips (02:30 when it goes from 02:00 to
//! 03:00) is due when it jumps, several such are due there once; one that the clock passes twice is due once, the
//! first time. An expression of every hour, or of every so many (`*`, `*/2`), means a rhythm: it goes by the hours that
//! there are, so nothing is due at a time that is skipped, and what the clock passes twice is due twice.

use std::str::FromStr;

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

use crate::Settings;

/// No clock is turned back by more. Those that were turned on by more skipped a day (Samoa, 2011).
const TURNED_BACK_MAX: TimeDelta = TimeDelta::hours(3);
/// No clock skips more.
const SKIPPED_MAX_MINUTES: i64 = 26 * 60;

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
        let local = at.with_timezone(&self.time_zone);
        if self.is_every_hour() {
            let next = self.cron.find_next_occurrence(&local, false);
            return next.ok().map(|due| due.with_timezone(&Utc));
        }
        let mut on_clock = local.naive_local();
        loop {
            let next = self.cron.find_next_occurrence(&on_clock.and_utc(), false);
            on_clock = next.ok()?.naive_utc();
            match self.instant(on_clock)? {
                due if due > at => return Some(due),
                _ => {}
            }
        }
    }

    /// The last due time at or before `at`.
    pub fn last_until(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = at.with_timezone(&self.time_zone);
        if self.is_every_hour() {
            let last = self.cron.find_previous_occurrence(&local, true);
            return last.ok().map(|due| due.with_timezone(&Utc));
        }
        // Of a time that the clock passes twice, the second passing lies behind later times of the first.
        let mut on_clock = local.naive_local() + TURNED_BACK_MAX;
        loop {
            let last = self
                .cron
                .find_previous_occurrence(&on_clock.and_utc(), false);
            on_clock = last.ok()?.naive_utc();
            match self.instant(on_clock)? {
                due if due <= at => return Some(due),
                _ => {}
            }
        }
    }

    /// Whether the expression means a rhythm, and not times of a day.
    fn is_every_hour(&self) -> bool {
        let hours = &self.cron.pattern.hours;
        hours.from_wildcard || hours.values().len() == 24
    }

    /// When the clock shows a time: first, of one that it shows twice; when it jumps, of one that it skips.
    fn instant(&self, on_clock: NaiveDateTime) -> Option<DateTime<Utc>> {
        (0..SKIPPED_MAX_MINUTES).find_map(|minutes| {
            let shown = on_clock.checked_add_signed(TimeDelta::minutes(minutes))?;
            match self.time_zone.from_local_datetime(&shown) {
                MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => {
                    Some(at.with_timezone(&Utc))
                }
                MappedLocalTime::None => None,
            }
        })
    }

    /// The time zone.
    pub fn time_zone(&self) -> Tz {
        self.time_zone
    }
}

#[cfg(test)]
mod tests;
