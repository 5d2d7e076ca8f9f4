//! `virtuozo doctor`: checks everything that Virtuozo needs on this machine, and says what to do.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use virtuozo_hypervisor::Connectors;
use virtuozo_model::Datastore;
use virtuozo_secrets::{Key, SecretError};
use virtuozo_services::{datastores, hosts, keys, obligations, settings, status, workers};

use crate::{
    context::{Context, Database},
    error::{AlreadyReported, told},
    output,
    repositories::{self, RepositoryState},
    text,
};

/// Options of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  virtuozo doctor\n  virtuozo doctor --json")]
pub(crate) struct DoctorArgs {}

/// No restore point is smaller, with what belongs to it.
const LEAST_FREE_BYTES: u64 = 16 << 20;

/// One check and its result.
#[derive(Serialize)]
struct Check {
    what: &'static str,
    ok: bool,
    /// What was found; if that is wrong, also what to do about it.
    found: String,
}

impl Check {
    fn new(what: &'static str, found: Result<String>) -> Self {
        Self {
            what,
            ok: found.is_ok(),
            found: found.unwrap_or_else(|error| told(&error)),
        }
    }
}

pub(crate) async fn run(context: &Context, _args: DoctorArgs) -> Result<()> {
    let connectors = context.connectors();
    let probed = connectors.probe().await;
    let usable: Vec<&str> = probed
        .iter()
        .filter(|one| one.found.is_ok())
        .map(|one| one.back_end.name)
        .collect();
    let mut checks: Vec<Check> = probed
        .into_iter()
        .map(|one| Check::new(one.back_end.title, one.found.map_err(Into::into)))
        .collect();
    match context.database().await {
        Ok(db) => {
            checks.extend(configured_kinds(&db, &connectors, &usable).await?);
            let found = keys::check(&db.pool, &context.key_file())
                .await
                .map_err(anyhow::Error::from);
            checks.push(Check::new("key file", found));
            let place = match db.private_url() {
                None => named_database(context)?,
                // There is no password in it: nobody but its owner can enter the directory.
                Some(url) => format!("the private one answers: psql '{url}'"),
            };
            checks.push(Check::new("database", Ok(place)));
            checks.push(Check::new("datastores", datastores(&db).await));
            checks.push(Check::new("destination", destination(&db).await));
            checks.extend(other_repositories(&db).await?);
            checks.push(Check::new("processes", processes(&db).await));
            checks.push(Check::new("kinds of host", kinds(&db).await));
            checks.push(Check::new("workers' machines", lacking(&db).await));
            checks.push(Check::new("obligations", obligations(&db).await));
        }
        Err(error) => {
            checks.push(Check::new("key file", key_file(context)));
            checks.push(Check::new("database", Err(error)));
        }
    }
    if context.out.is_json() {
        context.out.json(&checks)?;
    } else {
        for check in &checks {
            let mark = if check.ok { "good" } else { "BAD " };
            context
                .out
                .line(&format!("{mark}  {}: {}", check.what, check.found))?;
        }
    }
    if checks.iter().all(|check| check.ok) {
        Ok(())
    } else {
        Err(AlreadyReported.into())
    }
}

/// Checks for each kind of the configured hosts that a back end that works on this machine works for it, too.
async fn configured_kinds(
    db: &Database,
    connectors: &Connectors,
    usable: &[&str],
) -> Result<Vec<Check>> {
    let hosts = hosts::list(&db.pool).await?;
    let kinds: BTreeSet<&str> = hosts.iter().map(|host| host.kind.as_str()).collect();
    let mut checks = Vec::new();
    for kind in kinds {
        // A kind that no back end of this program serves is told with the workers.
        let Some(connector) = connectors.of_kind(kind) else {
            continue;
        };
        let back_end = connector.back_end();
        let info = back_end.kinds.iter().find(|info| info.word == kind);
        if let Some(info) = info.filter(|_| usable.contains(&back_end.name)) {
            let found = connector.probe_kind(kind).await;
            checks.push(Check::new(info.title, found.map_err(Into::into)));
        }
    }
    Ok(checks)
}

/// What is to be said of a database that the options name and that answers.
fn named_database(context: &Context) -> Result<String> {
    let answers = "answers, its schema is up to date";
    let url = context.database_url()?.unwrap_or_default();
    Ok(match virtuozo_postgres::weakness(&url)? {
        None => answers.to_owned(),
        Some(weakness) => format!("{answers}; {weakness}"),
    })
}

/// Checks the key file alone, without the database that holds what it encrypts.
fn key_file(context: &Context) -> Result<String> {
    let path = context.key_file();
    match Key::load(&path) {
        Ok(_) => Ok(path.display().to_string()),
        Err(SecretError::KeyMissing(_)) => Ok(format!("{} is not there", path.display())),
        Err(error) => Err(error.into()),
    }
}

/// Checks that this machine can read the mapped datastores.
async fn datastores(db: &Database) -> Result<String> {
    let mut mapped = datastores::list(&db.pool, None).await?;
    mapped.retain(|one| one.local_path.is_some());
    let count = mapped.len();
    let bad = tokio::task::spawn_blocking(move || {
        let unreadable = |one: Datastore| {
            let dir = one.local_path?;
            let error = std::fs::read_dir(&dir).err()?;
            Some(format!("{} of {}: {dir}: {error}", one.name, one.host_name))
        };
        mapped
            .into_iter()
            .filter_map(unreadable)
            .collect::<Vec<_>>()
    })
    .await?;
    if bad.is_empty() {
        return Ok(format!("{count} mapped, all can be read here"));
    }
    anyhow::bail!(
        "cannot be read here: {}; mount them, or a worker on this machine leaves their guests to others",
        bad.join(", ")
    )
}

