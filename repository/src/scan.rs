//! What lies in a repository, whatever it is: for a catalogue that was lost.

use std::path::{Path, PathBuf};

use crate::{Manifest, PointSummary, Repository, RepositoryError, durable, names};

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
    /// Is being written, or was left by an attempt that failed.
    Partial,
    /// Is being deleted.
    Deleting,
    /// A directory that cannot be listed.
    Unlisted(RepositoryError),
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
        match durable::dirs(&self.root().join(below)) {
            Ok(names) => names.into_iter().map(|name| below.join(name)).collect(),
            Err(error) => {
                found.push(Found {
                    path: below.to_owned(),
                    what: FoundWhat::Unlisted(error),
                });
                Vec::new()
            }
        }
    }

    fn look(&self, path: &Path) -> FoundWhat {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default();
        if names::parse_partial(name).is_some() {
            return FoundWhat::Partial;
        }
        if names::is_deleting(name) {
            return FoundWhat::Deleting;
        }
        if name.starts_with('.') {
            return FoundWhat::Foreign;
        }
        match Manifest::read(&self.root().join(path)) {
            Ok(manifest) => FoundWhat::Point(Box::new(manifest.into())),
            Err(RepositoryError::NotFound { .. }) => FoundWhat::Foreign,
            Err(error) => FoundWhat::Broken(error),
        }
    }
}
