//! `virtuozo point delete`: deletes restore points, in the same order as retention does.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_model::terminal;
use virtuozo_repository::Repository;
use virtuozo_services::{
    names,
    points::{self, Deleting, Deletion, DryRun, PointLine},
};

use crate::{
    context::{Context, user_name},
    error::{AlreadyReported, WouldChange},
    output,
    repositories::{self, RepositoryState},
};

/// Options of `point delete`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtuozo point delete 5f2c81aa
  virtuozo point delete 5f2c81aa 77d0c3b1 --dry-run
  virtuozo point delete 5f2c81aa --forget

A guest keeps at least one other verified restore point, unless --force is given. Run it where the repository is \
mounted: in one that is not, nothing is deleted. A deletion that was interrupted is finished by the same command, or \
after the guest's next backup. The exit code is 1 where a point was not deleted, also with --dry-run; otherwise \
--dry-run ends with 4.")]
pub(crate) struct DeleteArgs {
    /// Ids, or beginnings or ends of them that only one point has
    #[arg(required = true, value_name = "POINT")]
    points: Vec<String>,
    /// Also where its guest has no other verified restore point
    #[arg(long)]
    force: bool,
    /// Only take it out of the catalogue, as its repository is gone for good; refused where its directory is there
    #[arg(long)]
    forget: bool,
    /// Only show what would be deleted
    #[arg(long)]
    dry_run: bool,
}

impl DeleteArgs {
    fn how(&self) -> Deleting {
        Deleting {
            force: self.force,
            forget: self.forget,
            by: format!("user {}", user_name()),
        }
    }
}

/// What became of a restore point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Deleted,
    Forgotten,
    WouldGo,
    /// Nothing was changed.
    Stays,
    /// It is marked as being deleted, and its directory still exists.
    Unfinished,
}

impl Outcome {
    fn text(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Forgotten => "forgotten",
            Self::WouldGo => "would go",
            Self::Stays => "STAYS",
            Self::Unfinished => "NOT FINISHED",
        }
    }

    fn is_failure(self) -> bool {
        matches!(self, Self::Stays | Self::Unfinished)
    }
}

#[derive(Debug, Serialize)]
struct Line {
    point: Uuid,
    guest: String,
    dir: PathBuf,
    result: Outcome,
    /// Why it was not deleted.
    why: Option<String>,
}

pub(crate) async fn run(context: &Context, args: DeleteArgs) -> Result<()> {
    let db = context.database().await?;
    // An unknown id fails the command before anything is deleted.
    let found = names::points(&db.pool, &args.points).await?;
    let mut lines = Vec::new();
    let ended = delete_all(&db.pool, &found, &args, &mut lines).await;
    // The results so far are printed also if the database became unreachable on the way.
    if ended.is_ok() || !lines.is_empty() {
        show(context, &lines)?;
    }
    ended?;
    if lines.iter().any(|line| line.result.is_failure()) {
        return Err(AlreadyReported.into());
    }
    if args.dry_run {
        return Err(WouldChange.into());
    }
    Ok(())
}

fn show(context: &Context, lines: &[Line]) -> Result<()> {
    context.out.list(
        lines,
        "nothing to delete",
        &["Point", "Guest", "Directory", "Result", "Why"],
        |line| {
            vec![
                output::short(line.point),
                line.guest.clone(),
                line.dir.display().to_string(),
                line.result.text().to_owned(),
                output::or_dash(line.why.as_deref()),
            ]
        },
    )
}

async fn delete_all(
    pool: &PgPool,
    found: &[PointLine],
    args: &DeleteArgs,
    lines: &mut Vec<Line>,
) -> Result<()> {
    let mut dry_run = if args.dry_run {
        Some(DryRun::begin(pool).await?)
    } else {
        None
    };
    for point in found {
        let dir = Path::new(&point.repository).join(&point.path);
        let (result, why) = match (
            check_directory(pool, point, &dir, args).await?,
            &mut dry_run,
        ) {
            (Err(why), _) => (Outcome::Stays, Some(why)),
            (Ok(()), None) => delete(pool, point, args).await?,
            (Ok(()), Some(dry_run)) => match dry_run.delete(point, &args.how()).await? {
                Deletion::Uncovered => (Outcome::Stays, Some(uncovered(point))),
                _ => (Outcome::WouldGo, None),
            },
        };
        lines.push(Line {
            point: point.id,
            guest: point.full_name(),
            dir,
            result,
            why,
        });
    }
    Ok(())
}

/// Marks the row, deletes the directory, then deletes the row: an interrupted deletion can be repeated.
async fn delete(
    pool: &PgPool,
    point: &PointLine,
    args: &DeleteArgs,
) -> Result<(Outcome, Option<String>)> {
    match points::begin_delete(pool, point, &args.how()).await? {
        Deletion::Begun | Deletion::UnderWay => {}
        Deletion::Gone => return Ok((Outcome::Deleted, None)),
        Deletion::Uncovered => return Ok((Outcome::Stays, Some(uncovered(point)))),
    }
    if args.forget {
        return Ok((Outcome::Forgotten, None));
    }
    let id = point.id;
    let removing = in_repository(point, move |repository, path| {
        repository.remove_point(path, id)
    });
    if let Err(error) = removing.await? {
        let why = format!(
            "{error}; it is marked, and goes when this command is repeated or after the guest's next backup"
        );
        return Ok((Outcome::Unfinished, Some(why)));
    }
    points::finish_delete(pool, point.id).await?;
    Ok((Outcome::Deleted, None))
}

/// Works on the directory of a point, on a thread of its own.
async fn in_repository<T: Send + 'static>(
    point: &PointLine,
    work: impl FnOnce(&Repository, &Path) -> virtuozo_repository::Result<T> + Send + 'static,
) -> Result<virtuozo_repository::Result<T>> {
    let (root, path) = (PathBuf::from(&point.repository), PathBuf::from(&point.path));
    let working = tokio::task::spawn_blocking(move || work(&Repository::open(root)?, &path));
    Ok(working.await?)
}

fn uncovered(point: &PointLine) -> String {
    format!(
        "no other restore point of {} is verified: make or verify one first, or give --force",
        point.full_name()
    )
}

/// Checks that the directory can be deleted, or, with `--forget`, that it no longer exists. The inner error says why
/// the point stays.
async fn check_directory(
    pool: &PgPool,
    point: &PointLine,
    dir: &Path,
    args: &DeleteArgs,
) -> Result<Result<(), String>> {
    if args.forget {
        return Ok(match fs::symlink_metadata(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(format!(
                "whether {} is gone is not known: {error}",
                dir.display()
            )),
            Ok(_) => Err(format!(
                "{} is there: delete it without --forget",
                dir.display()
            )),
        });
    }
    let check = repositories::check(pool, &point.repository).await?;
    Ok(match (check.state, check.problem) {
        (RepositoryState::Mounted, _) => {
            let id = point.id;
            let holding = in_repository(point, move |repository, path| {
                repository.check_holds(path, id)
            });
            holding.await?.map_err(|error| error.to_string())
        }
        (_, Some(problem)) => Err(format!(
            "{problem}; where the repository is gone for good, give --forget"
        )),
        (_, None) => Err(format!(
            "the site does not know which repository lies at {at}: if it is the right one, `{adopt}`",
            at = point.repository,
            adopt = terminal::command("repository adopt", &[&point.repository])
        )),
    })
}
