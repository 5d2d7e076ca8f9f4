//! The daily digest: what ran, what did not, and what is wrong.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_model::{
    GuestState, HostState, NoticeKind, Schedule, Settings, human, schedule::Recurrence,
};
use virtuozo_store::{
    notices::digest::{self, DigestData, DigestGuest, DigestHost, DigestSpace},
    schedules, settings,
};

use crate::{
    content::{
        Content, Digest, GUESTS_MAX, LINES_MAX, LeftBehind, Missed, Problem, RunPart, SpacePart,
        StalePart,
    },
    error::NoticeError,
    runs,
    text::{bounded, count, line},
};

/// A due time this shortly before the digest may still become a run; the next digest tells of it.
const GRACE: TimeDelta = TimeDelta::minutes(5);
/// Missed due times of one schedule that are counted.
const MISSED_MAX: usize = 1000;

/// A schedule that can be followed, and its due times.
struct Followed<'a> {
    schedule: &'a Schedule,
    rhythm: Recurrence,
    since: DateTime<Utc>,
}

impl Followed<'_> {
    /// The due times of the day, so far as it was followed then.
    fn due(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        let first = self.rhythm.next_after(from.max(self.since));
        std::iter::successors(first, |at| self.rhythm.next_after(*at))
            .take_while(move |at| *at <= to)
            .take(MISSED_MAX)
    }
}

/// The digest of the day up to `to`.
pub(crate) async fn content(pool: &PgPool, to: DateTime<Utc>) -> Result<Content, NoticeError> {
    let to_due = to - GRACE;
    let from = to - TimeDelta::days(1);
    let data = digest::read(pool, from - GRACE, to).await?;
    let schedules = schedules::list(pool).await?;
    let site = settings::get(pool).await?;
    let mut runs = Vec::new();
    for &id in &data.run_ids {
        runs.extend(runs::of_run(pool, id).await?);
    }
    let (followed, mut not_run) = follow(&schedules, &site, &data);
    not_run.extend(missed(&followed, &data, from - GRACE, to_due));
    not_run.extend(data.hosts.iter().filter_map(host_left_out));
    not_run.extend(data.guests.iter().filter_map(guest_left_out));
    let (stale, fresh) = stale(&data);
    let mut left_behind = runs::left_behind(pool).await?;
    let mut digest = Digest {
        from,
        to,
        problems: problems(&data),
        more_problems: 0,
        not_run,
        more_not_run: 0,
        stale,
        more_stale: 0,
        fresh,
        space: data.space.iter().map(space).collect(),
    };
    let subject = subject(&digest, &runs, &left_behind);
    digest.more_problems = bounded(&mut digest.problems, LINES_MAX);
    digest.more_not_run = bounded(&mut digest.not_run, LINES_MAX);
    digest.more_stale = bounded(&mut digest.stale, LINES_MAX);
    Ok(Content {
        kind: NoticeKind::Digest,
        subject,
        held_by_limit: false,
        more_left_behind: bounded(&mut left_behind, LINES_MAX),
        left_behind,
        more_runs: shorten(&mut runs),
        runs,
        digest: Some(digest),
    })
}

/// Leaves of the day's runs what can be read: those that failed before others, and of all of them together no more
/// guests and hosts than a notice about one run has. Returns how many runs are left out.
fn shorten(runs: &mut Vec<RunPart>) -> usize {
    runs.sort_by_key(|run| run.state != "failed");
    let more = bounded(runs, LINES_MAX);
    runs.sort_by_key(|run| run.started_at);
    let (mut guests, mut hosts) = (GUESTS_MAX, LINES_MAX);
    for run in runs {
        // Each of the others had a notice of its own, or is told among the stale.
        run.guests.retain(|guest| guest.state == "failed");
        bounded(&mut run.guests, guests);
        run.more_guests = run.failed.saturating_sub(run.guests.len());
        guests -= run.guests.len();
        run.more_failed_hosts += bounded(&mut run.failed_hosts, hosts);
        hosts -= run.failed_hosts.len();
    }
    more
}

