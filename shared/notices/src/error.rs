//! What goes wrong with notices.

use minijinja::Error as TemplateError;
use virtuozo_postgres::StoreError;

/// The text of a notice could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    /// The store refused, or does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A template does not fit the content.
    #[error("the text of a notice cannot be made: {0}")]
    Template(#[from] TemplateError),
}

/// Why a notice was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SendError {
    /// What happened, where, and what to do.
    pub(crate) message: String,
    /// Another attempt with the same notice would end in the same way.
    pub(crate) is_final: bool,
    /// The pause that the receiver asks for, in seconds.
    pub(crate) retry_after_secs: Option<u32>,
}

impl SendError {
    /// Another attempt may succeed.
    pub(crate) fn transient(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            is_final: false,
            retry_after_secs: None,
        }
    }

    /// Another attempt with the same notice would end in the same way.
    pub(crate) fn permanent(message: impl Into<String>) -> Self {
        Self {
            is_final: true,
            ..Self::transient(message)
        }
    }
}

impl From<NoticeError> for SendError {
    fn from(error: NoticeError) -> Self {
        Self::transient(error.to_string())
    }
}

impl From<StoreError> for SendError {
    fn from(error: StoreError) -> Self {
        Self::transient(error.to_string())
    }
}
