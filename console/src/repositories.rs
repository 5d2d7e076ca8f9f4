//! The repositories as this machine sees them: which there are, and whether each is the one that the site knows.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_repository::{Repository, RepositoryError};
use virtuozo_runtime::LIMITS;
use virtuozo_services::repositories::{self, KnownRepository};

use crate::error::usage;

/// The state of a repository on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RepositoryState {
    /// The site's repository lies in the directory.
    Mounted,
    /// The site has not written to it yet; the first backup creates it.
    NotUsedYet,
    /// The directory holds no repository, or one without any of the site's restore points.
    NotMounted,
    /// The directory holds a repository with another id.
    OtherRepository,
    /// The directory cannot be read, or does not answer in time.
    Unreadable,
}

impl RepositoryState {
    /// The state in lists; those that need attention are in capitals.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Mounted => "mounted",
            Self::NotUsedYet => "not used yet",
            Self::NotMounted => "NOT MOUNTED",
            Self::OtherRepository => "OTHER REPOSITORY",
            Self::Unreadable => "CANNOT BE READ",
        }
    }
}

/// The result of checking a repository on this machine.
#[derive(Debug, Serialize)]
pub(crate) struct RepositoryCheck {
    pub(crate) state: RepositoryState,
    /// The id that the site knows; `None` before the first use.
    id: Option<Uuid>,
    /// The id of the repository in the directory; `None` if there is none.
    id_here: Option<Uuid>,
    /// What is wrong, and what to do about it; `None` if nothing is.
    pub(crate) problem: Option<String>,
}

/// Compares a directory on this machine with what the site knows of the repository there. Changes nothing.
///
/// # Errors
/// The database cannot be asked. Whatever is wrong with the directory is in the result.
pub(crate) async fn check(pool: &PgPool, path: &str) -> Result<RepositoryCheck> {
    let KnownRepository { id, points } = repositories::known(pool, path).await?;
    let is_used = id.is_some() || !points.is_empty();
    let root = PathBuf::from(path);
    let reading = tokio::task::spawn_blocking(move || Repository::recognise(&root, id, &points));
    let result = |state, id_here, problem| RepositoryCheck {
        state,
        id,
        id_here,
        problem,
    };
    let limit = LIMITS.console.repository;
    let Ok(found) = tokio::time::timeout(limit, reading).await else {
        let problem = format!("{path} does not answer within {limit:?}: look at its storage");
        return Ok(result(RepositoryState::Unreadable, None, Some(problem)));
    };
    Ok(match found? {
        Ok(id_here) if is_used => result(RepositoryState::Mounted, id_here, None),
        Ok(id_here) => result(RepositoryState::NotUsedYet, id_here, None),
        Err(error) => {
            let (state, id_here) = match error {
                RepositoryError::NotMounted { .. } => (RepositoryState::NotMounted, None),
                RepositoryError::OtherRepository { found, .. } => {
                    (RepositoryState::OtherRepository, Some(found))
                }
                _ => (RepositoryState::Unreadable, None),
            };
            result(state, id_here, Some(error.to_string()))
        }
    })
}

/// The path in `recorded` of the same directory as `dir`, or the absolute path of `dir` if there is none.
///
/// # Errors
/// `dir` is no directory, or its path is not UTF-8.
pub(crate) fn recorded_path(dir: &Path, recorded: &[String]) -> Result<String> {
    let dir: PathBuf = std::path::absolute(dir)?.components().collect();
    if !dir.is_dir() {
        return Err(usage(format!("{} is not a directory", dir.display())));
    }
    let same = recorded
        .iter()
        .find(|name| same_directory(Path::new(name), &dir));
    match (same, dir.to_str()) {
        (Some(name), _) => Ok(name.clone()),
        (None, Some(dir)) => Ok(dir.to_owned()),
        (None, None) => Err(usage(format!("{} is not valid UTF-8", dir.display()))),
    }
}

/// Whether both paths lead to the same directory; where one leads nowhere, whether they are equal.
pub(crate) fn same_directory(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}
