//! `virtuozo run …`: start, list, explain, cancel and retry runs.

use std::collections::BTreeMap;

use anyhow::Result;
use chrono::Utc;
use clap::Subcommand;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_runtime::LIMITS;
use virtuozo_services::{
    names::{self, Targets},
    runs::{self, RunDetails, StepLine},
};

use crate::{
    context::{Context, user_name},
    error::{AlreadyReported, Interrupted},
    output,
    progress::{ProgressDisplay, ProgressLine},
    text,
};

/// Commands on runs.
#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// Back up now
    #[command(after_help = "Examples:
  virtuozo run now
  virtuozo run now --host alpha --wait
  virtuozo run now --guest alpha/mail --guest alpha/web")]
    Now {
        /// Only this host; may be given several times
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// Only this guest, as HOST/GUEST; may be given several times
        #[arg(long = "guest", value_name = "HOST/GUEST")]
        guests: Vec<String>,
        /// Show progress and return when the run has ended; exit 1 if anything in it failed
        #[arg(long)]
        wait: bool,
    },
    /// The latest runs
    #[command(after_help = "Example:\n  virtuozo run list --limit 50")]
    List {
        /// How many
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// One run: its guests, their steps, and why something waits or failed
    #[command(
        after_help = "Examples:\n  virtuozo run show latest\n  virtuozo run show 5f2c81aa --json"
    )]
    Show {
        /// Id, or a beginning or end that only this run has; or `latest`
        run: String,
    },
    /// Stop a run: what waits is dropped, what runs is undone
    #[command(after_help = "Example:\n  virtuozo run cancel 5f2c81aa")]
    Cancel {
        /// Id, or a beginning or end that only this run has; or `latest`
        run: String,
    },
    /// Try everything in a run that failed once more, in the same run
    #[command(after_help = "Example:\n  virtuozo run retry latest")]
    Retry {
        /// Id, or a beginning or end that only this run has; or `latest`
        run: String,
    },
}

pub(crate) async fn run(context: &Context, command: RunCommand) -> Result<()> {
    let db = context.database().await?;
    let (pool, out) = (&db.pool, &context.out);
    match command {
        RunCommand::Now {
            hosts,
            guests,
            wait,
        } => {
            let by = format!("user {}", user_name());
            let id = runs::start(pool, by, &Targets { hosts, guests }).await?;
            if wait {
                return wait_and_show(context, pool, id).await;
            }
            if out.is_json() {
                return out.json(&json!({ "run_id": id }));
            }
            out.line(&format!(
                "run {short} started; `virtuozo run show {short}` tells how far it is",
                short = output::short(id)
            ))
        }
        RunCommand::List { limit } => {
            let runs = runs::list(pool, limit).await?;
            out.list(
                &runs,
                "no runs yet; `virtuozo run now` starts one",
                &[
                    "Run",
                    "Started",
                    "Took",
                    "State",
                    "Guests",
                    "Failed",
                    "Copied",
                    "Started by",
                ],
                |run| {
                    vec![
                        output::short(run.id),
                        output::time(run.created_at),
                        output::span(run.ended_at.unwrap_or_else(Utc::now) - run.created_at),
                        run.state.clone(),
                        run.guests.to_string(),
                        run.guests_failed.to_string(),
                        output::size(run.bytes_copied),
                        run.requested_by.clone(),
                    ]
                },
            )
        }
        RunCommand::Show { run } => {
            let id = names::run(pool, &run).await?;
            show(context, &runs::show(pool, id).await?)
        }
        RunCommand::Cancel { run } => {
            let id = runs::cancel(pool, &run).await?;
            out.done(&format!(
                "run {} is cancelled; what was in work is being undone",
                output::short(id)
            ))
        }
        RunCommand::Retry { run } => out.done(&runs::retry(pool, &run).await?),
    }
}

/// The progress of a run, a line for each host and guest.
fn progress_lines(view: &RunDetails) -> Vec<ProgressLine> {
    let width = view
        .guest_runs
        .iter()
        .map(|line| line.host.chars().count() + line.guest.chars().count() + 1)
        .max()
        .unwrap_or(0);
    let hosts = view
        .host_runs
        .iter()
        .filter(|line| matches!(line.state.as_str(), "queued" | "running" | "failed"))
        .map(|line| {
            let status = match (text::why_host_waits(line), &line.error) {
                (Some(why), _) => why,
                (None, Some(error)) => format!("{}: {error}", line.state),
                (None, None) => "looks at the host and its guests".to_owned(),
            };
            ProgressLine {
                subject: line.host.clone(),
                text: format!("{:width$}  {status}", line.host),
                summary: status,
            }
        });
    let guests = view.guest_runs.iter().map(|line| {
        let subject = format!("{}/{}", line.host, line.guest);
        ProgressLine {
            text: format!("{subject:width$}  {}", text::guest_run(line)),
            summary: text::guest_run_summary(line),
            subject,
        }
    });
    let why_stalled = view.stands_still().map(|why| ProgressLine {
        subject: "site".to_owned(),
        text: why.to_owned(),
        summary: why.to_owned(),
    });
    why_stalled.into_iter().chain(hosts).chain(guests).collect()
}

