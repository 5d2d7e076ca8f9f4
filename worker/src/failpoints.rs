//! Failpoints: places in a guest run where whoever starts a worker can disturb it. `virtuozo` has none; the
//! program `virtuozo-failpoints` takes them from its environment, for tests and proofs.

use std::{fmt::Debug, path::PathBuf, sync::Arc, time::Duration};

use virtuozo_model::StepName;

/// How often a worker that pauses looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A place in a guest run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The step is recorded as begun, and nothing of it has been done.
    Before(StepName),
    /// Between the last look at the lease and the change that the step makes: `snapshot`, `power_off` and
    /// `publish` have such a place.
    Change(StepName),
    /// The step has been carried out, and that is not recorded yet.
    Effect(StepName),
    /// The step's end is recorded.
    Recorded(StepName),
    /// Between the last look at the lease and the change that meets an obligation, in `commit` and `power_on`.
    UndoChange,
    /// After the first bytes of a copy.
    CopyMiddle,
    /// After the first bytes of a verification.
    VerifyMiddle,
    /// After the first checkpoint of a copy, with at least half of a file still to be copied.
    CopyDurable,
}

/// What happens to a worker at a place.
#[derive(Debug)]
pub enum Disturbance {
    /// Nothing.
    None,
    /// It pauses as long as this file is there.
    Pause(PathBuf),
    /// An error with this message, which another attempt may find healed.
    Fail(String),
}

/// What disturbs a worker. Nothing does, unless a method says otherwise.
pub trait Failpoints: Debug + Send + Sync {
    /// What happens to the worker that comes to this place now.
    fn at(&self, _place: Place) -> Disturbance {
        Disturbance::None
    }

    /// Whether a worker is to pause at this place and none has come there yet.
    fn is_ahead(&self, _place: Place) -> bool {
        false
    }

    /// Whether the step that has just been carried out is to be carried out once more.
    fn repeats(&self, _step: StepName) -> bool {
        false
    }
}

/// No failpoints.
#[derive(Debug, Clone, Copy)]
pub struct NoFailpoints;

impl Failpoints for NoFailpoints {}

/// What a failpoint let happen.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) String);

/// The failpoints of a worker, as the steps ask them.
#[derive(Debug, Clone)]
pub(crate) struct Hooks(pub(crate) Arc<dyn Failpoints>);

impl Hooks {
    /// Pauses or fails if that is to happen at this place.
    ///
    /// # Errors
    /// The one that is to happen.
    pub(crate) async fn at(&self, place: Place) -> Result<(), Failed> {
        match self.0.at(place) {
            Disturbance::None => Ok(()),
            Disturbance::Pause(file) => {
                while file.exists() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Ok(())
            }
            Disturbance::Fail(message) => Err(Failed(message)),
        }
    }

    /// Pauses the thread if that is to happen at this place, where nothing can fail.
    pub(crate) fn at_blocking(&self, place: Place) {
        if let Disturbance::Pause(file) = self.0.at(place) {
            while file.exists() {
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }

    /// Waits for another thread to come to this place, if it is to pause there.
    pub(crate) fn not_past(&self, place: Place) {
        while self.0.is_ahead(place) {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Whether this step is to be carried out once more.
    pub(crate) fn repeats(&self, step: StepName) -> bool {
        self.0.repeats(step)
    }
}
