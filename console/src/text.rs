//! The text that commands print for states of runs, hosts, hooks and processes: progress, reasons for waiting, results.

use chrono::{DateTime, TimeDelta, Utc};
use virtuozo_model::Pause;
use virtuozo_services::{
    hosts::NodeLine,
    obligations::ObligationLine,
    progress::StepProgress,
    runs::{GuestRunLine, HookRunLine, HostRunLine, StepLine},
    status::ProcessLine,
    workers::{KindUnserved, LackingWorker},
};

use crate::output;

/// How many guests may be backed up at once.
pub(crate) fn guest_limit(guests: Option<i32>) -> String {
    match guests {
        Some(1) => "1 guest in work at most".to_owned(),
        Some(n) => format!("{n} guests in work at most"),
        None => "as many guests in work as their hosts permit".to_owned(),
    }
}

/// How many guests of a node of a host are in work.
pub(crate) fn node(node: &NodeLine) -> String {
    format!("{}: {} of {}", node.node, node.slots_busy, node.slots)
}

/// A kind of host that no running worker serves: its hosts, the reason, and what to do.
pub(crate) fn unserved_kind(kind: &KindUnserved) -> String {
    let hosts = kind.hosts.join(", ");
    let kind_word = &kind.kind;
    if kind.why.is_empty() {
        return format!(
            "no running worker serves hosts of the kind {kind_word} ({hosts}): start one with `virtuozo worker`"
        );
    }
    format!(
        "no running worker serves hosts of the kind {kind_word} ({hosts}): {}",
        kind.why.join("; ")
    )
}

/// What a machine lacks: a location, or something for a host.
pub(crate) fn lack(location: Option<&str>, host: Option<&str>) -> String {
    match (location, host) {
        (Some(location), _) => location.to_owned(),
        (None, host) => format!("what the host {} takes", host.unwrap_or_default()),
    }
}

/// What the machine of a running worker lacks, and who does its work.
pub(crate) fn lacking_worker(worker: &LackingWorker) -> String {
    let LackingWorker {
        name,
        machine,
        reason,
        ..
    } = worker;
    let what = lack(worker.location.as_deref(), worker.host.as_deref());
    let since = output::time(worker.noted_at);
    let others = match worker.leaves_to_others {
        true => "others do what needs it",
        false => "no other running worker has it",
    };
    format!("worker {name} on {machine} lacks {what}, found at {since}: {reason}; {others}")
}

/// A bar with bytes done, bytes in all, rate and time left.
pub(crate) fn progress(progress: &StepProgress) -> String {
    let mut text = format!(
        "{}  {} of {}",
        bar(progress.done, progress.total),
        output::size(progress.done),
        output::size(progress.total)
    );
    if let Some((rate, left)) = progress.bytes_per_sec.zip(progress.secs_left()) {
        let left = TimeDelta::seconds(i64::try_from(left).unwrap_or(i64::MAX / 1000));
        text += &format!("  {}/s  {} left", output::size(rate), output::span(left));
    }
    text
}

/// `[######··············]  30 %`
pub(crate) fn bar(done: u64, total: u64) -> String {
    const CELLS: u64 = 20;
    let share =
        |parts: u64| u128::from(done.min(total)) * u128::from(parts) / u128::from(total.max(1));
    let full = share(CELLS) as usize;
    format!(
        "[{}{}] {:>3} %",
        "#".repeat(full),
        "·".repeat(CELLS as usize - full),
        share(100)
    )
}

/// Why a guest run waits for its host: the host is paused, or its circuit breaker is open. `None` if it does not.
pub(crate) fn why_blocked(line: &GuestRunLine) -> Option<&str> {
    let held = line.held_reason.as_deref();
    held.filter(|_| line.state == "waiting")
}

