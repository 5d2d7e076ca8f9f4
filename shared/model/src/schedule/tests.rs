//! Tests of due times, above all where the clock is changed.

use chrono::{Datelike, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Weekday};
use proptest::prelude::*;

use super::*;
use crate::{Mode, NewGuests};

fn settings() -> Settings {
    Settings {
        host_threads: 10,
        guest_threads: 2,
        destination: None,
        mode: Mode::Auto,
        resume_power_state: true,
        backup_when_off: true,
        new_guests: NewGuests::Backup,
        verify_after_backup: true,
        group_may_read: false,
        keep_last: 7,
        daily_start_time: NaiveTime::from_hms_opt(22, 15, 0).unwrap(),
        time_zone: "UTC".into(),
        soft_power_off_secs: 120,
        snapshot_limit_secs: 600,
        file_silence_secs: 120,
        max_attempts: 3,
        max_crashes: 3,
        retry_delay_secs: 30,
        lease_secs: 10,
        event_keep_days: 90,
        event_keep_count: 1_000_000,
        history_keep_days: 180,
        history_keep_runs: 1000,
        fleet_guest_threads: None,
        rpo_secs: 0,
    }
}

fn recurrence(cron: &str, zone: &str) -> Recurrence {
    Recurrence::new(Some(cron), Some(zone), &settings()).unwrap()
}

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[test]
fn without_an_expression_it_is_due_on_weekdays_at_the_daily_start_time() {
    let daily = Recurrence::new(None, None, &settings()).unwrap();
    // 2026-11-20 is a Friday.
    let friday = utc("2026-11-20T22:15:00Z");
    assert_eq!(daily.next_after(utc("2026-11-20T12:00:00Z")), Some(friday));
    assert_eq!(daily.next_after(friday), Some(utc("2026-11-23T22:15:00Z")));
    assert_eq!(daily.last_until(friday), Some(friday));
    assert_eq!(daily.last_until(utc("2026-11-22T09:00:00Z")), Some(friday));
}

#[test]
fn a_due_time_that_the_clock_skips_is_due_when_it_jumps() {
    // Berlin, 2026-03-29: 02:00 becomes 03:00.
    let nightly = recurrence("30 2 * * *", "Europe/Berlin");
    let due = nightly.next_after(utc("2026-03-28T12:00:00Z")).unwrap();
    assert!(
        (utc("2026-03-29T01:00:00Z")..=utc("2026-03-29T01:30:00Z")).contains(&due),
        "{due}"
    );
    assert_eq!(nightly.next_after(due), Some(utc("2026-03-30T00:30:00Z")));
}

#[test]
fn a_due_time_that_the_clock_passes_twice_is_due_once() {
    // Berlin, 2026-10-25: 03:00 becomes 02:00.
    let nightly = recurrence("30 2 * * *", "Europe/Berlin");
    let due = nightly.next_after(utc("2026-10-24T12:00:00Z")).unwrap();
    assert_eq!(nightly.next_after(due), Some(utc("2026-10-26T01:30:00Z")));
}

/// All due times between two instants.
fn due(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
    let recurrence = recurrence(cron, zone);
    let (mut at, to) = (utc(from), utc(to));
    let mut due = Vec::new();
    while let Some(next) = recurrence.next_after(at).filter(|next| *next <= to) {
        assert_eq!(recurrence.last_until(next), Some(next), "{cron}");
        let before = recurrence.last_until(next - TimeDelta::seconds(1));
        assert!(
            before <= Some(at) || due.is_empty(),
            "{cron}: {before:?} before {next}"
        );
        due.push(next.format("%H:%M").to_string());
        at = next;
    }
    due
}

#[test]
fn a_rhythm_goes_by_the_hours_that_there_are() {
    // Berlin, 2026-03-29: 01:00 UTC is 03:00, and there is no 02:00; 2026-10-25: 00:00 and 01:00 UTC are both 02:00.
    let spring = |cron| {
        due(
            cron,
            "Europe/Berlin",
            "2026-03-28T23:30:00Z",
            "2026-03-29T03:30:00Z",
        )
    };
    let autumn = |cron| {
        due(
            cron,
            "Europe/Berlin",
            "2026-10-24T22:30:00Z",
            "2026-10-25T03:30:00Z",
        )
    };
    assert_eq!(spring("15 * * * *"), ["00:15", "01:15", "02:15", "03:15"]);
    assert_eq!(
        autumn("15 * * * *"),
        ["23:15", "00:15", "01:15", "02:15", "03:15"]
    );
    assert_eq!(spring("15 0-23 * * *"), spring("15 * * * *"));
    // 02:00 is not there.
    assert_eq!(spring("0 */2 * * *"), ["02:00"]);
    assert_eq!(autumn("0 */2 * * *"), ["00:00", "01:00", "03:00"]);
}

