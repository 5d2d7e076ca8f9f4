//! Finding the files that a disk's descriptors name.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Layer;
use crate::{
    DiskError, FileId, FilePlace, OpenFile,
    open_file::Access,
    vmware::host_path::{base_name, to_slashes},
};

/// What a descriptor names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The file of an extent.
    Extent,
    /// The parent of a delta.
    Parent,
}

/// Finds and opens the files that descriptors name.
pub trait DiskFiles {
    /// The link in a file, where it was opened before.
    fn known(&self, _file: FileId) -> Option<Arc<Layer>> {
        None
    }

    /// Notes a link that was opened.
    fn learn(&self, _link: &Arc<Layer>) {}

    /// Opens what the descriptor in `descriptor` calls `name`.
    ///
    /// # Errors
    /// [`DiskError`], naming the file.
    fn open(&self, what: Named, name: &str, descriptor: &FilePlace) -> Result<OpenFile, DiskError>;
}

/// The files of a disk that nobody else chose the names of: where a descriptor says, relative names against its
/// directory and for parents then against further directories, else by base name in the same places.
pub(super) struct OwnFiles<'a> {
    pub(super) search_dirs: &'a [PathBuf],
    pub(super) access: Access,
}

impl OwnFiles<'_> {
    /// Where it is; where there is none, the place where it should be.
    pub(super) fn locate(&self, what: Named, name: &str, descriptor: &Path) -> PathBuf {
        let own_dir = descriptor.parent().unwrap_or(Path::new(""));
        let further = match what {
            Named::Extent => &[],
            Named::Parent => self.search_dirs,
        };
        let dirs = || std::iter::once(own_dir).chain(further.iter().map(PathBuf::as_path));
        let spellings = [
            name.to_owned(),
            to_slashes(name),
            base_name(name).to_owned(),
        ];
        spellings
            .iter()
            .flat_map(|name| dirs().map(move |dir| dir.join(name)))
            .find(|path| path.is_file())
            .unwrap_or_else(|| own_dir.join(name))
    }
}

impl DiskFiles for OwnFiles<'_> {
    fn open(&self, what: Named, name: &str, descriptor: &FilePlace) -> Result<OpenFile, DiskError> {
        let path = self.locate(what, name, descriptor.path());
        match (OpenFile::at_with(&path, self.access), what) {
            (Err(error), Named::Parent) => Err(no_parent(error)),
            (outcome, _) => outcome,
        }
    }
}

/// Says of a file that is not there that it was to be a parent.
pub fn no_parent(error: DiskError) -> DiskError {
    match error {
        DiskError::Io { path, source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            DiskError::Io {
                action: "find the parent of a delta,",
                path,
                source,
            }
        }
        error => error,
    }
}
