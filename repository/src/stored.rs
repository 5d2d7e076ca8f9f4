//! Opens the files of a restore point: regular files in its own directory, never through links.

use std::path::{Path, PathBuf};

use virtuozo_disk::{
    DiskError, FilePlace, OpenFile, Roots,
    vmdk::{Chain, DiskFiles, Named},
};

use crate::{RepositoryError, Result, names};

/// The files of one restore point.
pub(crate) struct PointFiles {
    dir: PathBuf,
    roots: Roots,
}

impl PointFiles {
    /// Those in this directory, which may not be a link itself.
    pub(crate) fn of(dir: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir).map_err(RepositoryError::io("open", dir))?;
        let folder = dir.parent().unwrap_or(&dir).to_owned();
        Ok(Self {
            roots: Roots::new([folder]).without_links(),
            dir,
        })
    }

    /// Opens a file by its name in the directory.
    pub(crate) fn open(&self, name: &str) -> std::result::Result<OpenFile, DiskError> {
        match names::check_file_name(name) {
            Ok(()) => self.roots.open(&self.dir.join(name)),
            Err(_) => Err(DiskError::Outside {
                path: self.dir.join(name),
            }),
        }
    }

    /// Opens one of the files that this program writes beside those of the guest.
    pub(crate) fn open_own(&self, name: &'static str) -> std::result::Result<OpenFile, DiskError> {
        self.roots.open(&self.dir.join(name))
    }

    /// Opens a stored disk with its parents.
    pub(crate) fn chain(&self, name: &str) -> std::result::Result<Chain, DiskError> {
        Chain::open_in(self.open(name)?, self)
    }
}

impl DiskFiles for PointFiles {
    fn open(
        &self,
        _: Named,
        name: &str,
        _: &FilePlace,
    ) -> std::result::Result<OpenFile, DiskError> {
        PointFiles::open(self, name)
    }
}

/// An error of opening a stored file as one of the repository.
pub(crate) fn unopened(path: &Path, error: DiskError) -> RepositoryError {
    match error {
        DiskError::Io {
            action,
            path,
            source,
        } => RepositoryError::Io {
            action,
            path,
            source,
        },
        error => RepositoryError::Damaged {
            path: path.to_owned(),
            reason: match error {
                DiskError::Unsupported { reason, .. } => reason,
                error => error.to_string(),
            },
        },
    }
}
