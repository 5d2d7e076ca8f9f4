//! The errors of a worker's jobs and steps.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use virtuozo_child_process::FileError;
use virtuozo_hypervisor::HypervisorError;
use virtuozo_model::ErrorClass;
use virtuozo_postgres::StoreError;
use virtuozo_repository::{RepositoryError, SealedPoint};
use virtuozo_store::{
    circuit_breakers::HostDown,
    leases::{Fence, LeaseEnd},
};

use crate::failpoints::Failed;

/// Why work stops that has not failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    /// The lease is lost: another worker may work on the run now, and nothing more may be written.
    #[error("the lease is lost to another worker")]
    Fenced,
    /// The run was cancelled.
    #[error("the run was cancelled")]
    Cancelled,
    /// This worker drains.
    #[error("the worker stops")]
    Draining,
}

impl From<LeaseEnd> for Stop {
    fn from(end: LeaseEnd) -> Self {
        match end {
            LeaseEnd::Lost => Self::Fenced,
            LeaseEnd::Cancelled => Self::Cancelled,
        }
    }
}

/// A copy that does not read back as it was written.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the copy in the repository {} does not read back as it was written: {file} {what}, {problems} problem(s) in all. \
     What lies below the repository loses or changes data: look at its disks, cables, controller and file system, and \
     at the machine's memory and kernel log; then hold the restore points there against their hashes with `virtuozo \
     point verify --all`",
    repository.display()
)]
pub(crate) struct BadCopy {
    /// The repository.
    pub(crate) repository: PathBuf,
    /// The first file that differs from what was written.
    pub(crate) file: String,
    /// What is wrong with that file.
    pub(crate) what: String,
    /// The number of problems in all files.
    pub(crate) problems: usize,
    /// The copy.
    pub(crate) sealed: SealedPoint,
}

impl BadCopy {
    /// Its [`StepError::error_type`].
    pub(crate) const ERROR_TYPE: &'static str = "repository.bad_copy";
}

/// Why an operation on a repository failed, in whatever process it was done.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub(crate) struct RepositoryFailure {
    /// What callers distinguish.
    pub(crate) kind: RepositoryFailureKind,
    /// Whether another attempt, another machine or an operator can help.
    pub(crate) class: ErrorClass,
    /// A sentence for the administrator.
    pub(crate) message: String,
    /// The directory that this machine lacks, where that is the failure.
    pub(crate) location: Option<PathBuf>,
}

/// The failures of repositories that callers distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RepositoryFailureKind {
    /// The work was to stop.
    Stopped,
    /// Something is not where it was.
    NotFound,
    /// Something else is in its place.
    Occupied,
    /// Any other.
    Other,
}

impl From<RepositoryError> for RepositoryFailure {
    fn from(error: RepositoryError) -> Self {
        Self {
            kind: match &error {
                RepositoryError::Stopped(_) => RepositoryFailureKind::Stopped,
                RepositoryError::NotFound { .. } => RepositoryFailureKind::NotFound,
                RepositoryError::Occupied { .. } => RepositoryFailureKind::Occupied,
                _ => RepositoryFailureKind::Other,
            },
            class: error.class(),
            message: error.to_string(),
            location: match error {
                RepositoryError::NotMounted { path, .. }
                | RepositoryError::OtherRepository { path, .. } => Some(path),
                _ => None,
            },
        }
    }
}

