//! `virtuozo status`: the tree of hosts, guests and disks, and what is being copied.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use clap::Args;
use virtuozo_model::terminal;
use virtuozo_runtime::LIMITS;
use virtuozo_services::{
    progress::StepProgress,
    status::{self, DiskLine, GuestStatus, HostStatus, ObligationLine, ProcessLine, SiteStatus},
};

use crate::{context::Context, output, text};

/// Options of `status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  virtuozo status\n  virtuozo status --watch\n  virtuozo status --json"
)]
pub(crate) struct StatusArgs {
    /// Keep showing it, with the progress of copies, until Ctrl-C
    #[arg(long)]
    pub(crate) watch: bool,
}

pub(crate) async fn run(context: &Context, args: StatusArgs) -> Result<()> {
    if args.watch && context.out.is_json() {
        return Err(crate::error::usage(
            "--watch is for people; with --json ask again instead",
        ));
    }
    let db = context.database().await?;
    if !args.watch {
        let site = status::get(&db.pool).await?;
        return if context.out.is_json() {
            context.out.json(&site)
        } else {
            context.out.lines(&site_text(&site))
        };
    }
    let terminal = std::io::stdout().is_terminal();
    let mut before = String::new();
    loop {
        let text = match status::get(&db.pool).await {
            Ok(site) => site_text(&site),
            Err(error) => terminal::escaped(&error.to_string()).into_owned(),
        };
        if text != before {
            if terminal {
                // Clear the screen and begin at its top.
                write!(std::io::stdout(), "\x1b[2J\x1b[H")?;
            }
            context.out.lines(&text)?;
            before = text;
        }
        tokio::time::sleep(LIMITS.console.status_every).await;
    }
}

fn site_text(site: &SiteStatus) -> String {
    let mut lines = Vec::new();
    if site.hosts.is_empty() {
        lines.push("no hosts yet; `virtuozo host add --help` tells how to add one".to_owned());
    }
    let all_paused = site.hosts.iter().map(|host| &host.line.pause);
    if let Some(pause) = all_paused.into_iter().find(|pause| pause.paused_with_all)
        && let Some(text) = text::pause(pause)
    {
        lines.push(format!(
            "{text}: nothing new begins before `virtuozo host resume all`"
        ));
    }
    for host in &site.hosts {
        host_lines(host, &mut lines);
    }
    lines.push(String::new());
    for process in &site.processes {
        let heard = match process {
            ProcessLine { leads: true, .. } => "up, leads".to_owned(),
            ProcessLine { is_alive: true, .. } => "up".to_owned(),
            _ => format!(
                "GONE, last heard of at {}",
                output::time(process.heartbeat_at)
            ),
        };
        lines.push(format!("{}: {heard}", text::process(process)));
    }
    if !site.processes.iter().any(|process| process.is_alive) {
        lines.push("no scheduler and no worker is running: start `virtuozo up`".to_owned());
    }
    for open in site.obligations.iter().filter(|open| !open.in_work) {
        lines.push(obligation(open));
    }
    let lines: Vec<_> = lines.iter().map(|line| terminal::escaped(line)).collect();
    lines.join("\n")
}

fn host_lines(host: &HostStatus, into: &mut Vec<String>) {
    let line = &host.line;
    let mut text = format!("{}  {}  ", line.name, line.kind);
    text += &state(line.ignored, &line.state, line.state_reason.as_deref());
    text += &format!("  {} of {} slots busy", line.slots_busy, line.slots);
    let nodes = line.nodes.iter();
    let nodes: Vec<_> = nodes.map(text::node).collect();
    if !nodes.is_empty() {
        text += &format!(" ({})", nodes.join(", "));
    }
    if let Some(pause) = text::pause(&line.pause) {
        text += &format!("  {}", pause.replacen("paused", "PAUSED", 1));
    }
    into.push(text);
    let name_width = host
        .guests
        .iter()
        .map(|guest| terminal::escaped(&guest.line.name).chars().count())
        .max()
        .unwrap_or(0);
    for (place, guest) in host.guests.iter().enumerate() {
        let last = place + 1 == host.guests.len();
        let (branch, below) = if last {
            ("└─", "  ")
        } else {
            ("├─", "│ ")
        };
        into.push(format!("{branch} {}", guest_text(guest, name_width)));
        for (place, disk) in guest.disks.iter().enumerate() {
            let branch = if place + 1 == guest.disks.len() {
                "└─"
            } else {
                "├─"
            };
            into.push(format!("{below} {branch} {}", disk_text(disk)));
        }
    }
}

fn guest_text(guest: &GuestStatus, name_width: usize) -> String {
    let guest = &guest.line;
    let power = guest.power.as_deref().unwrap_or("power unknown");
    let ignored = guest.ignored || !guest.configured;
    let name = terminal::escaped(&guest.name);
    let mut text = format!("{name:name_width$}  {power}  ");
    text += &state(ignored, &guest.state, guest.state_reason.as_deref());
    match guest.last_point_at {
        Some(at) => text += &format!("  last point {}", output::time(at)),
        None => text += "  no point yet",
    }
    if guest.rpo_exceeded {
        text += " (TOO OLD)";
    }
    match (StepProgress::of_guest(guest), &guest.run_state, &guest.step) {
        (Some(progress), _, Some(step)) => {
            text += &format!("  {step}  {}", text::progress(&progress))
        }
        (None, Some(state), Some(step)) if state == "running" => text += &format!("  {step}"),
        (_, Some(state), _) => text += &format!("  {state}"),
        (_, None, _) => {}
    }
    text
}

fn disk_text(disk: &DiskLine) -> String {
    let mut text = format!(
        "{}  {}  {}  {}",
        disk.device,
        disk.file_name,
        output::size_or_dash(disk.capacity_bytes),
        state(disk.ignored, &disk.state, disk.state_reason.as_deref())
    );
    if let (Some(copied), Some(total)) = (disk.bytes_copied, disk.bytes_total) {
        let bytes = |n: i64| u64::try_from(n).unwrap_or(0);
        text += &format!("  {}", text::bar(bytes(copied), bytes(total)));
    }
    text
}

fn state(ignored: bool, state: &str, reason: Option<&str>) -> String {
    let mut text = state.replace('_', " ");
    if ignored {
        text = format!("ignored, {text}");
    }
    match reason {
        Some(reason) => format!("{text} ({reason})"),
        None => text,
    }
}

fn obligation(open: &ObligationLine) -> String {
    let why = match &open.last_error {
        Some(error) => format!(
            "; {} attempts failed, next at {}: {error}",
            open.attempts,
            output::time(open.next_attempt_at)
        ),
        None => String::new(),
    };
    format!(
        "STILL TO UNDO  {}/{}: {}{why}",
        open.host,
        open.guest,
        text::obligation(open)
    )
}
