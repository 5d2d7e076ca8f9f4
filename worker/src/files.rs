//! How this worker has files read and written: by processes of their own, which are given up when a file system is silent.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use virtuozo_child_process::{FileError, FileProcesses};

use crate::{
    error::StepError,
    file_work::{FILE_WORK, Failure, FileWork},
};

/// Has work done that neither asks nor tells anything. In it nothing may stand still for longer than `silence`.
///
/// # Errors
/// The work's own, or it was given up.
pub(crate) async fn ask<A: DeserializeOwned>(
    processes: &FileProcesses,
    silence: Duration,
    work: &FileWork,
) -> Result<A, StepError> {
    let answer: Value = processes.call(FILE_WORK, work, silence).await?;
    read(answer)
}

/// The answer of work.
///
/// # Errors
/// The work's own.
pub(crate) fn read<A: DeserializeOwned>(answer: Value) -> Result<A, StepError> {
    let not_understood = |error: serde_json::Error| FileError::NotUnderstood {
        why: error.to_string(),
    };
    let outcome: Result<Value, Failure> = serde_json::from_value(answer).map_err(not_understood)?;
    Ok(serde_json::from_value(outcome?).map_err(not_understood)?)
}