/// The error of a step, or of the work around it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// The work stops without having failed.
    #[error(transparent)]
    Stop(#[from] Stop),
    /// An operation on the host failed.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// The host does not answer or refuses the login, now or when it was tried last. Nothing was done.
    #[error("the host {0}")]
    HostDown(HostDown),
    /// An operation on the repository failed.
    #[error(transparent)]
    Repository(#[from] RepositoryFailure),
    /// Work on files was given up.
    #[error(transparent)]
    Files(#[from] FileError),
    /// A statement failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The copy does not read back as it was written; only a new copy helps.
    #[error(transparent)]
    BadCopy(Box<BadCopy>),
    /// Another failure, as a sentence for the administrator.
    #[error("{message}")]
    Failed {
        /// Whether another attempt, another machine or an operator can help.
        class: ErrorClass,
        /// What happened, and what to do.
        message: String,
        /// The directory that this machine lacks, where that is the failure.
        location: Option<PathBuf>,
    },
}

impl StepError {
    /// A failure that an operator has to mend.
    pub(crate) fn operator(message: impl Into<String>) -> Self {
        Self::Failed {
            class: ErrorClass::Operator,
            message: message.into(),
            location: None,
        }
    }

    /// A failure that no other attempt can avoid.
    pub(crate) fn permanent(message: impl Into<String>) -> Self {
        Self::Failed {
            class: ErrorClass::Permanent,
            message: message.into(),
            location: None,
        }
    }

    /// A failure of this machine that another machine may not have.
    pub(crate) fn elsewhere(message: impl Into<String>) -> Self {
        Self::Failed {
            class: ErrorClass::Elsewhere,
            message: message.into(),
            location: None,
        }
    }

    /// A failure that another attempt may not meet.
    pub(crate) fn retry(message: impl Into<String>) -> Self {
        Self::Failed {
            class: ErrorClass::Retry,
            message: message.into(),
            location: None,
        }
    }

    /// The directory that this machine lacks, where the error is that: one that a datastore is mapped to, or a repository's.
    pub(crate) fn missing_location(&self) -> Option<&Path> {
        match self {
            Self::Hypervisor(error) => error.location.as_deref(),
            Self::Repository(failure) => failure.location.as_deref(),
            Self::Failed { location, .. } => location.as_deref(),
            _ => None,
        }
    }

    /// Whether the connection to the host is lost.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Hypervisor(error) if error.is_connection_lost())
    }

    /// Its kind in traces and records, such as `stop.draining`, `hypervisor.timeout`, `repository`.
    pub(crate) fn error_type(&self) -> String {
        match self {
            Self::Stop(Stop::Fenced) => "stop.fenced".to_owned(),
            Self::Stop(Stop::Cancelled) => "stop.cancelled".to_owned(),
            Self::Stop(Stop::Draining) => "stop.draining".to_owned(),
            Self::HostDown(down) if down.login_refused => "host_refuses_login".to_owned(),
            Self::HostDown(_) => "host_down".to_owned(),
            Self::Hypervisor(error) => format!("hypervisor.{}", error.kind),
            Self::Repository(_) => "repository".to_owned(),
            Self::Files(error) if error.is_silence() => "files.silent".to_owned(),
            Self::Files(_) => "files".to_owned(),
            Self::Store(_) => "database".to_owned(),
            Self::BadCopy(_) => BadCopy::ERROR_TYPE.to_owned(),
            Self::Failed { class, .. } => format!("step.{}", class.as_str()),
        }
    }

    /// The error code of the hypervisor's library, if there is one.
    pub(crate) fn hypervisor_code(&self) -> Option<u64> {
        match self {
            Self::Hypervisor(error) => error.code,
            _ => None,
        }
    }

    /// Whether another attempt, another machine or an operator can help.
    pub(crate) fn class(&self) -> ErrorClass {
        match self {
            Self::Stop(_) | Self::Store(_) | Self::BadCopy(_) => ErrorClass::Retry,
            Self::HostDown(down) => down.class(),
            Self::Hypervisor(error) => error.class,
            Self::Repository(failure) => failure.class,
            Self::Files(error) => error.class(),
            Self::Failed { class, .. } => *class,
        }
    }
}

impl From<RepositoryError> for StepError {
    fn from(error: RepositoryError) -> Self {
        Self::Repository(error.into())
    }
}

impl From<LeaseEnd> for StepError {
    fn from(end: LeaseEnd) -> Self {
        Self::Stop(end.into())
    }
}

impl From<Failed> for StepError {
    fn from(Failed(message): Failed) -> Self {
        Self::retry(message)
    }
}

/// An error if a fenced statement found the lease lost.
pub(crate) fn check(fence: Fence) -> Result<(), Stop> {
    match fence {
        Fence::Held => Ok(()),
        Fence::Lost => Err(Stop::Fenced),
    }
}
