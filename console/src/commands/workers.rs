//! `virtuozo worker list|drain`: the workers of the site, and taking one out of service.

use anyhow::Result;
use clap::Subcommand;
use uuid::Uuid;
use virtuozo_model::{KindServed, Worker};
use virtuozo_services::workers;

use crate::{context::Context, output, text};

/// Commands on workers.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// Workers of the last day, running ones first
    #[command(after_help = "Example:\n  virtuozo worker list")]
    List,
    /// Have a worker take nothing more, finish or hand over what it has, and end
    #[command(after_help = "Example:\n  virtuozo worker drain rack2")]
    Drain {
        /// The worker's name, for all of that name, or the id from `virtuozo worker list`, for one
        worker: String,
    },
}

pub(crate) async fn run(context: &Context, command: WorkerCommand) -> Result<()> {
    let db = context.database().await?;
    match command {
        WorkerCommand::List => context.out.list(
            &workers::list(&db.pool).await?,
            "no worker has run in the last day; start one with `virtuozo worker`",
            &[
                "Name", "Id", "Machine", "Process", "Version", "State", "Since", "Serves", "Lacks",
            ],
            |one| {
                vec![
                    one.name.clone(),
                    one.id.to_string(),
                    one.machine.clone(),
                    one.pid.to_string(),
                    one.version.clone(),
                    state(one),
                    output::time(one.started_at),
                    serves(one),
                    lacks(one),
                ]
            },
        ),
        WorkerCommand::Drain { worker } => {
            let asked = workers::drain(&db.pool, &worker).await?;
            let ids = |ids: &[Uuid]| {
                let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
                (!ids.is_empty()).then(|| ids.join(", "))
            };
            let drains = ids(&asked.running).map(|ids| {
                format!(
                    "drains: {worker} ({ids}); it takes nothing more and ends when its work is finished or handed over"
                )
            });
            let silent = ids(&asked.silent).map(|ids| {
                format!(
                    "silent: {worker} ({ids}); whatever of it still runs drains as soon as it reaches the database"
                )
            });
            // The only worker that can be on it with others' leave is that of `up`.
            let private = db.private_url().is_some().then(|| {
                "with the worker of `virtuozo up` its scheduler ends, and with the last process that uses it the private \
                 database: commands find none then, until `virtuozo up` starts it again, with all that it holds"
                    .to_owned()
            });
            let said: Vec<String> = drains.into_iter().chain(silent).chain(private).collect();
            context.out.done(&said.join("; "))
        }
    }
}

/// The kinds of host that a worker serves, and why not the others.
fn serves(worker: &Worker) -> String {
    let (served, lacking): (Vec<_>, Vec<_>) = worker.kinds.iter().partition(|one| one.is_served);
    let words = |kinds: &[&KindServed]| {
        let words: Vec<&str> = kinds.iter().map(|one| one.kind.as_str()).collect();
        words.join(", ")
    };
    let mut parts = Vec::new();
    if !served.is_empty() {
        parts.push(words(&served));
    }
    // Kinds of one back end lack the same.
    let mut reasons: Vec<&str> = lacking.iter().map(|one| one.found.as_str()).collect();
    reasons.dedup();
    for reason in reasons {
        let of_reason: Vec<&KindServed> = lacking
            .iter()
            .copied()
            .filter(|one| one.found == reason)
            .collect();
        parts.push(format!("not {}: {reason}", words(&of_reason)));
    }
    match parts.is_empty() {
        true => "-".to_owned(),
        false => parts.join("; "),
    }
}

/// What a worker's machine was found to lack, why, and when.
fn lacks(worker: &Worker) -> String {
    let lacks = worker.lacks.iter().map(|one| {
        let what = text::lack(one.location.as_deref(), one.host.as_deref());
        format!("{what} at {}: {}", output::time(one.noted_at), one.reason)
    });
    match worker.lacks.is_empty() {
        true => "-".to_owned(),
        false => lacks.collect::<Vec<_>>().join("; "),
    }
}

fn state(worker: &Worker) -> String {
    match worker {
        Worker {
            stopped_at: Some(at),
            ..
        } => format!("ended {}", output::time(*at)),
        Worker {
            is_alive: false,
            silent_secs,
            ..
        } => format!("silent for {silent_secs:.0} s"),
        Worker {
            drain_requested: true,
            ..
        } => "draining".to_owned(),
        _ => "running".to_owned(),
    }
}
