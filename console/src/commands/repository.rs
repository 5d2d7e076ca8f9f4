//! `virtuozo repository …`: where restore points go, whether that is there, and how many guests may be in work.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_model::Severity;
use virtuozo_postgres::StoreError;
use virtuozo_repository::{Repository, RepositoryError};
use virtuozo_store::{
    caps,
    events::{self, NewEvent},
    repositories,
    views::{self, PointLine},
};

use crate::{
    choice::{self, Choice},
    context::Context,
    error::usage,
    output,
};

/// A storage that takes longer to answer hangs.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// Commands on repositories.
#[derive(Debug, Subcommand)]
pub(crate) enum RepositoryCommand {
    /// The directories that restore points go to, whether they are mounted here, and how many guests are in work
    #[command(after_help = "Example:\n  virtuozo repository list")]
    List,
    /// Hold the catalogue of restore points against the repositories, and enter what it lacks
    Scan(super::scan::ScanArgs),
    /// Say how many guests may be in work at once whose restore points go to a directory
    #[command(after_help = "Examples:
  virtuozo repository limit /srv/backup 8
  virtuozo repository limit /srv/backup none")]
    Limit {
        /// The directory; the site's destination or that of a guest
        dir: String,
        /// How many, over all hosts; none takes the cap away
        #[arg(value_name = "N", value_parser = choice::or_none::<i32>)]
        guests: Choice<i32>,
    },
    /// Take what lies in a directory for the site's repository from now on, after it was replaced on purpose
    #[command(after_help = "Example:
  virtuozo repository adopt /srv/backup

Workers write to a directory, and retention deletes from it, only if the marker in it is the one that the site
knows. This makes the site know the marker that is there now; a directory without one gets one. Run it where the
repository is mounted, and let `repository scan` hold the catalogue against it then.")]
    Adopt {
        /// The directory
        dir: PathBuf,
    },
}

pub(crate) async fn run(context: &Context, command: RepositoryCommand) -> Result<()> {
    match command {
        RepositoryCommand::Scan(args) => super::scan::run(context, args).await,
        RepositoryCommand::Adopt { dir } => adopt(context, &dir).await,
        RepositoryCommand::List => list(context).await,
        RepositoryCommand::Limit { dir, guests } => {
            let db = context.database().await?;
            let dir = caps::spelled(&dir)?;
            if guests.0.is_some() {
                refuse_unused(&db.pool, &dir).await?;
            }
            caps::set_repository(&db.pool, &dir, guests.0).await?;
            context
                .out
                .done(&format!("{dir}: {}", choice::at_most(guests.0)))
        }
    }
}

/// A cap holds for the guests that go to a directory: none would ever be held up by one that nobody names.
async fn refuse_unused(pool: &PgPool, dir: &str) -> Result<()> {
    let mut named = caps::repositories(pool).await?;
    named.retain(|repository| repository.is_destination);
    if named.iter().any(|repository| repository.path == dir) {
        return Ok(());
    }
    let named: Vec<String> = named.into_iter().map(|one| one.path).collect();
    Err(usage(match named.as_slice() {
        [] => format!(
            "no restore points go to {dir}, nor anywhere yet: `virtuozo settings set destination {dir}` first"
        ),
        named => format!(
            "no restore points go to {dir}, they go to {}: give one of these, or make it the destination of the site \
             (`virtuozo settings set destination`) or of guests (`virtuozo guest edit --destination`) first",
            named.join(", ")
        ),
    }))
}

/// How a repository stands on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// What is there is what the site wrote to.
    Mounted,
    /// The site has not used it: its first backup makes it.
    NotUsedYet,
    /// What is there is not a repository, or none of the site's points is in it.
    NotMounted,
    /// What is there is another repository.
    OtherRepository,
    /// Nobody can tell.
    Unreadable,
}

impl Standing {
    fn text(self) -> &'static str {
        match self {
            Self::Mounted => "mounted",
            Self::NotUsedYet => "not used yet",
            Self::NotMounted => "NOT MOUNTED",
            Self::OtherRepository => "OTHER REPOSITORY",
            Self::Unreadable => "CANNOT BE READ",
        }
    }
}

