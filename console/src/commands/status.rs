//! `virtuozo status`: the tree of hosts, guests and disks, and what is being copied.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use sqlx::PgPool;
use virtuozo_store::views::{self, DiskLine, GuestLine, HostLine, ObligationLine, ProcessLine};

use crate::{context::Context, output, text};

/// How often `--watch` reads the states again.
const REFRESH_EVERY: Duration = Duration::from_secs(1);

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

#[derive(Serialize)]
struct Site {
    hosts: Vec<HostNode>,
    processes: Vec<ProcessLine>,
    /// What still has to be undone on hosts.
    obligations: Vec<ObligationLine>,
}

#[derive(Serialize)]
struct HostNode {
    #[serde(flatten)]
    line: HostLine,
    guests: Vec<GuestNode>,
}

#[derive(Serialize)]
struct GuestNode {
    #[serde(flatten)]
    line: GuestLine,
    bytes_per_sec: Option<u64>,
    secs_left: Option<u64>,
    disks: Vec<DiskLine>,
}

pub(crate) async fn run(context: &Context, args: StatusArgs) -> Result<()> {
    if args.watch && context.out.is_json() {
        return Err(crate::error::usage(
            "--watch is for people; with --json ask again instead",
        ));
    }
    let db = context.database().await?;
    if !args.watch {
        let site = Site::load(&db.pool).await?;
        return if context.out.is_json() {
            context.out.json(&site)
        } else {
            context.out.line(&site.text())
        };
    }
    let terminal = std::io::stdout().is_terminal();
    let mut before = String::new();
    loop {
        let text = match Site::load(&db.pool).await {
            Ok(site) => site.text(),
            Err(error) => format!("{error:#}"),
        };
        if text != before {
            if terminal {
                // Clear the screen and begin at its top.
                write!(std::io::stdout(), "\x1b[2J\x1b[H")?;
            }
            context.out.line(&text)?;
            before = text;
        }
        tokio::time::sleep(REFRESH_EVERY).await;
    }
}

impl Site {
    async fn load(pool: &PgPool) -> Result<Self> {
        let mut disks = views::disks(pool).await?;
        let mut guests = views::guests(pool).await?;
        let hosts = views::hosts(pool).await?;
        let hosts = hosts
            .into_iter()
            .map(|line| HostNode {
                guests: take(&mut guests, |guest| guest.host_id == line.id)
                    .into_iter()
                    .map(|line| GuestNode::new(line, &mut disks))
                    .collect(),
                line,
            })
            .collect();
        Ok(Self {
            hosts,
            processes: views::processes(pool).await?,
            obligations: views::obligations(pool).await?,
        })
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        if self.hosts.is_empty() {
            lines.push("no hosts yet; `virtuozo host add --help` tells how to add one".to_owned());
        }
        let all_paused = self.hosts.iter().map(|host| &host.line.pause);
        if let Some(pause) = all_paused.into_iter().find(|pause| pause.paused_with_all)
            && let Some(text) = text::pause(pause)
        {
            lines.push(format!(
                "{text}: nothing new begins before `virtuozo host resume all`"
            ));
        }
        for host in &self.hosts {
            host.lines(&mut lines);
        }
        lines.push(String::new());
        for process in &self.processes {
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
        if !self.processes.iter().any(|process| process.is_alive) {
            lines.push("no scheduler and no worker is running: start `virtuozo up`".to_owned());
        }
        for open in self.obligations.iter().filter(|open| !open.in_work) {
            lines.push(obligation(open));
        }
        lines.join("\n")
    }
}

impl HostNode {
    fn lines(&self, into: &mut Vec<String>) {
        let host = &self.line;
        let mut text = format!("{}  {}  ", host.name, host.kind);
        text += &state(host.ignored, &host.state, host.state_reason.as_deref());
        text += &format!("  {} of {} slots busy", host.slots_busy, host.slots);
        let nodes = host.nodes.iter();
        let nodes: Vec<_> = nodes.map(text::node).collect();
        if !nodes.is_empty() {
            text += &format!(" ({})", nodes.join(", "));
        }
        if let Some(pause) = text::pause(&host.pause) {
            text += &format!("  {}", pause.replacen("paused", "PAUSED", 1));
        }
        into.push(text);
        let name_width = self
            .guests
            .iter()
            .map(|guest| guest.line.name.chars().count())
            .max()
            .unwrap_or(0);
        for (place, guest) in self.guests.iter().enumerate() {
            let last = place + 1 == self.guests.len();
            let (branch, below) = if last {
                ("└─", "  ")
            } else {
                ("├─", "│ ")
            };
            into.push(format!("{branch} {}", guest.text(name_width)));
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
}

impl GuestNode {
    fn new(line: GuestLine, disks: &mut Vec<DiskLine>) -> Self {
        let progress = text::guest_progress(&line);
        Self {
            bytes_per_sec: progress.and_then(|progress| progress.bytes_per_sec()),
            secs_left: progress.and_then(|progress| progress.secs_left()),
            disks: take(disks, |disk| disk.guest_id == line.id),
            line,
        }
    }

    fn text(&self, name_width: usize) -> String {
        let guest = &self.line;
        let power = guest.power.as_deref().unwrap_or("power unknown");
        let ignored = guest.ignored || !guest.configured;
        let mut text = format!("{:name_width$}  {power}  ", guest.name);
        text += &state(ignored, &guest.state, guest.state_reason.as_deref());
        match guest.last_point_at {
            Some(at) => text += &format!("  last point {}", output::time(at)),
            None => text += "  no point yet",
        }
        if guest.rpo_exceeded {
            text += " (TOO OLD)";
        }
        match (text::guest_progress(guest), &guest.run_state, &guest.step) {
            (Some(progress), _, Some(step)) => text += &format!("  {step}  {}", progress.text()),
            (None, Some(state), Some(step)) if state == "running" => text += &format!("  {step}"),
            (_, Some(state), _) => text += &format!("  {state}"),
            (_, None, _) => {}
        }
        text
    }
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

/// Moves the items that `wanted` picks out of `from`, in order.
fn take<T>(from: &mut Vec<T>, wanted: impl Fn(&T) -> bool) -> Vec<T> {
    from.extract_if(.., |item| wanted(item)).collect()
}
