//! What is to be done about an error, whoever met it.

/// What is to be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Time may heal it: try again later.
    Retry,
    /// What this worker's machine lacks: another worker may be able to.
    Elsewhere,
    /// Trying again cannot help.
    Permanent,
    /// A person has to do something first.
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
