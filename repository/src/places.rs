//! Where things lie below a repository: in directories, behind no link.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Repository, RepositoryError, Result};

impl Repository {
    /// The place of a path below the repository, which need not be there. Whoever can lay a link in a repository could
    /// otherwise have this program write, read or delete elsewhere.
    ///
    /// # Errors
    /// [`RepositoryError::Linked`] where a directory on the way is a link, [`RepositoryError::Io`].
    pub fn place(&self, below: &Path) -> Result<PathBuf> {
        place(self.root(), below)
    }
}

/// As [`Repository::place`].
pub(crate) fn place(root: &Path, below: &Path) -> Result<PathBuf> {
    let mut path = root.to_owned();
    for part in below.components() {
        path.push(part);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => return Err(RepositoryError::Linked { path }),
            Ok(_) => {}
            // What is below it is not there either.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(root.join(below)),
            Err(error) => return Err(RepositoryError::io("look at", path)(error)),
        }
    }
    Ok(path)
}
