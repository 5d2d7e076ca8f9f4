//! Places where a test can disturb a worker: make it stand still, let it fail, have a step done twice.
//!
//! Each disturbance happens once in a process, the first time the worker comes to the place:
//!
//! * `VIRTUOZO_HOLD_AT=PLACE` with `VIRTUOZO_HOLD_FILE=/path`: it writes the file and stands still until
//!   the file is gone. To die here, it is killed; to be late, it is frozen with SIGSTOP meanwhile.
//! * `VIRTUOZO_FAIL_AT=PLACE`: an error that another attempt may find healed.
//! * `VIRTUOZO_REPEAT=STEP`: the step is carried out twice in a row.
//!
//! The places of a step are `STEP.before` (nothing has been done), `STEP.effect` (done, not recorded) and
//! `STEP.recorded`. `snapshot.change`, `power_off.change`, `undo.change` (in `commit` and `power_on`) and
//! `publish.change` lie between the last look at the lease and the change itself, where a delay hurts most;
//! `copy.middle` lies after the first bytes of a copy, `copy.durable` after the first checkpoint, with at
//! least half of a file still to be copied.

use std::{
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::error::StepError;

/// How often a worker that stands still looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Something that happens once, where a variable of the environment says.
struct Once {
    place: Option<String>,
    happened: AtomicBool,
}

impl Once {
    fn asked_for_by(variable: &str) -> Self {
        Self {
            place: std::env::var(variable).ok(),
            happened: AtomicBool::new(false),
        }
    }

    fn happens(&self, place: &str) -> bool {
        self.place.as_deref() == Some(place) && !self.happened.swap(true, Ordering::Relaxed)
    }
}

static HOLD: LazyLock<Once> = LazyLock::new(|| Once::asked_for_by("VIRTUOZO_HOLD_AT"));
static HOLD_FILE: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| std::env::var_os("VIRTUOZO_HOLD_FILE").map(PathBuf::from));
static FAIL: LazyLock<Once> = LazyLock::new(|| Once::asked_for_by("VIRTUOZO_FAIL_AT"));
static REPEAT: LazyLock<Once> = LazyLock::new(|| Once::asked_for_by("VIRTUOZO_REPEAT"));

/// The file whose end is to be waited for, if the process is to stand still here.
fn held(place: &str) -> Option<&'static Path> {
    if !HOLD.happens(place) {
        return None;
    }
    let file = HOLD_FILE.as_deref()?;
    tracing::warn!(place, "held, as VIRTUOZO_HOLD_AT asks for");
    if let Err(error) = std::fs::write(file, place) {
        tracing::error!(file = %file.display(), %error, "VIRTUOZO_HOLD_FILE cannot be written");
    }
    Some(file)
}

/// Stands still or fails if this is the place.
///
/// # Errors
/// The one that `VIRTUOZO_FAIL_AT` asks for.
pub(crate) async fn at(place: &str) -> Result<(), StepError> {
    if let Some(file) = held(place) {
        while file.exists() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    if FAIL.happens(place) {
        tracing::warn!(place, "fails, as VIRTUOZO_FAIL_AT asks for");
        return Err(StepError::retry(format!("it was made to fail at {place}")));
    }
    Ok(())
}

/// Stands still, on a thread of its own, if this is the place.
pub(crate) fn at_blocking(place: &str) {
    if let Some(file) = held(place) {
        while file.exists() {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Waits for another thread to come to this place, if somebody is to stand still there.
pub(crate) fn not_past(place: &str) {
    while HOLD.place.as_deref() == Some(place) && !HOLD.happened.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Whether this step is to be carried out once more.
pub(crate) fn repeats(step: &str) -> bool {
    let repeats = REPEAT.happens(step);
    if repeats {
        tracing::warn!(step, "done twice, as VIRTUOZO_REPEAT asks for");
    }
    repeats
}
