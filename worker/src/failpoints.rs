//! Failpoints: places in a guest run at which tests and proofs can pause a worker or make it fail. The program `virtuozo`
//! has none; `virtuozo-failpoints` takes them from its environment.

use std::{fmt::Debug, path::PathBuf, sync::Arc};

use virtuozo_model::StepName;
use virtuozo_runtime::LIMITS;

/// A place in a guest run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The step's begin is recorded, and nothing of it is done.
    Before(StepName),
    /// Between the last check of the lease and the change that the step makes; in `snapshot`, `power_off` and `publish`.
    Change(StepName),
    /// The step is done, and its end is not recorded yet.
    Effect(StepName),
    /// The step's end is recorded.
    Recorded(StepName),
    /// Between the last check of the lease and the change that meets an obligation; in `commit` and `power_on`.
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
    /// It pauses while this file exists.
    Pause(PathBuf),
    /// It fails with this message, and may be retried.
    Fail(String),
}

/// The failpoints of a worker. The default methods do nothing.
pub trait Failpoints: Debug + Send + Sync {
    /// What happens to a worker that reaches this place now.
    fn at(&self, _place: Place) -> Disturbance {
        Disturbance::None
    }

    /// Whether a worker is to pause at this place and has not reached it yet.
    fn is_ahead(&self, _place: Place) -> bool {
        false
    }

    /// Whether the step that was just done is to be done once more.
    fn repeats(&self, _step: StepName) -> bool {
        false
    }
}

/// No failpoints.
#[derive(Debug, Clone, Copy)]
pub struct NoFailpoints;

impl Failpoints for NoFailpoints {}

/// The failure that a failpoint injected.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) String);

/// The failpoints as the steps call them.
#[derive(Debug, Clone)]
pub(crate) struct ActiveFailpoints(pub(crate) Arc<dyn Failpoints>);

impl ActiveFailpoints {
    /// Pauses at this place, if that is set.
    ///
    /// # Errors
    /// The failure that is set for this place.
    pub(crate) async fn at(&self, place: Place) -> Result<(), Failed> {
        match self.0.at(place) {
            Disturbance::None => Ok(()),
            Disturbance::Pause(file) => {
                while file.exists() {
                    tokio::time::sleep(LIMITS.worker.failpoint_look_every).await;
                }
                Ok(())
            }
            Disturbance::Fail(message) => Err(Failed(message)),
        }
    }

    /// Whether a worker is to pause at this place and has not reached it yet.
    pub(crate) fn is_ahead(&self, place: Place) -> bool {
        self.0.is_ahead(place)
    }

    /// Whether this step is to be done once more.
    pub(crate) fn repeats(&self, step: StepName) -> bool {
        self.0.repeats(step)
    }
}
