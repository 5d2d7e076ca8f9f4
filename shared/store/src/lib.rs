//! All SQL, by topic: a file of Rust, and beside it a folder of the same name with its statements, one in each file.
//! One-liners stand in the Rust.
//!
//! Whatever asks the database fails with [`StoreError`] where the database does or does not answer in time. `# Errors`
//! names what a function fails with besides.

pub mod admission;
pub mod caps;
pub mod catalogue;
pub mod circuit_breakers;
pub mod datastores;
pub mod disks;
pub mod events;
pub mod file_waits;
pub mod gauges;
pub mod guest_runs;
pub mod guests;
pub mod hooks;
pub mod host_runs;
pub mod hosts;
pub mod inventory;
pub mod leadership;
pub mod leases;
pub mod notices;
pub mod obligations;
pub mod operators;
pub mod points;
pub mod repositories;
pub mod requests;
mod run_end;
pub mod runs;
pub mod schedules;
pub mod settings;
mod slots;
pub mod space;
pub mod steps;
pub mod sweeps;
pub mod traces;
pub mod views;
pub mod wakeup;
pub mod workers;

use std::path::{Path, PathBuf};

use sqlx::PgConnection;
use uuid::Uuid;

use virtuozo_postgres::StoreError;

/// The longest name that makes sense in a table or a path.
const NAME_CHARS_MAX: usize = 100;

/// Refuses names that cannot be shown or typed.
fn check_name(what: &str, name: &str) -> Result<(), StoreError> {
    let why = if name.trim().is_empty() {
        "is empty"
    } else if name.trim() != name {
        "begins or ends with a space"
    } else if name.chars().any(char::is_control) {
        "holds a control character"
    } else if name.chars().count() > NAME_CHARS_MAX {
        "has more than 100 characters"
    } else {
        return Ok(());
    };
    Err(StoreError::Refused(format!("the name of a {what} {why}")))
}

/// Refuses directories that would mean something else to each process.
fn check_directory(path: &str) -> Result<(), StoreError> {
    if path.starts_with('/') && !path.chars().any(char::is_control) {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "{path:?} is not an absolute path: give the directory as workers see it, for example /srv/backup"
    )))
}

/// The spelling in which the database has a directory, as far as its text tells: without slashes at the end, double
/// ones and dots.
pub fn plain_directory(path: &str) -> String {
    let plain: PathBuf = Path::new(path).components().collect();
    plain.to_string_lossy().into_owned()
}

/// A UNIQUE constraint in the way of a name, in words.
fn exists(error: sqlx::Error, what: &'static str, name: &str) -> StoreError {
    let error = StoreError::from(error);
    if error.is_duplicate() {
        StoreError::Exists {
            what,
            name: name.to_owned(),
        }
    } else {
        error
    }
}

/// Refuses to remove what runs, obligations or schedules still need; `sql` counts them.
async fn refuse_if_in_use(
    conn: &mut PgConnection,
    sql: &'static str,
    id: Uuid,
    name: &str,
) -> Result<(), StoreError> {
    let (open_runs, obligations, schedules): (i64, i64, Vec<String>) =
        sqlx::query_as(sql).bind(id).fetch_one(conn).await?;
    let why = if open_runs > 0 {
        "a run works on it: wait for its end, or cancel it with `virtuozo run cancel`".to_owned()
    } else if obligations > 0 {
        "something on it is still to be undone (a snapshot to remove, a guest to power on): \
         `virtuozo obligation list` says what; where that can never be, give it up with \
         `virtuozo obligation forgive`"
            .to_owned()
    } else if !schedules.is_empty() {
        format!(
            "it is all that is backed up by the schedule {}, which would then mean the whole site: \
             edit or remove that first",
            schedules.join(", ")
        )
    } else {
        return Ok(());
    };
    Err(StoreError::Refused(format!(
        "{name} cannot be removed: {why}"
    )))
}

#[cfg(test)]
mod exactly_once;
#[cfg(test)]
mod state_machine;
#[cfg(test)]
mod tests;
