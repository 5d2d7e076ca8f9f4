//! The content of notices about runs and about guests that could not be brought back.

use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_model::NoticeKind;
use virtuozo_postgres::StoreError;
use virtuozo_store::{
    notices::NoticeContents,
    views::{self, GuestRunLine, HostRunLine, ObligationLine},
};

use crate::{
    content::{Content, GUESTS_MAX, GuestPart, HostPart, LINES_MAX, LeftBehind, RunPart},
    error::NoticeError,
    text::{bounded, count, line, shortened},
};

/// Runs that are told in full; more are counted.
const RUNS_MAX: usize = 10;
/// Longer subjects are cut by those who show them.
const SUBJECT_CHARS_MAX: usize = 150;

/// A notice about runs.
pub(crate) async fn content(
    pool: &PgPool,
    kind: NoticeKind,
    run_ids: &[Uuid],
    contents: Option<&NoticeContents>,
) -> Result<Content, NoticeError> {
    let mut runs = Vec::new();
    for &id in run_ids.iter().take(RUNS_MAX) {
        runs.extend(of_run(pool, id).await?);
    }
    runs.sort_by_key(|run| (run.state != "failed", run.started_at));
    let mut left_behind = left_behind(pool).await?;
    let more_runs = run_ids.len().saturating_sub(RUNS_MAX);
    let subject = subject(&runs, more_runs, &left_behind);
    Ok(Content {
        kind,
        subject: shortened(&subject, SUBJECT_CHARS_MAX),
        held_by_limit: contents.is_some_and(|contents| contents.is_held),
        more_left_behind: bounded(&mut left_behind, LINES_MAX),
        left_behind,
        runs,
        more_runs,
        digest: None,
    })
}

/// What is to be undone and nobody works on.
pub(crate) async fn left_behind(pool: &PgPool) -> Result<Vec<LeftBehind>, StoreError> {
    let mut all: Vec<LeftBehind> = views::all::<ObligationLine>(pool)
        .await?
        .into_iter()
        .filter(|one| !one.in_work)
        .map(behind)
        .collect();
    all.sort_by_key(|one| (!one.is_tried, one.since));
    Ok(all)
}

fn behind(one: ObligationLine) -> LeftBehind {
    let (what, by_hand) = match &one.snapshot_name {
        Some(name) => (
            format!("still has the snapshot {}", line(name)),
            "remove the snapshot by hand",
        ),
        None => ("is still off".to_owned(), "power it on by hand"),
    };
    LeftBehind {
        guest: line(&format!("{}/{}", one.host, one.guest)),
        what,
        is_tried: one.attempts > 0,
        attempts: one.attempts,
        error: one.last_error.as_deref().map(line),
        since: one.created_at,
        advice: if one.attempts > 0 {
            format!("{by_hand}, or mend the cause and Virtuozo will")
        } else {
            "Virtuozo is about to undo it".to_owned()
        },
    }
}

/// A run as it stands; none if it is gone.
pub(crate) async fn of_run(pool: &PgPool, id: Uuid) -> Result<Option<RunPart>, StoreError> {
    let Some(run) = views::run(pool, id).await? else {
        return Ok(None);
    };
    let lines = views::of_run::<GuestRunLine>(pool, id).await?;
    let hosts = views::of_run::<HostRunLine>(pool, id).await?;
    let of = |state: &str| lines.iter().filter(|guest| guest.state == state).count();
    let (succeeded, failed) = (of("succeeded"), of("failed"));
    let size_bytes = lines.iter().filter_map(|guest| guest.size_bytes).sum();
    let guest_count = lines.len();
    let mut guests: Vec<GuestPart> = lines.into_iter().map(guest).collect();
    guests.sort_by_key(|guest| match guest.state.as_str() {
        "failed" => 0,
        "cancelled" => 1,
        "skipped" => 2,
        _ => 3,
    });
    let more_guests = bounded(&mut guests, GUESTS_MAX);
    let mut failed_hosts: Vec<HostPart> = hosts
        .into_iter()
        .filter(|host| host.state == "failed")
        .map(host)
        .collect();
    Ok(Some(RunPart {
        id,
        requested_by: line(&run.requested_by),
        state: run.state,
        error: run.error.as_deref().map(line),
        started_at: run.created_at,
        ended_at: run.ended_at,
        duration_secs: run.ended_at.map(|end| (end - run.created_at).num_seconds()),
        guest_count,
        succeeded,
        failed,
        size_bytes,
        trace_id: run.trace_id,
        more_failed_hosts: bounded(&mut failed_hosts, LINES_MAX),
        failed_hosts,
        more_guests,
        guests,
    }))
}

