//! The work on files, done: in a process of its own, or on a thread where files always answer.

mod copy;
mod teller;

use std::path::Path;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use virtuozo_child_process::Line;
use virtuozo_hypervisor::open_image;
use virtuozo_repository::{CopyObserver, Recorded, Repository, RepositoryError, Stopped};

pub(crate) use self::copy::copy;
use self::teller::Teller;
use crate::{
    error::StepError,
    file_work::{Entered, Failure, FileWork, StopPlace},
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
        FileWork::ReadBack {
            root,
            sealed,
            stops,
        } => {
            let repository = in_repository(&root, line)?;
            line.phase(format!("reads from {}", root.display()));
            let at = match repository.locate(&sealed) {
                // The verification reports a bad manifest.
                Err(RepositoryError::Damaged { .. }) => sealed.partial_path.clone(),
                located => located?,
            };
            let recorded = Recorded {
                point_id: sealed.point_id,
                source: None,
                manifest_blake3: sealed.manifest_blake3,
            };
            let observer = Reading(Teller::new(line, stops));
            value(&repository.verify(&at, Some(&recorded), &observer)?)
        }
        FileWork::Publish { root, sealed } => value(&in_repository(&root, line)?.publish(&sealed)?),
        FileWork::Discard { root, sealed } => value(&in_repository(&root, line)?.discard(&sealed)?),
        FileWork::FindMissing {
            root,
            path,
            recorded,
        } => value(&in_repository(&root, line)?.missing(&path, &recorded)?),
        FileWork::MeasureSpace { root, id } => {
            Repository::recognise(&root, id, &[])?;
            value(&virtuozo_repository::space(&root)?)
        }
        FileWork::IsMounted {
            location,
            id,
            points,
        } => {
            let is_read = std::fs::read_dir(&location).is_ok();
            value(&(is_read && Repository::recognise(&location, id, &points).is_ok()))
        }
        FileWork::CheckHolds { root, path, id } => {
            in_repository(&root, line)?.check_holds(&path, id)?;
            value(&())
        }
        FileWork::Remove { root, path, id } => {
            value(&in_repository(&root, line)?.remove_point(&path, id)?)
        }
    }
}

fn in_repository(root: &Path, line: &Line) -> Result<Repository, StepError> {
    line.phase(format!("reads and writes in {}", root.display()));
    Ok(Repository::open(root)?)
}

/// Tells the progress of reading a restore point.
struct Reading<'a>(Teller<'a>);

impl CopyObserver for Reading<'_> {
    fn progress(&self, file: &str, done_bytes: u64, total_bytes: u64) {
        self.0.moved(file, done_bytes, total_bytes);
        if done_bytes > 0 {
            self.0.at(StopPlace::VerifyMiddle);
        }
    }

    fn wait_allowed(&self) -> Result<(), Stopped> {
        self.0.wait_allowed()
    }
}
