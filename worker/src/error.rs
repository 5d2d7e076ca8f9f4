//! Why a worker's part of the work came to an end.

use std::path::PathBuf;

use virtuozo_hypervisor::HypervisorError;
use virtuozo_model::ErrorClass;
use virtuozo_postgres::StoreError;
use virtuozo_repository::{RepositoryError, SealedPoint};
use virtuozo_store::{
    circuit_breakers::HostDown,
    leases::{Fence, LeaseEnd},
};

use crate::failpoints::Failed;

/// Why work is given up that has not failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    /// The lease is lost: another worker acts for this run now. Nothing more may be written.
    #[error("the lease is lost to another worker")]
    Fenced,
    /// Somebody cancelled the run.
    #[error("the run was cancelled")]
    Cancelled,
    /// This worker stops.
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
    /// Where it lies.
    pub(crate) repository: PathBuf,
    /// The first file that is not as it was written.
    pub(crate) file: String,
    /// What is wrong with that file.
    pub(crate) what: String,
    /// How much is wrong in all files.
    pub(crate) problems: usize,
    /// The copy.
    pub(crate) sealed: SealedPoint,
}

impl BadCopy {
    /// What such a failure is called in the records of steps.
    pub(crate) const ERROR_TYPE: &'static str = "repository.bad_copy";
}

/// A step, or the work around it, did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// It was given up.
    #[error(transparent)]
    Stop(#[from] Stop),
    /// The hypervisor refused.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// The host does not answer, or refuses the login, or did so when it was asked last: nothing was done.
    #[error("the host {0}")]
    HostDown(HostDown),
    /// The repository refused.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The database answered with an error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was copied turned out to be bad: only a new copy helps.
    #[error(transparent)]
    BadCopy(Box<BadCopy>),
    /// Anything else, as a sentence for the administrator.
    #[error("{message}")]
    Failed {
        /// What to do about it.
        class: ErrorClass,
        /// What happened, and what to do.
        message: String,
    },
}

impl StepError {
    /// Something that a person has to see to.
    pub(crate) fn operator(message: impl Into<String>) -> Self {
        Self::Failed {
            class: ErrorClass::Operator,
            message: message.into(),
        }
    }

    /// Something that no other attempt can change.
    pub(crate) fn permanent(message: impl Into<String>) -> Self {
        Self::Failed {
            class: ErrorClass::Permanent,
            message: message.into(),
        }
    }

    /// Something that this machine lacks, and another one perhaps not.
    pub(crate) fn elsewhere(message: impl Into<String>) -> Self {
        Self::Failed {
            class: ErrorClass::Elsewhere,
            message: message.into(),
        }
    }

    /// Something that another attempt may find healed.
    pub(crate) fn retry(message: impl Into<String>) -> Self {
        Self::Failed {
            class: ErrorClass::Retry,
            message: message.into(),
        }
    }

    /// Everything on the connection to the host is gone.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Hypervisor(error) if error.is_connection_lost())
    }

    /// Its kind, for programs: `stop.draining`, `hypervisor.timeout`, `repository`.
    pub(crate) fn error_type(&self) -> String {
        match self {
            Self::Stop(Stop::Fenced) => "stop.fenced".to_owned(),
            Self::Stop(Stop::Cancelled) => "stop.cancelled".to_owned(),
            Self::Stop(Stop::Draining) => "stop.draining".to_owned(),
            Self::HostDown(down) if down.login_refused => "host_refuses_login".to_owned(),
            Self::HostDown(_) => "host_down".to_owned(),
            Self::Hypervisor(error) => format!("hypervisor.{}", error.kind),
            Self::Repository(_) => "repository".to_owned(),
            Self::Store(_) => "database".to_owned(),
            Self::BadCopy(_) => BadCopy::ERROR_TYPE.to_owned(),
            Self::Failed { class, .. } => format!("step.{}", class.as_str()),
        }
    }

    /// The hypervisor's own code, where it gave one.
    pub(crate) fn hypervisor_code(&self) -> Option<u64> {
        match self {
            Self::Hypervisor(error) => error.code,
            _ => None,
        }
    }

    /// What to do about it.
    pub(crate) fn class(&self) -> ErrorClass {
        match self {
            Self::Stop(_) | Self::Store(_) | Self::BadCopy(_) => ErrorClass::Retry,
            Self::HostDown(down) => down.class(),
            Self::Hypervisor(error) => class_of(error.class),
            Self::Repository(error) => class_of(error.class()),
            Self::Failed { class, .. } => *class,
        }
    }
}

/// The class that hypervisors and repositories give, which know nothing of the model, in the model's terms.
pub(crate) fn class_of(class: virtuozo_hypervisor::ErrorClass) -> ErrorClass {
    match class {
        virtuozo_hypervisor::ErrorClass::Retry => ErrorClass::Retry,
        virtuozo_hypervisor::ErrorClass::Elsewhere => ErrorClass::Elsewhere,
        virtuozo_hypervisor::ErrorClass::Permanent => ErrorClass::Permanent,
        virtuozo_hypervisor::ErrorClass::Operator => ErrorClass::Operator,
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

/// Ends the work after a statement that found its lease lost.
pub(crate) fn check(fence: Fence) -> Result<(), Stop> {
    match fence {
        Fence::Held => Ok(()),
        Fence::Lost => Err(Stop::Fenced),
    }
}
