//! What can be wrong with a disk or with a file that describes one.

use std::{
    io,
    path::{Path, PathBuf},
};

/// A disk, or a file that names one, could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The operating system refused; says which file and what was being done to it.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb: "open", "read", "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file's content contradicts its format.
    #[error("{} is not a valid {format}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The format it was read as, for example "sparse VMDK extent".
        format: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
    /// The format is known but this kind of it is not read.
    #[error("{} cannot be used: {reason}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Which kind it is, and what to do about it.
        reason: String,
    },
    /// The path lies outside of the directories below which it may lie, or a link or `..` leads out of them.
    #[error("{} is not read: it leads out of the directories that it may lie in", path.display())]
    Outside {
        /// The path, as it was asked for.
        path: PathBuf,
    },
    /// The machine's own configuration does not let it be read.
    #[error("{why}")]
    NotAllowed {
        /// The path, as it was asked for.
        path: PathBuf,
        /// Which machine refuses, and what to do.
        why: String,
    },
    /// A file that a guest names lies in the folder of another guest.
    #[error(
        "{} is not read: it lies in the folder of another guest, {}, where only parents of a guest's disks may lie",
        path.display(), folder.display()
    )]
    OtherGuest {
        /// The file.
        path: PathBuf,
        /// The folder, in which there is a guest's configuration.
        folder: PathBuf,
    },
    /// A delta and its parent do not belong together (VIX error 16008).
    #[error("the delta {} was made for a parent with content id {expected:08x}, but {} has {found:08x}: the parent was changed or replaced", child.display(), parent.display())]
    ContentId {
        /// The delta.
        child: PathBuf,
        /// The file that should be its parent.
        parent: PathBuf,
        /// The id the delta asks for.
        expected: u32,
        /// The id the parent has.
        found: u32,
    },
    /// What was asked for cannot be written in this format, or not at this place.
    #[error("{} was not written: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What was asked for and why it cannot be.
        reason: String,
    },
    /// A read or write goes beyond the end of the disk.
    #[error(
        "{len_bytes} bytes at {offset_bytes} are beyond the end of a disk of {size_bytes} bytes"
    )]
    OutOfRange {
        /// Where the access begins, in bytes.
        offset_bytes: u64,
        /// Its length, in bytes.
        len_bytes: u64,
        /// The size of the disk, in bytes.
        size_bytes: u64,
    },
}

impl DiskError {
    pub(crate) fn not_regular(path: &Path) -> Self {
        Self::Unsupported {
            path: path.to_owned(),
            reason:
                "it is not a regular file; devices and pipes cannot be disks or files of a guest"
                    .to_owned(),
        }
    }

    /// Whether the system says that there is no such file.
    pub fn is_not_found(&self) -> bool {
        let kind = match self {
            Self::Io { source, .. } => source.kind(),
            _ => return false,
        };
        matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    }

    /// Makes a closure for `map_err` that names the file and the action.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