fn host(one: HostRunLine) -> HostPart {
    HostPart {
        advice: Some(advice(one.error_class.as_deref(), one.attempts).to_owned()),
        host: line(&one.host),
        error: one.error.as_deref().map(line),
    }
}

fn guest(one: GuestRunLine) -> GuestPart {
    let failed = one.state == "failed";
    GuestPart {
        guest: line(&format!("{}/{}", one.host, one.guest)),
        mode: one.mode,
        size_bytes: one.size_bytes,
        duration_secs: one
            .started_at
            .zip(one.ended_at)
            .map(|(from, to)| (to - from).num_seconds()),
        is_verified: one.verified_at.is_some(),
        attempts: one.attempts,
        error: one
            .error
            .as_deref()
            .filter(|_| one.state != "succeeded")
            .map(line),
        advice: failed.then(|| advice(one.error_class.as_deref(), one.attempts).to_owned()),
        state: one.state,
    }
}

/// What to do about a failure of this class; its message says more.
fn advice(class: Option<&str>, attempts: i32) -> &'static str {
    match class {
        Some("operator") => "mend what the message names, then: virtuozo run retry RUN",
        Some("retry") if attempts > 1 => {
            "it was tried several times; when the cause is gone: virtuozo run retry RUN"
        }
        _ => "look at the guest and its host, then: virtuozo run retry RUN",
    }
}

/// The loudest first: a guest that could not be brought back, then what failed.
fn subject(runs: &[RunPart], more_runs: usize, left_behind: &[LeftBehind]) -> String {
    let tried: Vec<&LeftBehind> = left_behind.iter().filter(|one| one.is_tried).collect();
    if let [first, others @ ..] = tried.as_slice() {
        let more = match others.len() {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        return format!(
            "Virtuozo: GUEST NOT BROUGHT BACK: {} {}{more}",
            first.guest, first.what
        );
    }
    let failed: Vec<&RunPart> = runs.iter().filter(|run| run.state == "failed").collect();
    match (failed.as_slice(), runs) {
        ([run], [_]) if more_runs == 0 => {
            let names: Vec<&str> = run
                .guests
                .iter()
                .filter(|guest| guest.state == "failed")
                .map(|guest| guest.guest.as_str())
                .chain(run.failed_hosts.iter().map(|host| host.host.as_str()))
                .collect();
            let what = match names.as_slice() {
                [] => run.error.clone().unwrap_or_default(),
                [first, ..] => {
                    // Not all of them are told.
                    let all = run.failed + run.failed_hosts.len() + run.more_failed_hosts;
                    match all.saturating_sub(1) {
                        0 => (*first).to_owned(),
                        more => format!("{first} and {more} more"),
                    }
                }
            };
            format!("Virtuozo: backup failed: {what} ({})", run.requested_by)
        }
        ([], [run]) if more_runs == 0 => format!(
            "Virtuozo: backup {}: {} of {} ({})",
            run.state,
            run.succeeded,
            count(run.guest_count, "guest"),
            run.requested_by
        ),
        ([], _) => format!(
            "Virtuozo: {} ended, all is well",
            count(runs.len() + more_runs, "run")
        ),
        (failed, _) => format!(
            "Virtuozo: backup failed: {} of {} runs, {}",
            failed.len(),
            runs.len() + more_runs,
            count(failed.iter().map(|run| run.failed).sum(), "guest")
        ),
    }
}