/// The schedules that are followed, and why others are not.
fn follow<'a>(
    schedules: &'a [Schedule],
    site: &Settings,
    data: &DigestData,
) -> (Vec<Followed<'a>>, Vec<Missed>) {
    let since: HashMap<Uuid, DateTime<Utc>> = data.schedules_since.iter().copied().collect();
    let (mut followed, mut not) = (Vec::new(), Vec::new());
    for schedule in schedules {
        let what = format!("schedule {}", line(&schedule.name));
        if !schedule.enabled {
            let why = "it is disabled".to_owned();
            not.push(Missed { what, why });
            continue;
        }
        let (cron, zone) = (schedule.cron.as_deref(), schedule.time_zone.as_deref());
        match Recurrence::new(cron, zone, site) {
            Ok(rhythm) => followed.push(Followed {
                schedule,
                rhythm,
                since: since.get(&schedule.id).copied().unwrap_or_default(),
            }),
            Err(error) => not.push(Missed {
                what,
                why: format!("it cannot be followed: {}", line(&error.to_string())),
            }),
        }
    }
    if schedules.is_empty() {
        not.push(Missed {
            what: "everything".to_owned(),
            why: "there is no schedule; `virtuozo schedule add nightly` adds one".to_owned(),
        });
    }
    (followed, not)
}