/// Follows a run until it has ended, showing progress on stderr.
pub(crate) async fn follow(pool: &PgPool, id: Uuid) -> Result<RunDetails> {
    let mut display = ProgressDisplay::on_stderr();
    let mut is_silent = false;
    loop {
        match runs::show(pool, id).await {
            Ok(view) => {
                is_silent = false;
                display.draw(&progress_lines(&view));
                if view.run.state != "running" {
                    display.clear();
                    return Ok(view);
                }
            }
            // The run goes on while the database is unreachable from here.
            Err(error) if error.is_unavailable() => {
                if !is_silent {
                    display.print(&format!("{error}; still watching"));
                    is_silent = true;
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LIMITS.console.run_look_every).await;
    }
}

async fn wait_and_show(context: &Context, pool: &PgPool, id: Uuid) -> Result<()> {
    let stop = context.catch_signals()?;
    let view = tokio::select! {
        view = follow(pool, id) => view?,
        () = stop.cancelled() => {
            let short = output::short(id);
            output::note(&format!(
                "the run goes on; `virtuozo run show {short}` tells how far it is, `virtuozo run cancel {short}` stops it"
            ));
            return Err(Interrupted.into());
        }
    };
    show(context, &view)?;
    if view.run.state == "succeeded" {
        Ok(())
    } else {
        Err(AlreadyReported.into())
    }
}

fn show(context: &Context, view: &RunDetails) -> Result<()> {
    let out = &context.out;
    if out.is_json() {
        return out.json(view);
    }
    let run = &view.run;
    let mut head = format!(
        "Run {} ({}), started by {} at {}: {}",
        output::short(run.id),
        run.id,
        run.requested_by,
        output::time(run.created_at),
        run.state
    );
    match run.ended_at {
        Some(ended) => head += &format!(" after {}", output::span(ended - run.created_at)),
        None if run.cancel_requested => head += ", being cancelled",
        None => {}
    }
    out.line(&head)?;
    out.line(&format!("Trace {}", run.trace_id))?;
    if let Some(error) = &run.error {
        out.line(error)?;
    }
    if let Some(why) = view.stands_still() {
        out.line(why)?;
    }
    for host in &view.host_runs {
        if let Some(why) = text::why_host_waits(host).or_else(|| host.error.clone()) {
            out.line(&format!("{}: {}: {why}", host.host, host.state))?;
        }
    }
    // A reason that holds for all guests of a host is printed once.
    let mut held: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for line in &view.guest_runs {
        if let Some(why) = text::why_blocked(line) {
            held.entry(&line.host).or_insert((0, why)).0 += 1;
        }
    }
    for (host, (guests, why)) in held {
        out.line(&format!("{host}: {} waiting: {why}", guests_text(guests)))?;
    }
    for line in &view.hook_runs {
        out.line(&text::hook_run(line))?;
    }
    let mut steps: BTreeMap<Uuid, Vec<&StepLine>> = BTreeMap::new();
    for step in &view.steps {
        steps.entry(step.guest_run_id).or_default().push(step);
    }
    if !view.guest_runs.is_empty() {
        let mut table = output::table(&["Guest", "Mode", "Now", "Point", "Size", "Steps"]);
        for line in &view.guest_runs {
            table.add([
                format!("{}/{}", line.host, line.guest),
                output::or_dash(line.mode.as_ref()),
                // The reasons of failures are long and stand below the table.
                if line.state == "failed" {
                    line.state.clone()
                } else if text::why_blocked(line).is_some() {
                    "waits for its host".to_owned()
                } else {
                    text::guest_run(line)
                },
                output::or_dash(line.point_id.map(output::short)),
                output::size_or_dash(line.size_bytes),
                text::steps(steps.remove(&line.id).unwrap_or_default()),
            ]);
        }
        out.table(&table)?;
    }
    // Guests that failed for the same reason share a line.
    let mut failed: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for line in view.guest_runs.iter().filter(|line| line.state == "failed") {
        let why = line.error.as_deref().unwrap_or("no reason was recorded");
        let guests = failed.entry((&line.host, why)).or_default();
        guests.push(&line.guest);
    }
    for ((host, why), guests) in failed {
        match guests.as_slice() {
            [guest] => out.line(&format!("{host}/{guest}: {why}"))?,
            guests => {
                let count = guests_text(guests.len());
                out.line(&format!("{host}: {count} ({}): {why}", guests.join(", ")))?;
            }
        }
    }
    Ok(())
}

fn guests_text(count: usize) -> String {
    match count {
        1 => "1 guest".to_owned(),
        count => format!("{count} guests"),
    }
}
