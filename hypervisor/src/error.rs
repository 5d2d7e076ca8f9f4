//! The errors of hypervisors.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};
pub use virtuozo_model::ErrorClass;
use virtuozo_model::text;

/// An operation on a hypervisor failed. Crosses the border of the `vix-host` process, so it is data.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct HypervisorError {
    /// The kind of failure, for callers that handle some of them differently.
    pub kind: ErrorKind,
    /// Whether another attempt, another machine or an operator can help.
    pub class: ErrorClass,
    /// What happened, where, and what to do: a sentence for the administrator.
    pub message: String,
    /// The hypervisor's own error code, where it gave one (for VIX the low 16 bits).
    pub code: Option<u64>,
    /// The directory that this machine lacks, where the failure is that: one that a datastore is mapped to.
    pub location: Option<PathBuf>,
}

impl HypervisorError {
    /// An error without a code of the hypervisor's own. Names in the message may be a guest's own: it becomes one line.
    pub fn new(kind: ErrorKind, class: ErrorClass, message: impl AsRef<str>) -> Self {
        Self {
            kind,
            class,
            message: text::sentence(message.as_ref()),
            code: None,
            location: None,
        }
    }

    /// Whether everything on the connection to the host is lost, so that only a new connection helps.
    pub fn is_connection_lost(&self) -> bool {
        self.kind == ErrorKind::ConnectionLost
    }
}

/// The failures that callers distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The hypervisor's library is missing or unusable on this machine.
    LibraryMissing,
    /// The host does not answer or refuses connections.
    Unreachable,
    /// User name or password refused.
    Login,
    /// The connection (its process or the library) died or hung; everything on it is lost.
    ConnectionLost,
    /// A wait reached its limit.
    Timeout,
    /// The guest is not known to the host.
    GuestNotFound,
    /// The guest's configuration or a disk is missing, broken or of an unknown kind.
    GuestInvalid,
    /// A file of the guest is on a datastore that this machine cannot read: its mapping is missing.
    NotMapped,
    /// The file system with the guest's files, or with the host's lists, does not answer.
    FilesSilent,
    /// A file of the guest lies where this machine's own configuration does not let it be read.
    NotAllowed,
    /// The hypervisor cannot do this at all, or not for this guest.
    NotSupported,
    /// The guest is in the wrong power state.
    PowerState,
    /// The snapshot does not exist.
    SnapshotNotFound,
    /// Anything else; see the message and the code.
    Other,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LibraryMissing => "library_missing",
            Self::Unreachable => "unreachable",
            Self::Login => "login",
            Self::ConnectionLost => "connection_lost",
            Self::Timeout => "timeout",
            Self::GuestNotFound => "guest_not_found",
            Self::GuestInvalid => "guest_invalid",
            Self::NotMapped => "not_mapped",
            Self::FilesSilent => "files_silent",
            Self::NotAllowed => "not_allowed",
            Self::NotSupported => "not_supported",
            Self::PowerState => "power_state",
            Self::SnapshotNotFound => "snapshot_not_found",
            Self::Other => "other",
        })
    }
}
