//! How work in a process of files is lost.

use std::time::Duration;

use virtuozo_model::ErrorClass;

/// Work in a process of files has not come to its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FileError {
    /// Nothing moved for the limit; the process was killed.
    #[error(
        "{what} have not answered for {} s, and were given up: see whether the file system is mounted and its server \
         answers (`virtuozo settings set file_silence_secs` says how long is waited)",
        silent.as_secs()
    )]
    Silent {
        /// What it was in, such as `reads from standard`.
        what: String,
        /// For how long nothing has moved.
        silent: Duration,
    },
    /// The process ended.
    #[error("the process that reads and writes files {how}, so what it did is begun again")]
    Lost {
        /// How, as part of a sentence.
        how: String,
    },
    /// The process cannot be started.
    #[error("the process that reads and writes files cannot be started: {why}")]
    NotStarted {
        /// Why.
        why: String,
    },
    /// What was said is of another version of the program.
    #[error("the process that reads and writes files is of another version: {why}")]
    NotUnderstood {
        /// What does not fit.
        why: String,
    },
}

impl FileError {
    pub(crate) fn lost(how: impl Into<String>) -> Self {
        Self::Lost { how: how.into() }
    }

    pub(crate) fn not_understood(error: impl std::fmt::Display) -> Self {
        Self::NotUnderstood {
            why: error.to_string(),
        }
    }

    /// Whether a file system has not answered.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Silent { .. })
    }

    /// Another attempt may find the file system answering.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Retry
    }
}
