//! Executes the plan of a guest run, and records each step before the next begins.

mod commit;
mod copy;
mod file_job;
mod guest_run;
mod hooks;
mod late_change;
mod outputs;
mod permission;
mod power_off;
mod power_on;
mod publish;
mod snapshot;
mod snapshot_obligation;
mod validate;
pub(crate) mod verify;

use std::time::Duration;

use opentelemetry::trace::FutureExt;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use virtuozo_model::StepName;
use virtuozo_store::{
    guest_runs,
    inventory::GuestObservation,
    points::Published,
    steps::{self, DoneStep, NextStep},
};
use virtuozo_telemetry::metrics::Outcome;

use self::outputs::Outputs;
pub(crate) use self::{
    guest_run::GuestRun,
    outputs::{Frozen, Validated, Verified},
};
use crate::{
    error::{StepError, Stop, check},
    failpoints::Place,
    file_work::FileWork,
    plan::{Output, Plan, PlannedStep},
};

/// A failed attempt.
#[derive(Debug)]
pub(crate) struct FailedAttempt {
    /// The step; `None` if it failed before the first.
    pub(crate) step: Option<&'static PlannedStep>,
    pub(crate) error: StepError,
}

/// The result of a step, by the way it is recorded.
enum StepResult {
    /// Recorded together with the observation of the guest by `validate`.
    Validated(Value, GuestObservation),
    /// Recorded with the obligations that are met and the progress of the copy.
    Done(DoneStep),
    /// Recorded by the statement that ends the guest run; has what follows from that.
    Published(Published),
}

impl StepResult {
    fn of(step: StepName, output: &impl Serialize) -> Result<Self, StepError> {
        Ok(Self::Done(DoneStep {
            output: value(step, output)?,
            ..DoneStep::default()
        }))
    }
}

fn value(step: StepName, output: &impl Serialize) -> Result<Value, StepError> {
    serde_json::to_value(output).map_err(|error| {
        StepError::permanent(format!(
            "the output of step {step} cannot be stored: {error}"
        ))
    })
}

impl GuestRun {
    /// Executes the plan from the first step that no earlier owner of this attempt has done. Returns all restore points of
    /// the guest.
    ///
    /// # Errors
    /// The error and the step that it happened in.
    pub(crate) async fn attempt(&self) -> Result<Published, FailedAttempt> {
        let resuming = self.resume().with_context(self.trace.whole());
        let mut outputs = resuming
            .await
            .map_err(|error| FailedAttempt { step: None, error })?;
        // The record of a step also records the begin of the next; taking the lease records that of the first.
        let mut begun = self.row.attempt_fence == self.row.fence;
        let mut published = Published::default();
        while let Some(step) = outputs.next() {
            let began = Instant::now();
            let performed = self.perform(step, &mut outputs, begun).await;
            let metrics = &self.context.telemetry.metrics;
            metrics.step_ended(step.name.as_str(), outcome(&performed), began.elapsed());
            published = performed.map_err(|error| FailedAttempt {
                step: Some(step),
                error,
            })?;
            begun = true;
        }
        Ok(published)
    }

    /// The outputs of earlier steps of this attempt, if they are still valid. Otherwise the attempt starts again.
    async fn resume(&self) -> Result<Outputs, StepError> {
        if self.row.attempt_fence == self.row.fence {
            return Ok(Outputs::default());
        }
        let recorded = self
            .context
            .while_unavailable("what an earlier worker has done", || {
                steps::done_in_attempt(&self.context.pool, &self.row)
            })
            .await?;
        let outputs = Outputs::recorded(recorded);
        if self.still_true(&outputs).await? {
            tracing::info!(
                guest = self.guest.full_name(),
                "guest run resumes where an earlier worker stopped"
            );
            return Ok(outputs);
        }
        let fence = self
            .context
            .while_unavailable("a fresh start", || {
                guest_runs::restart(&self.context.pool, &self.row)
            })
            .await?;
        check(fence)?;
        Ok(Outputs::default())
    }

    /// Whether the snapshot or the copy of earlier steps still exists. Outputs that cannot be parsed are from another
    /// version.
    async fn still_true(&self, outputs: &Outputs) -> Result<bool, StepError> {
        let (Ok(validated), Ok(frozen)) = (outputs.validated(), outputs.frozen()) else {
            return Ok(false);
        };
        if outputs.has(Output::Sealed) {
            let Ok(sealed) = outputs.sealed() else {
                return Ok(false);
            };
            let root = validated.destination;
            let looking = async {
                self.enter(&root).await?;
                let root = root.clone();
                self.ask(&FileWork::IsThere { root, sealed }).await
            };
            return self.unless_stopped(looking).await;
        }
        let guest = self.open().await?;
        Ok(match &frozen.snapshot {
            Some(name) => guest.snapshots().await?.contains(name),
            None => guest.power_state().await? == frozen.power,
        })
    }

