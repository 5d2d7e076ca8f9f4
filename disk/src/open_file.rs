//! A regular file that is open, with the place it was found at.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{OFlags, fstat};

use crate::{DiskError, FileId};

/// Where a file was found.
#[derive(Debug, Clone)]
pub struct FilePlace {
    pub(crate) path: PathBuf,
    pub(crate) id: FileId,
    pub(crate) directories: Vec<FileId>,
    pub(crate) linked_from: Option<FileId>,
}

impl FilePlace {
    /// Its path without links below the [root](crate::Roots) that it was found in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory it lies in.
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Which file it is.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Whether its name was a link to it from another directory.
    pub fn is_linked_from_elsewhere(&self) -> bool {
        self.linked_from.is_some() && self.linked_from.as_ref() != self.directories.last()
    }

    /// The directories that it lies in, from the root to its own; empty where it was opened by a path of the
    /// program's own.
    pub fn directories(&self) -> &[FileId] {
        &self.directories
    }
}

/// A regular file that is open.
#[derive(Debug)]
pub struct OpenFile {
    pub(crate) file: File,
    pub(crate) size_bytes: u64,
    pub(crate) place: FilePlace,
}

impl OpenFile {
    /// Opens a file for reading by a path that nobody else chose. Links are followed.
    ///
    /// # Errors
    /// [`DiskError::Io`]; [`DiskError::Unsupported`] for what is not a regular file.
    pub fn at(path: &Path) -> Result<Self, DiskError> {
        Self::at_with(path, Access::Read)
    }

    pub(crate) fn at_with(path: &Path, access: Access) -> Result<Self, DiskError> {
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::ReadWrite)
            // A pipe opens at once this way, and is refused below.
            .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32)
            .open(path)
            .map_err(DiskError::io("open", path))?;
        let metadata = file.metadata().map_err(DiskError::io("open", path))?;
        if !metadata.is_file() {
            return Err(DiskError::not_regular(path));
        }
        let stat = fstat(&file).map_err(|error| DiskError::io("open", path)(error.into()))?;
        Ok(Self {
            size_bytes: metadata.size(),
            place: FilePlace {
                path: path.to_owned(),
                id: FileId::from(&stat),
                directories: Vec::new(),
                linked_from: None,
            },
            file,
        })
    }

    /// Where it was found.
    pub fn place(&self) -> &FilePlace {
        &self.place
    }

    /// Its path; see [`FilePlace::path`].
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Its size in bytes when it was opened.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The open file, on its own.
    pub fn into_file(self) -> File {
        self.file
    }

    /// Reads it whole; none if it is larger than `limit_bytes`.
    ///
    /// # Errors
    /// [`DiskError::Io`].
    pub fn read_all(&self, limit_bytes: u64) -> Result<Option<Vec<u8>>, DiskError> {
        let mut bytes = self.read_beginning(limit_bytes.saturating_add(1))?;
        if bytes.len() as u64 > limit_bytes {
            return Ok(None);
        }
        bytes.shrink_to_fit();
        Ok(Some(bytes))
    }

    /// Reads at most its first `limit_bytes`.
    ///
    /// # Errors
    /// [`DiskError::Io`].
    pub fn read_beginning(&self, limit_bytes: u64) -> Result<Vec<u8>, DiskError> {
        let mut bytes = Vec::new();
        (&self.file)
            .take(limit_bytes)
            .read_to_end(&mut bytes)
            .map_err(DiskError::io("read", self.path()))?;
        Ok(bytes)
    }
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    ReadWrite,
}
