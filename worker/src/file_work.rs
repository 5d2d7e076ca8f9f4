//! Work on files that a process of its own does, as it is told and answered. Data never crosses the border: what is copied is
//! read, hashed and written on the other side.

use std::{collections::HashMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use virtuozo_disk::MachineRoots;
use virtuozo_hypervisor::{HypervisorError, ImageFiles};
use virtuozo_model::ErrorClass;
use virtuozo_repository::{Access, ManifestKeys, NewPoint, Recorded, SealedPoint};

use crate::error::{RepositoryFailure, StepError};

/// The name of the work on files among the work that a process of files can do.
pub const FILE_WORK: &str = "files";

/// Work, and what it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FileWork {
    /// Opens a repository for a change. Answers [`Entered`].
    Enter {
        root: PathBuf,
        /// The id that it should have.
        id: Option<Uuid>,
        /// Paths of restore points that should be in it.
        points: Vec<String>,
        access: Access,
        /// Where this machine writes at all.
        allowed: MachineRoots,
    },
    /// Finds partial copies in a guest's directory. Answers the guest runs that made them: `Vec<Uuid>`.
    FindPartials {
        root: PathBuf,
        host: String,
        guest: String,
    },
    /// Removes partial copies from it. Answers nothing.
    SweepPartials {
        root: PathBuf,
        host: String,
        guest: String,
        /// Whose partial copies all stay.
        keep: Uuid,
        /// The first fence whose partial copy is still needed, for guest runs that are known. Of others all stay.
        needed_from: HashMap<Uuid, i64>,
    },
    /// Copies a guest. Tells [`FileNews`], asks [`FileQuestion`], and answers a [`SealedPoint`].
    Copy {
        image: ImageFiles,
        order: Box<CopyOrder>,
    },
    /// Whether a sealed point is where it should be: `bool`.
    IsThere { root: PathBuf, sealed: SealedPoint },
    /// Reads a sealed point back. Tells [`FileNews`], asks [`FileQuestion`], and answers a
    /// [`VerifyReport`](virtuozo_repository::VerifyReport).
    ReadBack {
        root: PathBuf,
        sealed: SealedPoint,
        /// Where it is to ask before it goes on.
        stops: Vec<StopPlace>,
    },
    /// Makes a sealed point visible. Answers a [`PublishedPoint`](virtuozo_repository::PublishedPoint).
    Publish { root: PathBuf, sealed: SealedPoint },
    /// Deletes a sealed point that is not what was written: whether it was there.
    Discard { root: PathBuf, sealed: SealedPoint },
    /// What is missing of a published point: `Option<String>`.
    FindMissing {
        root: PathBuf,
        path: PathBuf,
        recorded: Recorded,
    },
    /// The space where a repository lies: `Option<Space>`; none where it is not there, or does not tell.
    MeasureSpace { root: PathBuf, id: Option<Uuid> },
    /// Whether a directory can be read, and if it is one of a repository, holds that: `bool`.
    IsMounted {
        location: PathBuf,
        /// The id of the repository; none where it is none, or not known.
        id: Option<Uuid>,
        points: Vec<String>,
    },
    /// Deletes a published point: whether it was there.
    Remove {
        root: PathBuf,
        path: PathBuf,
        id: Uuid,
    },
    /// Checks that a published point is the one of this id. Answers nothing.
    CheckHolds {
        root: PathBuf,
        path: PathBuf,
        id: Uuid,
    },
}

/// What came of opening a repository.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entered {
    /// It has this id.
    Id(Uuid),
    /// This machine writes nothing there.
    NotAllowed,
}

/// A copy that is to be made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CopyOrder {
    pub(crate) repository: PathBuf,
    /// Without the names of foreign snapshots, which the image has.
    pub(crate) point: NewPoint,
    pub(crate) access: Access,
    /// They authenticate the manifest.
    pub(crate) keys: ManifestKeys,
    /// Where it is to ask before it goes on.
    pub(crate) stops: Vec<StopPlace>,
}

/// A place at which a failpoint can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StopPlace {
    /// After the first bytes of a copy.
    CopyMiddle,
    /// After the first checkpoint of a copy, with at least half of a file still to be copied.
    CopyDurable,
    /// After the first bytes of a verification.
    VerifyMiddle,
}

/// How far work is. The files of a copy are told by their device, if they have one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FileNews {
    /// A file that is to be read.
    Expected { label: String, bytes: u64 },
    /// So much of a file is done.
    Moved {
        label: String,
        done_bytes: u64,
        total_bytes: u64,
    },
    /// A file is complete.
    FileDone { label: String, bytes: u64 },
}

/// What work waits for an answer to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FileQuestion {
    /// Whether there is space for the copy: `bool`.
    Space(SpaceNeeded),
    /// Whether to go on at this place; any answer means that.
    At(StopPlace),
}

/// The space for a copy.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct SpaceNeeded {
    /// How the repository's file system is counted here.
    pub(crate) device: u64,
    pub(crate) needed_bytes: u64,
    pub(crate) free_bytes: Option<u64>,
}

/// Why work has failed, as it crosses the border.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failure {
    Hypervisor(HypervisorError),
    Repository(RepositoryFailure),
    Other {
        class: ErrorClass,
        message: String,
        location: Option<PathBuf>,
    },
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Hypervisor(error) => Self::Hypervisor(error),
            StepError::Repository(failure) => Self::Repository(failure),
            error => Self::Other {
                class: error.class(),
                message: error.to_string(),
                location: error.missing_location().map(ToOwned::to_owned),
            },
        }
    }
}

impl From<Failure> for StepError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Hypervisor(error) => error.into(),
            Failure::Repository(failure) => failure.into(),
            Failure::Other {
                class,
                message,
                location,
            } => Self::Failed {
                class,
                message,
                location,
            },
        }
    }
}
