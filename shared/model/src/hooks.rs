//! Hooks: commands before and after a run, and before and after the backup of a guest.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::text_enum::text_enum;

text_enum! {
    /// When a hook is run.
    pub enum HookMoment {
        /// Before the run, or before the guest is touched.
        Before = "before",
        /// When the run, or the guest's part in it, has ended.
        After = "after",
    }
}

text_enum! {
    /// What it means that a hook fails.
    pub enum OnFailure {
        /// Before: nothing is backed up. After: an error is told.
        Fail = "fail",
        /// It is told, and nothing else.
        Ignore = "ignore",
    }
}

/// A command and when it is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::FromRow))]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// When.
    pub moment: HookMoment,
    /// The program and its arguments; no shell reads them.
    pub command: Vec<String>,
    /// How long it may take, in seconds.
    pub limit_secs: i32,
    /// What it means that it fails.
    pub on_failure: OnFailure,
}

/// A hook and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::FromRow))]
pub struct HookLine {
    /// The guest; none: the whole site. The next two are its names.
    pub guest_id: Option<Uuid>,
    /// Name of its host.
    pub host: Option<String>,
    /// Name of the guest.
    pub guest: Option<String>,
    /// The hook.
    #[cfg_attr(feature = "sqlx", sqlx(flatten))]
    #[serde(flatten)]
    pub hook: Hook,
}