/// Due times of the day that made no run.
fn missed(
    followed: &[Followed<'_>],
    data: &DigestData,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Vec<Missed> {
    let ticks: HashSet<(Uuid, DateTime<Utc>)> = data.ticks.iter().copied().collect();
    let mut all = Vec::new();
    for one in followed {
        let missed: Vec<DateTime<Utc>> = one
            .due(from, to)
            .filter(|at| !ticks.contains(&(one.schedule.id, *at)))
            .collect();
        if let [first, ..] = missed.as_slice() {
            all.push(Missed {
                what: format!("schedule {}", line(&one.schedule.name)),
                why: format!(
                    "{} without a run, the first at {}: no scheduler ran then, or a later one was taken for it",
                    count(missed.len(), "due time"),
                    first.format("%Y-%m-%d %H:%M UTC")
                ),
            });
        }
    }
    all
}

fn host_left_out(host: &DigestHost) -> Option<Missed> {
    let why = match (host.ignored, host.paused_at) {
        (true, _) => "it is ignored".to_owned(),
        (false, Some(since)) => {
            format!("it is paused since {}", since.format("%Y-%m-%d %H:%M UTC"))
        }
        (false, None) => return None,
    };
    Some(Missed {
        what: format!("host {}", line(&host.name)),
        why,
    })
}

fn guest_left_out(guest: &DigestGuest) -> Option<Missed> {
    let why = match guest.state {
        _ if guest.ignored => "it is ignored",
        _ if !guest.configured => {
            "nobody has decided about its backup; `virtuozo guest add` takes it over"
        }
        GuestState::NotInInventory => "its host does not know it",
        GuestState::PoweredOff => "it is off, and is not to be backed up while it is",
        _ => return None,
    };
    Some(Missed {
        what: format!("guest {}", line(&guest.name)),
        why: why.to_owned(),
    })
}

/// Guests that have exceeded their RPO, and how many have a restore point that is new enough.
fn stale(data: &DigestData) -> (Vec<StalePart>, usize) {
    let part = |guest: &DigestGuest| {
        Some(StalePart {
            guest: line(&guest.name),
            last_point_at: guest.last_point_at,
            due_since: guest.due_since?,
            why: why_stale(guest),
        })
    };
    let mut stale: Vec<StalePart> = data.guests.iter().filter_map(part).collect();
    // Those that never had one are the worst, then the oldest.
    stale.sort_by_key(|one| (one.last_point_at, one.due_since));
    let fresh = |guest: &&DigestGuest| guest.due_since.is_none() && guest.last_point_at.is_some();
    (stale, data.guests.iter().filter(fresh).count())
}

fn why_stale(guest: &DigestGuest) -> String {
    let error = || {
        guest
            .last_error
            .as_deref()
            .map_or_else(String::new, |e| format!(": {}", line(e)))
    };
    match guest.last_run_state.as_deref() {
        _ if guest.in_work => "its backup is in work or waits".to_owned(),
        Some(state @ ("failed" | "cancelled" | "skipped")) => {
            format!("its last backup {state}{}", error())
        }
        _ if guest.state != GuestState::Ok && guest.state_reason.is_some() => {
            line(guest.state_reason.as_deref().unwrap_or_default())
        }
        None => "it was never in a run: no schedule has been due for it".to_owned(),
        Some(_) => "no run has backed it up since".to_owned(),
    }
}

fn problems(data: &DigestData) -> Vec<Problem> {
    let stuck = data.stuck.iter().map(|one| Problem {
        since: one.since,
        what: match &one.about {
            Some(about) => format!("{}: {}", line(about), line(&one.reason)),
            None => line(&one.reason),
        },
        advice: line(&one.advice),
    });
    let damaged = data.damaged.iter().map(|one| Problem {
        since: Some(one.taken_at),
        what: format!(
            "the restore point {} of {} is damaged: {}",
            one.id,
            line(&one.guest),
            line(
                one.damage
                    .as_deref()
                    .unwrap_or("it is not what was written")
            )
        ),
        advice: "do not count on it; look at the destination's storage".to_owned(),
    });
    let hosts = data
        .hosts
        .iter()
        .filter(|host| {
            !host.ignored && matches!(host.state, HostState::Unreachable | HostState::Invalid)
        })
        .map(|host| Problem {
            since: host.checked_at,
            what: format!(
                "host {} is {}: {}",
                line(&host.name),
                host.state,
                line(
                    host.state_reason
                        .as_deref()
                        .unwrap_or("no reason was recorded")
                )
            ),
            advice: "`virtuozo host test` tries the connection".to_owned(),
        });
    let mut all: Vec<Problem> = stuck.chain(damaged).chain(hosts).collect();
    all.sort_by_key(|one| one.since);
    all
}

fn space(one: &DigestSpace) -> SpacePart {
    SpacePart {
        path: line(&one.path),
        free_bytes: one.free_bytes,
        seen_at: one.seen_at,
        new_points: one.new_points,
        new_bytes: one.new_bytes,
        days_left: one
            .free_bytes
            .and_then(|free| free.checked_div(one.new_bytes))
            .filter(|days| *days < 10),
    }
}

/// The loudest first.
fn subject(digest: &Digest, runs: &[RunPart], left_behind: &[LeftBehind]) -> String {
    let of = |state: &str| runs.iter().filter(|run| run.state == state).count();
    let mut wrong = Vec::new();
    match left_behind.iter().filter(|one| one.is_tried).count() {
        0 => {}
        n => wrong.push(format!("{} NOT BROUGHT BACK", count(n, "GUEST"))),
    }
    if !digest.stale.is_empty() {
        wrong.push(format!(
            "{} without a fresh restore point",
            count(digest.stale.len(), "guest")
        ));
    }
    if of("failed") > 0 {
        wrong.push(format!("{} failed", count(of("failed"), "run")));
    }
    if !digest.problems.is_empty() {
        wrong.push(count(digest.problems.len(), "problem"));
    }
    if wrong.is_empty() {
        let size: i64 = digest.space.iter().map(|one| one.new_bytes).sum();
        let size = human::size(u64::try_from(size).unwrap_or_default());
        return format!(
            "Virtuozo digest: all is well, {} with fresh restore points, {size} in a day",
            count(digest.fresh, "guest")
        );
    }
    format!("Virtuozo digest: {}", wrong.join(", "))
}