/// What a look at a repository on this machine has found.
#[derive(Debug, Serialize)]
pub(crate) struct Seen {
    pub(crate) state: Standing,
    /// The one that the site knows.
    id: Option<Uuid>,
    /// The one that is there.
    id_here: Option<Uuid>,
    /// What is wrong, and what to do about it.
    pub(crate) problem: Option<String>,
}

/// Holds a directory on this machine against what the site knows of it, and changes nothing.
pub(crate) async fn look(pool: &PgPool, path: &str) -> Result<Seen> {
    let repositories::KnownRepository { id, points } = repositories::known(pool, path).await?;
    let is_used = id.is_some() || !points.is_empty();
    let root = PathBuf::from(path);
    let looking = tokio::task::spawn_blocking(move || Repository::recognise(&root, id, &points));
    let seen = |state, id_here, problem| Seen {
        state,
        id,
        id_here,
        problem,
    };
    let Ok(found) = tokio::time::timeout(LOOK_LIMIT, looking).await else {
        let problem = format!("{path} does not answer within {LOOK_LIMIT:?}: look at its storage");
        return Ok(seen(Standing::Unreadable, None, Some(problem)));
    };
    Ok(match found? {
        Ok(id_here) if is_used => seen(Standing::Mounted, id_here, None),
        Ok(id_here) => seen(Standing::NotUsedYet, id_here, None),
        Err(error) => {
            let (state, id_here) = match error {
                RepositoryError::NotMounted { .. } => (Standing::NotMounted, None),
                RepositoryError::OtherRepository { found, .. } => {
                    (Standing::OtherRepository, Some(found))
                }
                _ => (Standing::Unreadable, None),
            };
            seen(state, id_here, Some(error.to_string()))
        }
    })
}

async fn list(context: &Context) -> Result<()> {
    #[derive(Serialize)]
    struct Line {
        #[serde(flatten)]
        repository: caps::Repository,
        #[serde(flatten)]
        here: Seen,
    }
    let db = context.database().await?;
    let mut lines = Vec::new();
    for repository in caps::repositories(&db.pool).await? {
        let here = look(&db.pool, &repository.path).await?;
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
    let points = views::points(&db.pool, None, None).await?;
    let path = spelled(dir, &places(&db.pool, &points).await?)?;
    let root = PathBuf::from(&path);
    let id = tokio::task::spawn_blocking(move || Repository::adopt(root)).await??;
    let mut tx = db.pool.begin().await.map_err(StoreError::from)?;
    let was = repositories::adopt(&mut *tx, &path, id).await?;
    let was = was.filter(|was| *was != id);
    let before = was.map_or(String::new(), |was| format!("; it was {was}"));
    let message = format!("{path} is the repository {id} from now on{before}");
    let event = NewEvent::user(Severity::Warning, message.clone());
    events::record(&mut *tx, &event).await?;
    tx.commit().await.map_err(StoreError::from)?;

    let here: Vec<&PointLine> = points
        .iter()
        .filter(|point| same_place(Path::new(&point.repository), Path::new(&path)))
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

/// The directories that restore points go to or lie in, as the database spells them.
pub(crate) async fn places<'a>(
    pool: &PgPool,
    points: impl IntoIterator<Item = &'a PointLine>,
) -> Result<Vec<String>> {
    let mut all: Vec<String> = caps::repositories(pool)
        .await?
        .into_iter()
        .map(|repository| repository.path)
        .chain(points.into_iter().map(|point| point.repository.clone()))
        .collect();
    all.sort();
    all.dedup();
    Ok(all)
}

/// A directory that somebody has named, as `places` spell it.
pub(crate) fn spelled(dir: &Path, places: &[String]) -> Result<String> {
    let dir: PathBuf = std::path::absolute(dir)?.components().collect();
    if !dir.is_dir() {
        return Err(usage(format!("{} is not a directory", dir.display())));
    }
    let same = places.iter().find(|name| same_place(Path::new(name), &dir));
    match (same, dir.to_str()) {
        (Some(name), _) => Ok(name.clone()),
        (None, Some(dir)) => Ok(dir.to_owned()),
        (None, None) => Err(usage(format!("{} is not valid UTF-8", dir.display()))),
    }
}

/// Whether both lead to the same directory, or are the same where there is none.
pub(crate) fn same_place(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}
