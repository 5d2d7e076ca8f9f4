//! The work on files, done: in a process of its own, or on a thread where files always answer.

mod copy;

use std::path::Path;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use virtuozo_child_process::Line;
use virtuozo_hypervisor::open_image;
use virtuozo_repository::Repository;

pub(crate) use self::copy::copy;
use crate::{
    error::StepError,
    file_work::{Entered, Failure, FileWork},
};

/// Does work by its request. Blocks.
pub fn serve_file_work(request: Value, line: &Line) -> Value {
    answer(FileWork::deserialize(request).map_or_else(
        |error| {
            Err(StepError::retry(format!(
                "work on files is of another version: {error}"
            )))
        },
        |work| perform(work, line),
    ))
}

/// What came of work as it is sent back.
pub(crate) fn answer(outcome: Result<Value, StepError>) -> Value {
    let outcome: Result<Value, Failure> = outcome.map_err(Failure::from);
    serde_json::to_value(outcome).unwrap_or_default()
}

pub(crate) fn value(answer: &impl Serialize) -> Result<Value, StepError> {
    serde_json::to_value(answer)
        .map_err(|error| StepError::permanent(format!("work on files cannot be told: {error}")))
}

fn perform(work: FileWork, line: &Line) -> Result<Value, StepError> {
    match work {
        FileWork::Enter {
            root,
            id,
            points,
            access,
            allowed,
        } => {
            line.phase(format!("reads and writes in {}", root.display()));
            let held = allowed.hold_place(&root).map_err(|error| {
                StepError::elsewhere(format!("cannot look at {}: {error}", root.display()))
            })?;
            if !held {
                return value(&Entered::NotAllowed);
            }
            let (_, id) = Repository::enter(root, id, &points, access)?;
            value(&Entered::Id(id))
        }
        FileWork::FindPartials { root, host, guest } => {
            let repository = in_repository(&root, line)?;
            let found = Mutex::new(Vec::new());
            repository.sweep_partials(&host, &guest, &|guest_run_id, _| {
                found.lock().push(guest_run_id);
                true
            })?;
            value(&found.into_inner())
        }
        FileWork::SweepPartials {
            root,
            host,
            guest,
            keep,
            needed_from,
        } => {
            let repository = in_repository(&root, line)?;
            // A guest run that this site does not know may belong to another site with the same directory.
            repository.sweep_partials(&host, &guest, &|id, fence| {
                id == keep || needed_from.get(&id).is_none_or(|&from| fence >= from)
            })?;
            value(&())
        }
        FileWork::Copy { image, order } => {
            line.phase(format!("reads from {}", image.label));
            value(&copy(open_image(&image)?, *order, line)?)
        }
        FileWork::IsThere { root, sealed } => {
            let repository = in_repository(&root, line)?;
            value(&repository.locate(&sealed).is_ok())
        }
    }
}

fn in_repository(root: &Path, line: &Line) -> Result<Repository, StepError> {
    line.phase(format!("reads and writes in {}", root.display()));
    Ok(Repository::open(root)?)
}
