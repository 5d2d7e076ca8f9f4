//! The steps of a guest run, by name.

use std::fmt;

/// A named part of a guest run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StepName {
    /// Find out what the guest is, decide the mode, clear what an earlier failure left.
    Validate,
    /// Freeze the disks of a running guest.
    Snapshot,
    /// Bring the guest down.
    PowerOff,
    /// Copy the disks into the repository, under a temporary name.
    Copy,
    /// Remove our snapshot.
    Commit,
    /// Bring the guest back.
    PowerOn,
    /// Read the copy back and hold it against its hashes.
    Verify,
    /// Make the restore point visible.
    Publish,
}

impl StepName {
    /// What every attempt begins with.
    pub const FIRST: Self = Self::Validate;

    /// The step of that name; none if this version knows no such step.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Validate,
            Self::Snapshot,
            Self::PowerOff,
            Self::Copy,
            Self::Commit,
            Self::PowerOn,
            Self::Verify,
            Self::Publish,
        ]
        .into_iter()
        .find(|step| step.as_str() == name)
    }

    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Snapshot => "snapshot",
            Self::PowerOff => "power_off",
            Self::Copy => "copy",
            Self::Commit => "commit",
            Self::PowerOn => "power_on",
            Self::Verify => "verify",
            Self::Publish => "publish",
        }
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
