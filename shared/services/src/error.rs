//! Why an operation was not done.

use virtuozo_model::{ErrorClass, schedule::ScheduleError};
use virtuozo_postgres::StoreError;
use virtuozo_secrets::SecretError;
use virtuozo_site_config::SiteFileError;

use crate::requests::RequestError;

/// Why an operation was not done: what happened, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The database did not answer, or what was asked for does not fit what is stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was asked for cannot be: a wrong value, an unknown name, or one too many of them.
    #[error("{0}")]
    Refused(String),
    /// The key of this machine is missing, or is not the one that sealed what is stored.
    #[error("{0}")]
    WrongKey(String),
    /// A password or secret cannot be sealed or opened.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// When a schedule is due cannot be computed.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A file with a site's configuration cannot be written, read or applied.
    #[error(transparent)]
    SiteFile(SiteFileError),
    /// No worker has done what was asked of a host.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl ServiceError {
    /// What was asked for cannot be done, and nothing has failed: whoever asks has to ask otherwise.
    pub fn is_refused(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Store(error) => is_refused(error),
            _ => false,
        }
    }

    /// The database does not answer.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Store(error) | Self::Request(RequestError::Store(error)) => {
                error.is_unavailable()
            }
            _ => false,
        }
    }

    /// What is to be done about it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Store(error) if error.is_unavailable() => ErrorClass::Retry,
            Self::Store(StoreError::Query(_) | StoreError::Migrate(_)) => ErrorClass::Permanent,
            Self::Request(error) => error.class(),
            _ => ErrorClass::Operator,
        }
    }
}

fn is_refused(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::NotFound { .. }
            | StoreError::Exists { .. }
            | StoreError::Refused(_)
            | StoreError::Url(_)
    )
}

impl From<sqlx::Error> for ServiceError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl From<SiteFileError> for ServiceError {
    fn from(error: SiteFileError) -> Self {
        match error {
            SiteFileError::Store(error) => error.into(),
            error => Self::SiteFile(error),
        }
    }
}

/// A wrong value or name.
pub(crate) fn refused(why: impl Into<String>) -> ServiceError {
    ServiceError::Refused(why.into())
}