/// Why a guest run waits; `None` if it is running or has ended.
pub(crate) fn why_waiting(line: &GuestRunLine) -> Option<String> {
    // The host has to be resumed, or to answer, before anything else matters.
    if let Some(why) = why_blocked(line) {
        return Some(why.to_owned());
    }
    match line.state.as_str() {
        "admitted" => Some("has a slot and waits for a worker".to_owned()),
        "waiting" if line.is_delayed => Some(delayed(
            line.attempts,
            line.run_after,
            line.error.as_deref(),
        )),
        "waiting" => {
            let reason = line.waiting_reason.as_deref();
            let reason = reason.unwrap_or("waits to be admitted");
            Some(format!("{reason}; {} before it", line.waiting_before))
        }
        _ => None,
    }
}

/// Why a host run waits; `None` if it is running or has ended.
pub(crate) fn why_host_waits(line: &HostRunLine) -> Option<String> {
    match line.state.as_str() {
        "queued" if line.held_reason.is_some() => line.held_reason.clone(),
        "queued" if line.is_delayed => Some(delayed(
            line.attempts,
            line.run_after,
            line.error.as_deref(),
        )),
        "queued" => Some("waits for a worker".to_owned()),
        _ => None,
    }
}

/// The state of a hook run.
pub(crate) fn hook_run(line: &HookRunLine) -> String {
    let guest = line.host.as_deref().zip(line.guest.as_deref());
    let subject = guest.map_or(String::new(), |(host, guest)| {
        format!("guest {host}/{guest}: ")
    });
    // The error begins with the hook's name.
    if let ("failed", Some(error)) = (line.state.as_str(), &line.error) {
        return format!("{subject}{error}");
    }
    let what = if guest.is_some() {
        "its backup"
    } else {
        "the run"
    };
    let name = format!("{subject}the command {} {what}", line.moment);
    let state = match (line.state.as_str(), line.started_at, &line.machine) {
        ("running", Some(started), Some(machine)) => {
            format!("runs on {machine} since {}", output::time(started))
        }
        ("waiting", ..) if guest.is_some() => "waits for a worker".to_owned(),
        ("waiting", ..) => "waits for a scheduler".to_owned(),
        (state, ..) => state.to_owned(),
    };
    format!("{name}: {state}")
}

/// Since when a host is paused, and by whom; `None` if it is not.
pub(crate) fn pause(pause: &Pause) -> Option<String> {
    let since = output::time(pause.paused_since?);
    let with = if pause.paused_with_all {
        " with all hosts"
    } else {
        ""
    };
    let by = pause.paused_by.as_deref();
    let by = by.map_or(String::new(), |user| format!(" by {user}"));
    Some(format!("paused{with} since {since}{by}"))
}

/// A scheduler or worker with its machine and process id.
pub(crate) fn process(process: &ProcessLine) -> String {
    format!(
        "{} {} on {} (process {})",
        process.kind, process.name, process.machine, process.pid
    )
}

/// What an obligation requires to be undone.
pub(crate) fn obligation(open: &ObligationLine) -> String {
    match &open.snapshot_name {
        Some(name) => format!("the snapshot {name} is still there"),
        None => "it is not powered on again yet".to_owned(),
    }
}

fn delayed(attempts: i32, at: DateTime<Utc>, error: Option<&str>) -> String {
    format!(
        "retry at {} after {attempts} failed: {}",
        output::time(at),
        error.unwrap_or("no reason was recorded")
    )
}

/// The state of a guest run: its step, why it waits, or how it ended.
pub(crate) fn guest_run(line: &GuestRunLine) -> String {
    if let Some(why) = why_waiting(line) {
        return why;
    }
    match (line.state.as_str(), &line.step, &line.error) {
        ("running", Some(step), _) => match StepProgress::of_guest_run(line) {
            Some(so_far) => format!("{step}  {}", progress(&so_far)),
            None => step.clone(),
        },
        ("running", None, _) => "begins".to_owned(),
        ("succeeded", ..) if line.verified_at.is_some() => "succeeded, verified".to_owned(),
        // The error of a run that no worker had begun names its state.
        ("cancelled", _, Some(error)) => error.clone(),
        ("cancelled", Some(step), None) => format!("cancelled in step {step}"),
        (state, _, Some(error)) => format!("{state}: {error}"),
        (state, ..) => state.to_owned(),
    }
}

