//! How this worker has files read and written: by processes of their own, which are given up when a file system is silent.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use virtuozo_child_process::{Event, FileError, FileProcesses, Running};

use crate::{
    error::StepError,
    file_work::{FILE_WORK, Failure, FileWork},
};

/// Begins work in which nothing may stand still for longer than `silence`. With `allowed`, it waits after that time until it
/// is allowed to go on.
///
/// # Errors
/// No process can be started for it.
pub(crate) fn begin(
    processes: &FileProcesses,
    work: &FileWork,
    silence: Duration,
    allowed: Option<Duration>,
) -> Result<Running, FileError> {
    processes.begin(FILE_WORK, work, silence, allowed)
}

/// Has work done that neither asks nor tells anything.
///
/// # Errors
/// The work's own, or it was given up.
pub(crate) async fn ask<A: DeserializeOwned>(
    processes: &FileProcesses,
    work: &FileWork,
    silence: Duration,
) -> Result<A, StepError> {
    let mut running = begin(processes, work, silence, None)?;
    loop {
        if let Event::Done(answer) = running.next().await? {
            return read(answer);
        }
    }
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
