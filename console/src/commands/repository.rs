//! `virtuozo repository …`: the repositories, whether they are mounted here, and how many guests each may take at once.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;
use serde_json::json;
use virtuozo_services::{
    points::{self, PointLine},
    repositories::{Adopted, Repository},
};

use super::scan::{self, ScanArgs};
use crate::{
    context::Context,
    output,
    repositories::{self, RepositoryCheck, same_directory},
    resettable::{self, Resettable},
    text,
};

/// Commands on repositories.
#[derive(Debug, Subcommand)]
pub(crate) enum RepositoryCommand {
    /// The directories that restore points go to, whether they are mounted here, and how many guests are in work
    #[command(after_help = "Example:\n  virtuozo repository list")]
    List,
    /// Hold the catalogue of restore points against the repositories, and enter what it lacks
    Scan(ScanArgs),
    /// Say how many guests may be in work at once whose restore points go to a directory
    #[command(after_help = "Examples:
  virtuozo repository limit /srv/backup 8
  virtuozo repository limit /srv/backup none")]
    Limit {
        /// The directory; the site's destination or that of a guest
        dir: String,
        /// How many, over all hosts; none takes the cap away
        #[arg(value_name = "N", value_parser = resettable::or_none::<i32>)]
        guests: Resettable<i32>,
    },
    /// Take what lies in a directory for the site's repository from now on, after it was replaced on purpose
    #[command(after_help = "Example:
  virtuozo repository adopt /srv/backup

Workers write to a directory, and retention deletes from it, only if the marker in it is the one that the site \
knows. This makes the site know the marker that is there now; a directory without one gets one. Run it where the \
repository is mounted, and let `repository scan` hold the catalogue against it then.")]
    Adopt {
        /// The directory
        dir: PathBuf,
    },
}

pub(crate) async fn run(context: &Context, command: RepositoryCommand) -> Result<()> {
    match command {
        RepositoryCommand::Scan(args) => scan::run(context, args).await,
        RepositoryCommand::Adopt { dir } => adopt(context, &dir).await,
        RepositoryCommand::List => list(context).await,
        RepositoryCommand::Limit { dir, guests } => {
            let db = context.database().await?;
            let dir = virtuozo_services::repositories::limit(&db.pool, &dir, guests.0).await?;
            context
                .out
                .done(&format!("{dir}: {}", text::guest_limit(guests.0)))
        }
    }
}

async fn list(context: &Context) -> Result<()> {
    #[derive(Serialize)]
    struct Line {
        #[serde(flatten)]
        repository: Repository,
        #[serde(flatten)]
        here: RepositoryCheck,
    }
    let db = context.database().await?;
    let mut lines = Vec::new();
    for repository in virtuozo_services::repositories::list(&db.pool).await? {
        let here = repositories::check(&db.pool, &repository.path).await?;
        lines.push(Line { repository, here });
    }
    context.out.list(
        &lines,
        "no restore points go anywhere yet; `virtuozo settings set destination DIR`",
        &["Repository", "Here", "Guests in work", "At most"],
        |line| {
            vec![
                line.repository.path.clone(),
                line.here.state.text().to_owned(),
                line.repository.in_work.to_string(),
                match line.repository.guest_threads {
                    Some(cap) if !line.repository.is_destination => {
                        format!("{cap}, and no guest goes there")
                    }
                    cap => output::or_dash(cap),
                },
            ]
        },
    )
}

async fn adopt(context: &Context, dir: &Path) -> Result<()> {
    let db = context.database().await?;
    let points = points::list(&db.pool, None).await?;
    let path = repositories::recorded_path(
        dir,
        &virtuozo_services::repositories::places(&db.pool, &points).await?,
    )?;
    let root = PathBuf::from(&path);
    let id =
        tokio::task::spawn_blocking(move || virtuozo_repository::Repository::adopt(root)).await??;
    let Adopted { was, message } =
        virtuozo_services::repositories::adopt(&db.pool, &path, id).await?;

    let here: Vec<&PointLine> = points
        .iter()
        .filter(|point| same_directory(Path::new(&point.repository), Path::new(&path)))
        .collect();
    let missing = here
        .iter()
        .filter(|point| !Path::new(&point.repository).join(&point.path).is_dir())
        .count();
    if context.out.is_json() {
        return context.out.json(&json!({
            "ok": true,
            "path": path,
            "id": id,
            "was": was,
            "points_recorded": here.len(),
            "points_missing": missing,
        }));
    }
    context.out.line(&message)?;
    if missing > 0 {
        context.out.line(&format!(
            "{missing} of the {} restore points recorded there are not in it: `virtuozo repository scan` marks them",
            here.len()
        ))?;
    }
    Ok(())
}