/// The state of a guest run without numbers that grow, for output that prints each change as a line.
pub(crate) fn guest_run_summary(line: &GuestRunLine) -> String {
    match (StepProgress::of_guest_run(line), &line.step) {
        (Some(_), Some(step)) => step.clone(),
        _ => guest_run(line),
    }
}

/// The steps of a guest run with their durations; ` | ` separates attempts.
pub(crate) fn steps<'a>(steps: impl IntoIterator<Item = &'a StepLine>) -> String {
    let mut text = String::new();
    let mut fence = None;
    for step in steps {
        match fence.replace(step.fence) {
            None => {}
            Some(before) if before == step.fence => text += ", ",
            Some(_) => text += " | ",
        }
        text += &step.name;
        match (step.state.as_str(), step.ended_at) {
            ("done", Some(ended)) => {
                let millis = (ended - step.started_at).num_milliseconds().max(0);
                text += &format!(" {}.{}s", millis / 1000, millis / 100 % 10);
            }
            (state, _) => text += &format!(" {state}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn waiting() -> GuestRunLine {
        GuestRunLine {
            id: Uuid::nil(),
            host: "alpha".into(),
            guest: "mail".into(),
            guest_id: Uuid::nil(),
            state: "waiting".into(),
            mode: None,
            step: None,
            attempts: 0,
            crashes: 0,
            run_after: DateTime::UNIX_EPOCH,
            is_delayed: false,
            error: None,
            error_class: None,
            bytes_total: None,
            bytes_copied: 0,
            progress_at: None,
            copy_started_at: None,
            verify_bytes_total: None,
            verify_bytes_read: None,
            verify_started_at: None,
            created_at: DateTime::UNIX_EPOCH,
            started_at: None,
            ended_at: None,
            worker: None,
            point_id: None,
            taken_at: None,
            size_bytes: None,
            verified_at: None,
            slots: 2,
            slots_busy: 0,
            waiting_before: 0,
            held_reason: None,
            waiting_reason: None,
        }
    }

    #[test]
    fn a_waiting_guest_says_what_it_waits_for() {
        let free = waiting();
        assert!(guest_run(&free).contains("admitted"));
        let retry = GuestRunLine {
            is_delayed: true,
            attempts: 1,
            error: Some("the host is away".into()),
            ..waiting()
        };
        assert!(guest_run(&retry).starts_with("retry at "));
        assert!(guest_run(&retry).ends_with("the host is away"));
        let capped = GuestRunLine {
            waiting_reason: Some("cap reached: fleet, 3 of 3 guests in work".into()),
            waiting_before: 1,
            ..waiting()
        };
        assert_eq!(
            guest_run(&capped),
            "cap reached: fleet, 3 of 3 guests in work; 1 before it"
        );
        let paused = GuestRunLine {
            held_reason: Some("its host is paused".into()),
            slots_busy: 2,
            ..waiting()
        };
        assert_eq!(guest_run(&paused), "its host is paused");
    }

    #[test]
    fn a_copy_shows_its_share_its_rate_and_the_time_left() {
        let at = |secs| DateTime::from_timestamp(secs, 0);
        let copy = StepProgress::new(50 << 20, Some(100 << 20), at(0), at(5)).unwrap();
        let text = progress(&copy);
        for part in [" 50 %", "/s", "left"] {
            assert!(text.contains(part), "{text}");
        }
        let fresh = StepProgress::new(0, Some(100), at(0), at(0)).unwrap();
        assert!(!progress(&fresh).contains("left"));
    }

    #[test]
    fn a_bar_stays_in_its_frame_whatever_the_numbers() {
        let empty = bar(0, 100);
        for (done, total) in [(0, 0), (5, 0), (u64::MAX, u64::MAX), (200, 100)] {
            assert_eq!(bar(done, total).chars().count(), empty.chars().count());
        }
        assert!(bar(100, 100).contains("100 %"));
    }
}
