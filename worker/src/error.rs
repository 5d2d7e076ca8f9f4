//! Why a worker's part of the work came to an end.

use virtuozo_hypervisor::HypervisorError;
use virtuozo_postgres::StoreError;
use virtuozo_repository::RepositoryError;
use virtuozo_store::{gates::Down, guest_runs::FailureClass};

use crate::{connections, failpoints::Failed};

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
    HostDown(Down),
    /// The repository refused.
    #[error(transparent)]
    Repository(RepositoryError),
    /// The database answered with an error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was copied turned out to be bad: only a new copy helps.
    #[error("{0}")]
    BadCopy(String),
    /// Anything else, as a sentence for the administrator.
    #[error("{message}")]
    Failed {
        /// What to do about it.
        class: FailureClass,
        /// What happened, and what to do.
        message: String,
    },
}

impl StepError {
    /// Something that a person has to see to.
    pub(crate) fn operator(message: impl Into<String>) -> Self {
        Self::Failed {
            class: FailureClass::Operator,
            message: message.into(),
        }
    }

    /// Something that no other attempt can change.
    pub(crate) fn permanent(message: impl Into<String>) -> Self {
        Self::Failed {
            class: FailureClass::Permanent,
            message: message.into(),
        }
    }

    /// Something that this machine lacks, and another one perhaps not.
    pub(crate) fn elsewhere(message: impl Into<String>) -> Self {
        Self::Failed {
            class: FailureClass::Elsewhere,
            message: message.into(),
        }
    }

    /// Something that another attempt may find healed.
    pub(crate) fn retry(message: impl Into<String>) -> Self {
        Self::Failed {
            class: FailureClass::Retry,
            message: message.into(),
        }
    }

    /// Everything on the connection to the host is gone.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Hypervisor(error) if connections::is_lost(error))
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
            Self::BadCopy(_) => "repository.bad_copy".to_owned(),
            Self::Failed {
                class: FailureClass::Elsewhere,
                ..
            } => "step.elsewhere".to_owned(),
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
    pub(crate) fn class(&self) -> FailureClass {
        match self {
            Self::Stop(_) | Self::Store(_) | Self::BadCopy(_) => FailureClass::Retry,
            Self::HostDown(down) => down.class(),
            Self::Hypervisor(error) => of_hypervisor(error.class),
            Self::Repository(error) => match error.class() {
                virtuozo_repository::ErrorClass::Retry => FailureClass::Retry,
                virtuozo_repository::ErrorClass::Elsewhere => FailureClass::Elsewhere,
                virtuozo_repository::ErrorClass::Permanent => FailureClass::Permanent,
                virtuozo_repository::ErrorClass::Operator => FailureClass::Operator,
            },
            Self::Failed { class, .. } => *class,
        }
    }
}

/// What to do about an error of the hypervisor, or a problem of a guest.
pub(crate) fn of_hypervisor(class: virtuozo_hypervisor::ErrorClass) -> FailureClass {
    match class {
        virtuozo_hypervisor::ErrorClass::Retry => FailureClass::Retry,
        virtuozo_hypervisor::ErrorClass::Elsewhere => FailureClass::Elsewhere,
        virtuozo_hypervisor::ErrorClass::Permanent => FailureClass::Permanent,
        virtuozo_hypervisor::ErrorClass::Operator => FailureClass::Operator,
    }
}

impl From<Failed> for StepError {
    fn from(Failed(message): Failed) -> Self {
        Self::retry(message)
    }
}

impl From<RepositoryError> for StepError {
    fn from(error: RepositoryError) -> Self {
        Self::Repository(error)
    }
}
