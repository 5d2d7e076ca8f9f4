//! What can go wrong with a repository, and what to do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;
use uuid::Uuid;
use virtuozo_disk::DiskError;
pub use virtuozo_model::ErrorClass;
use virtuozo_model::terminal;

use crate::Authenticity;

/// The result of every operation on a repository.
pub type Result<T> = std::result::Result<T, RepositoryError>;

/// A caller asked a long operation to stop, through its [`CopyObserver`](crate::CopyObserver).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stopped: {reason}")]
pub struct Stopped {
    /// Why, as part of a sentence: "cancelled", "the lease is lost".
    pub reason: String,
}

/// An operation on a repository failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// The operating system refused; says which file and what was being done to it.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb: "open", "write", "sync".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The disk or file to be copied could not be read.
    #[error("cannot read {name}{} at byte {offset_bytes}: {source}", in_device(device.as_deref()))]
    Source {
        /// Name of the file in the restore point.
        name: String,
        /// The device it belongs to.
        device: Option<String>,
        /// Where reading failed, in bytes from the start of the disk or file.
        offset_bytes: u64,
        /// What the disk says.
        source: DiskError,
    },
    /// A stored disk could not be written or read back.
    #[error("the stored disk {name} failed: {source}")]
    Stored {
        /// Name of the file in the restore point.
        name: String,
        /// What the disk says.
        source: DiskError,
    },
    /// There is too little space for what is to be written.
    #[error(
        "{} has {have_bytes} bytes free, but {need_bytes} are needed: free space there or choose another destination",
        path.display()
    )]
    NoSpace {
        /// The directory to be written to.
        path: PathBuf,
        /// What is needed, in bytes.
        need_bytes: u64,
        /// What is free, in bytes.
        have_bytes: u64,
    },
    /// The file system makes no directories there, as that of the kernel below `/proc`.
    #[error(
        "no directory can be made at {}: the file system there takes none; choose another destination",
        path.display()
    )]
    NoDirectories {
        /// What was to be made.
        path: PathBuf,
    },
    /// The caller asked to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// There is nothing at this path.
    #[error("there is no {what} at {}: is the repository mounted?", path.display())]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// What lies there is not the repository that it was: probably the directory under its mount point.
    #[error(
        "{} is not the repository that this site wrote to: {missing}. Mount it; if it was replaced on purpose, \
         run `{}`",
        path.display(), adopt(path)
    )]
    NotMounted {
        /// The repository's directory.
        path: PathBuf,
        /// What is missing there.
        missing: String,
    },
    /// Another repository lies there.
    #[error(
        "{} is not the repository that this site wrote to, {known}, but the repository {found}. Mount the right \
         one; if it was replaced on purpose, run `{}`",
        path.display(), adopt(path)
    )]
    OtherRepository {
        /// The repository's directory.
        path: PathBuf,
        /// The id of the one that is known.
        known: Uuid,
        /// The id of the one that is there.
        found: Uuid,
    },
    /// Stored data is not what was written.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file or restore point.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// Nobody who has a key of this machine wrote the manifest.
    #[error(
        "{} is {why}. If you know where it comes from, restore it with --unauthenticated, or make it one of this site with \
         `virtuozo point adopt`; if the key is on another machine, copy that machine's key file",
        path.display()
    )]
    NotAuthenticated {
        /// The restore point.
        path: PathBuf,
        /// What is known about its manifest.
        why: Authenticity,
    },
    /// A directory in a repository is a link.
    #[error(
        "{} is a link: a repository is used only as far as no link leads out of it; put the directory itself there (mount its \
         disk in its place), or remove the link",
        path.display()
    )]
    Linked {
        /// The link.
        path: PathBuf,
    },
    /// The restore point was written by a newer Virtuozo.
    #[error(
        "{} has format version {found}, but this program reads up to {supported}: use a newer Virtuozo",
        path.display()
    )]
    NewerFormat {
        /// The manifest.
        path: PathBuf,
        /// The version it names.
        found: u64,
        /// The newest version known here.
        supported: u64,
    },
    /// Something already stands where a new directory is to be; nothing was changed.
    #[error("{} exists already and is not overwritten: {reason}", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// What stands there, and what to do.
        reason: String,
    },
    /// The files given for a restore point do not fit together, or have names that cannot be stored.
    #[error("{name} cannot be stored: {reason}")]
    Invalid {
        /// Name of the file.
        name: String,
        /// Why.
        reason: String,
    },
}

impl RepositoryError {
    /// Makes a closure for `map_err` that names the file and the action.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// Whether there is no space left where it was to be written, or none that this user may have.
    pub fn is_no_space(&self) -> bool {
        let full = |error: &io::Error| {
            matches!(
                Errno::from_io_error(error),
                Some(Errno::NOSPC | Errno::DQUOT)
            )
        };
        match self {
            Self::NoSpace { .. } => true,
            Self::Io { source, .. } => full(source),
            Self::Stored {
                source: DiskError::Io { source, .. },
                ..
            } => full(source),
            _ => false,
        }
    }

    /// What to do about it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Io { source, .. } => io_class(source),
            Self::Source { source, .. } | Self::Stored { source, .. } => match source {
                DiskError::Io { source, .. } => io_class(source),
                _ => ErrorClass::Permanent,
            },
            Self::Stopped(_) => ErrorClass::Retry,
            Self::NotMounted { .. } | Self::OtherRepository { .. } => ErrorClass::Elsewhere,
            Self::NoSpace { .. }
            | Self::NoDirectories { .. }
            | Self::NotFound { .. }
            | Self::NewerFormat { .. }
            | Self::Linked { .. }
            | Self::NotAuthenticated { .. } => ErrorClass::Operator,
            Self::Damaged { .. } | Self::Occupied { .. } | Self::Invalid { .. } => {
                ErrorClass::Permanent
            }
        }
    }
}

fn io_class(error: &io::Error) -> ErrorClass {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
            ErrorClass::Operator
        }
        _ => ErrorClass::Retry,
    }
}

/// The command that takes what lies at a path for the repository.
pub(crate) fn adopt(path: &Path) -> String {
    terminal::command("repository adopt", &[path.display()])
}

fn in_device(device: Option<&str>) -> String {
    device.map_or_else(String::new, |device| format!(" ({device})"))
}
