//! What is to be done about an error, whoever met it.

use serde::{Deserialize, Serialize};

/// What is to be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Time may heal it: try again later.
    Retry,
    /// This machine lacks something: a worker on another one may be able to.
    Elsewhere,
    /// Trying again cannot help: the guest, its files or the stored data are wrong.
    Permanent,
    /// A person has to do something first: a password, a permission, a setting, free space.
    Operator,
}

impl ErrorClass {
    /// All classes.
    pub const ALL: [Self; 4] = [
        Self::Retry,
        Self::Elsewhere,
        Self::Permanent,
        Self::Operator,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Elsewhere => "elsewhere",
            Self::Permanent => "permanent",
            Self::Operator => "operator",
        }
    }

    /// The word that the database keeps with a failure: where no worker is left to try, time is what may heal it.
    pub fn in_database(self) -> &'static str {
        match self {
            Self::Elsewhere => Self::Retry.as_str(),
            class => class.as_str(),
        }
    }

    /// Whether another attempt of the same kind may succeed.
    pub fn may_heal(self) -> bool {
        matches!(self, Self::Retry | Self::Elsewhere)
    }
}
