//! What is to be done about an error, as all leaves of the house say it.

use serde::{Deserialize, Serialize};

/// What is to be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Time may heal it: try again later.
    Retry,
    /// This machine lacks something: what is tried on another one may go.
    Elsewhere,
    /// Trying again cannot help: the guest, its files or the stored data are wrong.
    Permanent,
    /// A person has to do something first: a password, a permission, a setting, free space.
    Operator,
}
