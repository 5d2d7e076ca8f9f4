//! What lies in a repository, whatever it is: for a catalogue that was lost.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{PointSummary, Repository, RepositoryError, Result, durable, names};

/// A directory in a repository.
#[derive(Debug)]
pub struct Found {
    /// Where it lies, below the repository.
    pub path: PathBuf,
    /// What it is.
    pub what: FoundWhat,
}

/// What a directory in a repository is.
#[derive(Debug)]
pub enum FoundWhat {
    /// A published restore point. Its files were not looked at: [`Repository::verify`] does that.
    Point(Box<PointSummary>),
    /// Its manifest cannot be read.
    Broken(RepositoryError),
    /// Has no manifest.
    Foreign,
    /// Is being written or deleted, or was left by an attempt at that.
    Unfinished(Unfinished),
    /// A directory that cannot be listed, or a link.
    Unlisted(RepositoryError),
}

/// What an attempt to write or to delete a restore point is at, or has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The guest run that writes it, and its fence; none: it is being deleted.
    pub of: Option<(Uuid, i64)>,
    /// What it takes up.
    pub size_bytes: u64,
    /// When something in it was last written to; none: it cannot be read.
    pub changed_at: Option<DateTime<Utc>>,
}

impl Repository {
    /// Everything in the places of restore points, by path. Unlike [`list`](Self::list), what cannot be
    /// read is no error of the whole, so what is not found here need not be gone.
    pub fn scan(&self) -> Vec<Found> {
        let mut found = Vec::new();
        let root = Path::new("");
        for host in self.dirs(root, &mut found) {
            for guest in self.dirs(&host, &mut found) {
                for point in self.dirs(&guest, &mut found) {
                    let what = self.look(&point);
                    found.push(Found { path: point, what });
                }
            }
        }
        found
    }

    fn dirs(&self, below: &Path, found: &mut Vec<Found>) -> Vec<PathBuf> {
        let mut unlisted = |path: &Path, error| {
            found.push(Found {
                path: path.to_owned(),
                what: FoundWhat::Unlisted(error),
            });
        };
        match durable::dirs_and_links(&self.root().join(below)) {
            Ok((names, links)) => {
                for link in links {
                    let path = self.root().join(below).join(&link);
                    unlisted(&below.join(link), RepositoryError::Linked { path });
                }
                names.into_iter().map(|name| below.join(name)).collect()
            }
            Err(error) => {
                unlisted(below, error);
                Vec::new()
            }
        }
    }

    fn look(&self, path: &Path) -> FoundWhat {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default();
        let partial = names::parse_partial(name);
        if partial.is_some() || names::is_deleting(name) {
            return FoundWhat::Unfinished(self.unfinished(path, partial));
        }
        if name.starts_with('.') {
            return FoundWhat::Foreign;
        }
        match self.manifest(path) {
            Ok(found) => FoundWhat::Point(Box::new(found.into())),
            Err(RepositoryError::NotFound { .. }) => FoundWhat::Foreign,
            Err(error) => FoundWhat::Broken(error),
        }
    }

    fn unfinished(&self, path: &Path, of: Option<(Uuid, i64)>) -> Unfinished {
        let mut size_bytes = 0;
        let mut newest = SystemTime::UNIX_EPOCH;
        let taken = taken_up(&self.root().join(path), &mut size_bytes, &mut newest);
        Unfinished {
            of,
            size_bytes,
            changed_at: taken.is_ok().then(|| newest.into()),
        }
    }

    /// Removes what an attempt has left, by its path below the repository; an absent one is success. Whether
    /// somebody is still at it is for the caller to know.
    ///
    /// # Errors
    /// [`RepositoryError::Invalid`] for anything else, [`RepositoryError::Io`].
    pub fn remove_unfinished(&self, path: &Path) -> Result<()> {
        let (_, name) = names::check_point_path(path)?;
        if names::parse_partial(name).is_none() && !names::is_deleting(name) {
            return Err(RepositoryError::Invalid {
                name: path.display().to_string(),
                reason: "this is not left by an attempt to write or delete a restore point"
                    .to_owned(),
            });
        }
        durable::remove_dir(&self.place(path)?)
    }
}

/// Adds up what a directory and all below it take up, and when they were last written to. What goes meanwhile is
/// passed over.
fn taken_up(path: &Path, size_bytes: &mut u64, newest: &mut SystemTime) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    *size_bytes += metadata.blocks() * 512;
    *newest = metadata.modified()?.max(*newest);
    if !metadata.is_dir() {
        return Ok(());
    }
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        taken_up(&entry?.path(), size_bytes, newest)?;
    }
    Ok(())
}