#[test]
fn named_hours_are_due_once_each_day_whatever_the_clock_does() {
    let spring = |cron| {
        due(
            cron,
            "Europe/Berlin",
            "2026-03-28T23:30:00Z",
            "2026-03-29T14:00:00Z",
        )
    };
    let autumn = |cron| {
        due(
            cron,
            "Europe/Berlin",
            "2026-10-24T22:30:00Z",
            "2026-10-25T14:00:00Z",
        )
    };
    // What is skipped is due at the jump, all of it at once.
    assert_eq!(spring("30 2,14 * * *"), ["01:00", "12:30"]);
    assert_eq!(spring("*/20 2 * * *"), ["01:00"]);
    assert_eq!(spring("0 1-4 * * *"), ["00:00", "01:00", "02:00"]);
    assert_eq!(autumn("30 2,14 * * *"), ["00:30", "13:30"]);
    assert_eq!(autumn("*/20 2 * * *"), ["00:00", "00:20", "00:40"]);
    assert_eq!(autumn("0 1-4 * * *"), ["23:00", "00:00", "02:00", "03:00"]);
    // Samoa had no 30th of December in 2011: it skipped a day.
    let skipped = due(
        "0 5 * * *",
        "Pacific/Apia",
        "2011-12-29T00:00:00Z",
        "2011-12-31T00:00:00Z",
    );
    assert_eq!(skipped, ["15:00", "10:00", "15:00"]);
}

#[test]
fn wrong_rhythms_are_refused_with_what_is_right() {
    let settings = settings();
    for (cron, zone, expected) in [
        ("every day", "UTC", "five fields"),
        ("0 0 22 * * 1-5", "UTC", "five fields"),
        ("61 * * * *", "UTC", "five fields"),
        ("", "UTC", "five fields"),
        ("0 0 30 2 *", "UTC", "no such day"),
        ("0 0 * * *", "Mars/Olympus", "Europe/Berlin"),
        ("0 0 * * *", "", "Europe/Berlin"),
    ] {
        let error = Recurrence::new(Some(cron), Some(zone), &settings)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{cron:?} {zone:?}: {error}");
    }
}

/// Zones whose clocks change by an hour, by half an hour, not at all, and at midnight.
const ZONES: [&str; 6] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Santiago",
    "UTC",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn next_and_last_are_neighbours(
        minute in 0..60u32, hour in 0..24u32, zone in 0..ZONES.len(), at in 1_700_000_000i64..2_000_000_000,
    ) {
        let daily = recurrence(&format!("{minute} {hour} * * *"), ZONES[zone]);
        let at = Utc.timestamp_opt(at, 0).unwrap();
        let next = daily.next_after(at).unwrap();
        let last = daily.last_until(at).unwrap();
        prop_assert!(last <= at && at < next);
        prop_assert_eq!(daily.next_after(last), Some(next), "nothing is due in between");
        prop_assert_eq!(daily.last_until(next), Some(next));
    }

    #[test]
    fn a_daily_schedule_is_due_once_on_every_local_day(
        minute in 0..60u32, hour in 0..24u32, zone in 0..ZONES.len(), year in 2024..2032i32,
    ) {
        let daily = recurrence(&format!("{minute} {hour} * * *"), ZONES[zone]);
        let zone = daily.time_zone();
        let mut day = NaiveDate::from_ymd_opt(year, 1, 1).unwrap();
        let midday = zone.from_local_datetime(&day.and_hms_opt(0, 0, 0).unwrap()).earliest().unwrap();
        let mut at = midday.with_timezone(&Utc) - TimeDelta::seconds(1);
        while day.year() == year {
            at = daily.next_after(at).unwrap();
            prop_assert_eq!(at.with_timezone(&zone).date_naive(), day);
            day = day + Days::new(1);
        }
    }

    #[test]
    fn the_default_is_never_due_on_a_weekend(at in 1_700_000_000i64..2_000_000_000, zone in 0..ZONES.len()) {
        let daily = Recurrence::new(None, Some(ZONES[zone]), &settings()).unwrap();
        let due = daily.next_after(Utc.timestamp_opt(at, 0).unwrap()).unwrap();
        let weekday = due.with_timezone(&daily.time_zone()).weekday();
        prop_assert!(!matches!(weekday, Weekday::Sat | Weekday::Sun));
    }
}