async fn destination(db: &Database) -> Result<String> {
    let settings = settings::get(&db.pool).await?;
    let Some(destination) = settings.destination else {
        anyhow::bail!("none is set: `virtuozo settings set destination /srv/backup`")
    };
    place(db, &destination).await
}

/// Checks the destinations that guests have of their own.
async fn other_repositories(db: &Database) -> Result<Vec<Check>> {
    let destination = settings::get(&db.pool).await?.destination;
    let mut checks = Vec::new();
    for repository in virtuozo_services::repositories::list(&db.pool).await? {
        if Some(&repository.path) != destination.as_ref() {
            checks.push(Check::new("repository", place(db, &repository.path).await));
        }
    }
    Ok(checks)
}

/// Checks that restore points can be written to a directory. Creates nothing: a worker does.
async fn place(db: &Database, path: &str) -> Result<String> {
    let check = repositories::check(&db.pool, path).await?;
    if let Some(problem) = check.problem {
        anyhow::bail!(problem);
    }
    let path = PathBuf::from(path);
    tokio::task::spawn_blocking(move || {
        let there = path.ancestors().find(|dir| dir.exists());
        let there = there.unwrap_or(&path);
        writable(there)?;
        let free = match virtuozo_repository::space(there)? {
            Some(space) if space.free_bytes < LEAST_FREE_BYTES => anyhow::bail!(
                "{} is full ({} free): make room there, or lower keep_last; restore points need their space before they are \
                 begun",
                path.display(),
                output::size(space.free_bytes)
            ),
            Some(space) => format!("{} free", output::size(space.free_bytes)),
            None => "its file system does not tell what is free".to_owned(),
        };
        let state = match check.state {
            RepositoryState::Mounted => "",
            _ => ", not used yet: the first backup makes it a repository",
        };
        Ok(format!("{}, {free}{state}", path.display()))
    })
    .await?
}

/// Also that something can be stored: a quota that is used up shows only then.
fn writable(dir: &Path) -> Result<()> {
    use anyhow::Context as _;
    use std::io::Write;
    tempfile::tempfile_in(dir)
        .and_then(|mut file| {
            file.write_all(&[0; 4096])?;
            file.sync_all()
        })
        .with_context(|| format!("{} cannot be written", dir.display()))
}

async fn processes(db: &Database) -> Result<String> {
    let (alive, gone): (Vec<_>, Vec<_>) = status::processes(&db.pool)
        .await?
        .into_iter()
        .partition(|process| process.is_alive);
    let mut problems: Vec<String> = ["scheduler", "worker"]
        .into_iter()
        .filter(|kind| alive.iter().all(|process| process.kind != *kind))
        .map(|kind| format!("no {kind} is running: start `virtuozo up` or `virtuozo {kind}`"))
        .collect();
    problems.extend(gone.iter().map(|process| {
        format!(
            "{} is not there any more: it was last heard of at {} and has not said that it ends, so it died or \
             does not reach the database; look at its log and start it again (whoever is not replaced is \
             forgotten after a day)",
            text::process(process),
            output::time(process.heartbeat_at)
        )
    }));
    if !problems.is_empty() {
        anyhow::bail!(problems.join("; "));
    }
    let names = alive.iter().map(|process| match process.leads {
        true => format!("{} (leads)", text::process(process)),
        false => text::process(process),
    });
    Ok(names.collect::<Vec<_>>().join(", "))
}

/// Checks that a running worker serves each kind of host.
async fn kinds(db: &Database) -> Result<String> {
    let unserved = workers::unserved_kinds(&db.pool).await?;
    if unserved.is_empty() {
        return Ok("each is served by a worker that runs, as far as there are hosts".to_owned());
    }
    let said = unserved.iter().map(text::unserved_kind);
    anyhow::bail!(said.collect::<Vec<_>>().join("; "))
}

/// Checks that of what the machine of a running worker was found to lack, another has it.
async fn lacking(db: &Database) -> Result<String> {
    let lacking = workers::lacking(&db.pool).await?;
    if lacking.is_empty() {
        return Ok(
            "no running worker has found lately that its machine lacks something".to_owned(),
        );
    }
    let said: Vec<String> = lacking.iter().map(text::lacking_worker).collect();
    let said = said.join("; ");
    if lacking.iter().all(|one| one.leaves_to_others) {
        return Ok(said);
    }
    anyhow::bail!(said)
}

async fn obligations(db: &Database) -> Result<String> {
    let open = obligations::list(&db.pool).await?;
    let stuck = open
        .iter()
        .filter(|open| !open.in_work)
        .map(|open| format!("{}/{}: {}", open.host, open.guest, open.kind))
        .collect::<Vec<_>>();
    if stuck.is_empty() {
        return Ok("nothing is left to be undone on hosts".to_owned());
    }
    anyhow::bail!(
        "still to be undone: {}; `virtuozo obligation list` says why",
        stuck.join(", ")
    )
}
