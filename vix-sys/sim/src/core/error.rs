//! An operation of the simulator failed: the error code of the API and a sentence.

use std::{io, path::Path};

use virtuozo_disk::{DiskError, vmware::lock::LockError};
use vix_sys::{
    VIX_E_DISK_CID_MISMATCH, VIX_E_DISK_FULL, VIX_E_DISK_INVALIDDISK, VIX_E_DISK_NOTSUPPORTED,
    VIX_E_DISK_OUTOFRANGE, VIX_E_FILE_ACCESS_ERROR, VIX_E_FILE_ALREADY_LOCKED, VIX_E_FILE_ERROR,
    VIX_E_FILE_NOT_FOUND, VixError,
};

/// A failure with the code that the API answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (VIX error {code})")]
pub struct SimError {
    /// The code, as in the low 16 bits of a result.
    pub code: VixError,
    /// What happened and where.
    pub message: String,
}

pub(crate) type Result<T> = std::result::Result<T, SimError>;

impl SimError {
    pub(crate) fn new(code: VixError, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Makes a closure for `map_err` that names the file and the action.
    pub(crate) fn io<'a>(
        action: &'a str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |error| {
            Self::new(
                code_of(&error),
                format!("cannot {action} {}: {error}", path.display()),
            )
        }
    }
}

fn code_of(error: &io::Error) -> VixError {
    match error.kind() {
        io::ErrorKind::NotFound => VIX_E_FILE_NOT_FOUND,
        io::ErrorKind::PermissionDenied => VIX_E_FILE_ACCESS_ERROR,
        io::ErrorKind::StorageFull => VIX_E_DISK_FULL,
        _ => VIX_E_FILE_ERROR,
    }
}

impl From<DiskError> for SimError {
    fn from(error: DiskError) -> Self {
        let code = match &error {
            DiskError::Io { source, .. } => code_of(source),
            DiskError::Malformed { .. } => VIX_E_DISK_INVALIDDISK,
            DiskError::Unsupported { .. } => VIX_E_DISK_NOTSUPPORTED,
            DiskError::ContentId { .. } => VIX_E_DISK_CID_MISMATCH,
            DiskError::OutOfRange { .. } => VIX_E_DISK_OUTOFRANGE,
            _ => VIX_E_FILE_ERROR,
        };
        Self::new(code, error.to_string())
    }
}

impl From<LockError> for SimError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Disk(error) => error.into(),
            LockError::InUse { .. } => Self::new(VIX_E_FILE_ALREADY_LOCKED, error.to_string()),
        }
    }
}