    /// Executes a step and records it. Returns the restore points of the guest after `publish`.
    async fn perform(
        &self,
        planned: &'static PlannedStep,
        outputs: &mut Outputs,
        begun: bool,
    ) -> Result<Published, StepError> {
        self.lease.allowed().await?;
        if Plan::of(outputs.mode()).is_handed_over(planned) && self.context.drain.is_cancelled() {
            return Err(Stop::Draining.into());
        }
        let step = planned.name;
        let pool = &self.context.pool;
        if !begun {
            let mode = outputs.mode().map(|mode| mode.as_str());
            let begin = || steps::begin(pool, &self.row, step, mode);
            check(
                self.context
                    .while_unavailable("a step's begin", begin)
                    .await?,
            )?;
        }
        self.context.failpoints.at(Place::Before(step)).await?;
        tracing::info!(guest = self.guest.full_name(), %step, "step begins");
        let carrying_out = async {
            let result = self.carry_out(step, outputs).await?;
            if self.context.failpoints.repeats(step) {
                return self.carry_out(step, outputs).await;
            }
            Ok(result)
        };
        let result = carrying_out.with_context(self.trace.step(step)).await?;
        match result {
            StepResult::Published(published) => {
                outputs.keep(planned.output, Value::Null);
                return Ok(published);
            }
            StepResult::Validated(output, seen) => {
                self.context.failpoints.at(Place::Effect(step)).await?;
                outputs.keep(planned.output, output.clone());
                let follows = following(outputs);
                self.record_validated(&output, follows, &seen).await?;
            }
            StepResult::Done(done) => {
                self.context.failpoints.at(Place::Effect(step)).await?;
                outputs.keep(planned.output, done.output.clone());
                let follows = following(outputs);
                let recording = || steps::done(pool, &self.row, step, &done, follows);
                check(
                    self.context
                        .while_unavailable("a step's output", recording)
                        .await?,
                )?;
                self.change_is_recorded().await;
            }
        }
        self.context.failpoints.at(Place::Recorded(step)).await?;
        Ok(Published::default())
    }

    /// Executes a step.
    async fn carry_out(&self, step: StepName, before: &Outputs) -> Result<StepResult, StepError> {
        match step {
            StepName::Validate => {
                hooks::expect_after(self).await?;
                let (validated, seen) = validate::run(self).await?;
                if let Err(error) = hooks::before(self, validated.mode).await {
                    validate::note(self, &seen).await?;
                    return Err(error);
                }
                Ok(StepResult::Validated(value(step, &validated)?, seen))
            }
            StepName::Snapshot => {
                StepResult::of(step, &snapshot::run(self, &before.validated()?).await?)
            }
            StepName::PowerOff => {
                StepResult::of(step, &power_off::run(self, &before.validated()?).await?)
            }
            StepName::Copy => {
                let (validated, frozen) = (before.validated()?, before.frozen()?);
                let (sealed, progress) = copy::run(self, &validated, &frozen).await?;
                Ok(StepResult::Done(DoneStep {
                    output: value(step, &sealed)?,
                    progress,
                    met: Vec::new(),
                }))
            }
            StepName::Commit => Ok(StepResult::Done(DoneStep {
                met: commit::run(self).await?,
                ..DoneStep::default()
            })),
            StepName::PowerOn => Ok(StepResult::Done(DoneStep {
                met: power_on::run(self).await?,
                ..DoneStep::default()
            })),
            StepName::Verify => {
                let (validated, sealed) = (before.validated()?, before.sealed()?);
                StepResult::of(step, &verify::run(self, &validated, &sealed).await?)
            }
            StepName::Publish => Ok(StepResult::Published(publish::run(self, before).await?)),
        }
    }
}

/// The step whose begin is recorded with the end of the one before.
fn following(outputs: &Outputs) -> Option<NextStep> {
    Some(NextStep {
        step: outputs.next()?.name,
        mode: outputs.mode()?.as_str(),
    })
}

/// The outcome of a step, for metrics.
fn outcome<T>(performed: &Result<T, StepError>) -> Outcome {
    match performed {
        Ok(_) => Outcome::Succeeded,
        Err(StepError::Stop(Stop::Cancelled)) => Outcome::Cancelled,
        Err(StepError::Stop(_)) => Outcome::HandedOver,
        Err(_) => Outcome::Failed,
    }
}

/// A setting in seconds.
pub(crate) fn secs(value: i32) -> Duration {
    Duration::from_secs(u64::try_from(value).unwrap_or_default())
}
