//! The steps of a guest run and the one table that says how they follow each other.

mod copy;
mod late;
mod owed;
mod power_off;
mod publish;
mod snapshot;
mod validate;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use opentelemetry::trace::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};
use virtuozo_hypervisor::{Guest, Host, PowerState};
use virtuozo_model as model;
use virtuozo_model::StepName;
use virtuozo_repository::{PointMode, SealedPoint};
use virtuozo_store::{
    events::NewEvent,
    guest_runs::{self, Brief, GuestLease},
    inventory::GuestObservation,
    leases::Fence,
    points::GuestPoint,
    steps::{self, Done},
};
use virtuozo_telemetry::metrics::{self, Outcome};

use self::{late::Unrecorded, owed::Owed};
use crate::{
    connections::Seat,
    context::Context,
    error::{StepError, Stop},
    failpoints::Place,
    hooks,
    lease::Lease,
    patience::patiently,
    trace::GuestTrace,
    undo,
};

/// What the table says about a step.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: StepName,
    hot: bool,
    cold: bool,
    /// A worker that stops gives the run up here. Where false, the copy is complete and the rest is short.
    gives_way: bool,
    /// After a failure of this step the next attempt goes on with it, instead of beginning afresh and
    /// undoing first: what was copied is still good.
    pub(crate) resumes: bool,
}

const fn spec(name: StepName, hot: bool, cold: bool, copied: bool) -> Spec {
    Spec {
        name,
        hot,
        cold,
        gives_way: !copied,
        resumes: copied,
    }
}

/// The plans: hot and cold, in this order.
const TABLE: [Spec; 7] = [
    //                         hot    cold   the copy is complete
    spec(StepName::Validate, true, true, false),
    spec(StepName::Snapshot, true, false, false),
    spec(StepName::PowerOff, false, true, false),
    spec(StepName::Copy, true, true, false),
    spec(StepName::Commit, true, false, true),
    spec(StepName::PowerOn, false, true, true),
    spec(StepName::Publish, true, true, true),
];

/// What `validate` finds out and decides.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Validated {
    /// The plan.
    pub(crate) mode: PointMode,
    /// Display name.
    pub(crate) guest_name: String,
    /// Power the guest on again after it was shut down for the backup.
    pub(crate) resume_power: bool,
    /// Where restore points go.
    pub(crate) destination: PathBuf,
    /// Devices that are left out.
    pub(crate) ignored_disks: Vec<String>,
}

/// What `snapshot` and `power_off` leave: disks that do not change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Frozen {
    /// The instant they hold.
    pub(crate) taken_at: DateTime<Utc>,
    /// Our snapshot; none for a guest that is off.
    pub(crate) snapshot: Option<String>,
    /// The power state in which they stay as they are.
    pub(crate) power: PowerState,
}

/// What the steps so far have found out and made.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    validated: Option<Validated>,
    frozen: Option<Frozen>,
    sealed: Option<SealedPoint>,
    /// The guest is as it was before.
    brought_back: bool,
    /// All restore points of the guest, since the new one is published.
    points: Option<Vec<GuestPoint>>,
}

impl Outputs {
    /// None if one cannot be read: it was written by another version.
    fn read(recorded: &HashMap<String, Value>) -> Option<Self> {
        fn get<T: serde::de::DeserializeOwned>(
            recorded: &HashMap<String, Value>,
            step: StepName,
        ) -> Option<Option<T>> {
            match recorded.get(step.as_str()) {
                None => Some(None),
                Some(value) => serde_json::from_value(value.clone()).ok().map(Some),
            }
        }
        let has = |step: StepName| recorded.contains_key(step.as_str());
        Some(Self {
            validated: get(recorded, StepName::Validate)?,
            frozen: get(recorded, StepName::Snapshot)?.or(get(recorded, StepName::PowerOff)?),
            sealed: get(recorded, StepName::Copy)?,
            brought_back: has(StepName::Commit) || has(StepName::PowerOn),
            points: None,
        })
    }

    fn has(&self, step: StepName) -> bool {
        match step {
            StepName::Validate => self.validated.is_some(),
            StepName::Snapshot | StepName::PowerOff => self.frozen.is_some(),
            StepName::Copy => self.sealed.is_some(),
            StepName::Commit | StepName::PowerOn => self.brought_back,
            StepName::Publish => self.points.is_some(),
        }
    }

    /// The first step of the plan that is not done.
    fn next(&self) -> Option<&'static Spec> {
        let plan = self.validated.as_ref().map(|v| v.mode);
        TABLE.iter().find(|spec| {
            let planned = match plan {
                None => true,
                Some(PointMode::Hot) => spec.hot,
                Some(PointMode::Cold) => spec.cold,
            };
            planned && !self.has(spec.name)
        })
    }

    fn validated(&self) -> Result<&Validated, StepError> {
        self.validated
            .as_ref()
            .ok_or_else(|| missing(StepName::Validate))
    }

    fn frozen(&self) -> Result<&Frozen, StepError> {
        self.frozen
            .as_ref()
            .ok_or_else(|| missing(StepName::Snapshot))
    }

    fn sealed(&self) -> Result<&SealedPoint, StepError> {
        self.sealed.as_ref().ok_or_else(|| missing(StepName::Copy))
    }
}

fn missing(step: StepName) -> StepError {
    StepError::retry(format!("the output of step {step} is missing"))
}

/// What a step leaves to be recorded.
enum Left {
    /// The output of `validate`, and what it has seen of the guest.
    Validated(Value, GuestObservation),
    Done(Done),
}

/// A guest run in work.
pub(crate) struct GuestRun {
    pub(crate) context: Arc<Context>,
    /// What the lease says.
    pub(crate) row: GuestLease,
    /// Whether it holds.
    pub(crate) lease: Lease,
    /// The site's settings, as they were when the attempt began.
    pub(crate) settings: model::Settings,
    /// The guest's configuration, as it was when the attempt began.
    pub(crate) guest: model::Guest,
    ignored_disks: Vec<String>,
    /// Something may have to be undone on the guest before anything else. What comes later comes from workers
    /// that act too late, and stays until it is met.
    is_owed: bool,
    owed: Owed,
    unrecorded: Unrecorded,
    seat: Seat,
    opened: Mutex<Option<Opened>>,
    /// Where its spans hang.
    pub(crate) trace: GuestTrace,
}

#[derive(Clone)]
struct Opened {
    host: Arc<dyn Host>,
    guest: Arc<dyn Guest>,
}

impl GuestRun {
    pub(crate) fn new(
        context: Arc<Context>,
        row: GuestLease,
        lease: Lease,
        brief: Brief,
        seat: Seat,
    ) -> Self {
        Self {
            trace: GuestTrace::begin(&row),
            context,
            row,
            lease,
            settings: brief.settings,
            guest: brief.guest,
            ignored_disks: brief.ignored_disks,
            is_owed: brief.is_owed,
            owed: Owed::default(),
            unrecorded: Unrecorded::default(),
            seat,
            opened: Mutex::default(),
        }
    }

    /// The guest on its host.
    pub(crate) async fn open(&self) -> Result<Arc<dyn Guest>, StepError> {
        Ok(self.opened().await?.guest)
    }

    async fn opened(&self) -> Result<Opened, StepError> {
        let mut opened = self.opened.lock().await;
        if let Some(opened) = opened.as_ref() {
            return Ok(opened.clone());
        }
        let (host, guest) = self.seat.guest(&self.guest.vmx_path).await?;
        Ok(opened.insert(Opened { host, guest }).clone())
    }

    /// Forgets a connection that broke, so that the next use makes a new one.
    pub(crate) async fn reconnect(&self) {
        if let Some(opened) = self.opened.lock().await.take() {
            self.seat.discard(&opened.host).await;
        }
    }

    /// An event about this guest run.
    pub(crate) fn about(&self, event: NewEvent) -> NewEvent {
        event
            .run(self.row.run_id)
            .host(self.row.host_id)
            .guest(self.row.guest_id)
            .guest_run(self.row.guest_run_id)
    }

    pub(crate) fn snapshot_limit(&self) -> Duration {
        secs(self.settings.snapshot_limit_secs)
    }

    /// Goes through the plan, after the steps that an earlier owner of this attempt has done. Returns all restore
    /// points of the guest.
    ///
    /// # Errors
    /// What went wrong, and in which step.
    pub(crate) async fn attempt(
        &self,
    ) -> Result<Vec<GuestPoint>, (Option<&'static Spec>, StepError)> {
        let resuming = self.resume().with_context(self.trace.whole());
        let mut outputs = resuming.await.map_err(|error| (None, error))?;
        // The record of a step also says that the next one begins, and the taking of the lease that the first does.
        let mut begun = self.row.attempt_fence == self.row.fence;
        while let Some(spec) = outputs.next() {
            let began = Instant::now();
            let done = self.perform(spec, &mut outputs, begun).await;
            metrics::step_ended(spec.name.as_str(), outcome(&done), began.elapsed());
            done.map_err(|error| (Some(spec), error))?;
            begun = true;
        }
        Ok(outputs.points.unwrap_or_default())
    }

    /// What is done already and still true. The steps after it are begun anew.
    async fn resume(&self) -> Result<Outputs, StepError> {
        if self.row.attempt_fence == self.row.fence {
            return Ok(Outputs::default());
        }
        let recorded = patiently("what an earlier worker has done", || {
            steps::done_in_attempt(&self.context.pool, &self.row)
        })
        .await?;
        if let Some(outputs) = Outputs::read(&recorded)
            && self.still_true(&outputs).await?
        {
            tracing::info!(
                guest = self.guest.full_name(),
                "goes on where an earlier worker stopped"
            );
            return Ok(outputs);
        }
        let fence = patiently("a fresh start", || {
            guest_runs::restart(&self.context.pool, &self.row)
        })
        .await?;
        check(fence)?;
        Ok(Outputs::default())
    }

    async fn still_true(&self, outputs: &Outputs) -> Result<bool, StepError> {
        let (Some(validated), Some(frozen)) = (&outputs.validated, &outputs.frozen) else {
            return Ok(false);
        };
        if let Some(sealed) = outputs.sealed.clone() {
            let repositories = &self.context.repositories;
            let repository = repositories.open(&self.context.pool, &validated.destination);
            let repository = repository.await?;
            return blocking(move || Ok(repository.locate(&sealed).is_ok())).await;
        }
        let guest = self.open().await?;
        Ok(match &frozen.snapshot {
            Some(name) => guest.snapshots().await?.contains(name),
            None => guest.power_state().await? == frozen.power,
        })
    }

    async fn perform(
        &self,
        spec: &Spec,
        outputs: &mut Outputs,
        begun: bool,
    ) -> Result<(), StepError> {
        self.lease.allowed().await?;
        if spec.gives_way && self.context.drain.is_cancelled() {
            return Err(Stop::Draining.into());
        }
        let step = spec.name;
        let pool = &self.context.pool;
        if !begun {
            let mode = outputs.validated.as_ref().map(|v| v.mode.as_str());
            let begin = || steps::begin(pool, &self.row, step, mode);
            check(patiently("a step's begin", begin).await?)?;
        }
        self.context.failpoints.at(Place::Before(step)).await?;
        tracing::info!(guest = self.guest.full_name(), %step, "step begins");
        let carrying_out = async {
            let output = self.carry_out(step, outputs).await?;
            if self.context.failpoints.repeats(step) {
                return self.carry_out(step, outputs).await;
            }
            Ok(output)
        };
        let output = carrying_out.with_context(self.trace.step(step)).await?;
        let Some(left) = output else { return Ok(()) };
        self.context.failpoints.at(Place::Effect(step)).await?;
        let next = outputs
            .next()
            .zip(outputs.validated.as_ref())
            .map(|(next, validated)| steps::Next {
                step: next.name,
                mode: validated.mode.as_str(),
            });
        match left {
            Left::Validated(output, seen) => self.record_validated(&output, next, &seen).await?,
            Left::Done(left) => {
                let done = || steps::done(pool, &self.row, step, &left, next);
                check(patiently("a step's output", done).await?)?;
                self.is_recorded().await;
            }
        }
        Ok(self.context.failpoints.at(Place::Recorded(step)).await?)
    }

    /// Does what a step is for. Returns what is to be recorded; nothing if that is done already.
    async fn carry_out(
        &self,
        step: StepName,
        outputs: &mut Outputs,
    ) -> Result<Option<Left>, StepError> {
        let stored = |output: serde_json::Result<Value>| {
            output.map_err(|e| {
                StepError::permanent(format!("the output of step {step} cannot be stored: {e}"))
            })
        };
        let mut done = Done::default();
        let output = match step {
            StepName::Validate => {
                hooks::expect_after(self).await?;
                let (validated, seen) = validate::run(self).await?;
                if let Err(error) = hooks::before(self, validated.mode).await {
                    validate::note(self, &seen).await?;
                    return Err(error);
                }
                let output = stored(serde_json::to_value(&validated))?;
                outputs.validated = Some(validated);
                return Ok(Some(Left::Validated(output, seen)));
            }
            StepName::Snapshot => {
                let frozen = snapshot::run(self, outputs.validated()?).await?;
                let value = serde_json::to_value(&frozen);
                outputs.frozen = Some(frozen);
                value
            }
            StepName::PowerOff => {
                let frozen = power_off::run(self, outputs.validated()?).await?;
                let value = serde_json::to_value(&frozen);
                outputs.frozen = Some(frozen);
                value
            }
            StepName::Copy => {
                let (sealed, progress) =
                    copy::run(self, outputs.validated()?, outputs.frozen()?).await?;
                let value = serde_json::to_value(&sealed);
                outputs.sealed = Some(sealed);
                done.progress = progress;
                value
            }
            StepName::Commit | StepName::PowerOn => {
                done.met = undo::meet_own(self).await?;
                outputs.brought_back = true;
                Ok(Value::Null)
            }
            // Its record is the statement that publishes.
            StepName::Publish => {
                let validated = outputs.validated()?;
                let publishing =
                    publish::run(self, validated, outputs.frozen()?, outputs.sealed()?);
                outputs.points = match publishing.await {
                    Ok(points) => Some(points),
                    Err(error) => {
                        let Context {
                            repositories, pool, ..
                        } = self.context.as_ref();
                        let explaining = repositories.explain(pool, &validated.destination, error);
                        return Err(explaining.await);
                    }
                };
                return Ok(None);
            }
        };
        done.output = stored(output)?;
        Ok(Some(Left::Done(done)))
    }
}

/// How a step came to its end, for those who count.
fn outcome(done: &Result<(), StepError>) -> Outcome {
    match done {
        Ok(()) => Outcome::Succeeded,
        Err(StepError::Stop(Stop::Cancelled)) => Outcome::Cancelled,
        Err(StepError::Stop(_)) => Outcome::HandedOver,
        Err(_) => Outcome::Failed,
    }
}

/// Turns a lost fence into the error that ends the work.
pub(crate) fn check(fence: Fence) -> Result<(), Stop> {
    match fence {
        Fence::Held => Ok(()),
        Fence::Lost => Err(Stop::Fenced),
    }
}

/// A setting in seconds.
pub(crate) fn secs(value: i32) -> Duration {
    Duration::from_secs(u64::try_from(value).unwrap_or_default())
}

/// Does something that blocks on a thread of its own.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, StepError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, StepError> + Send + 'static,
{
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
        .await
        .map_err(|e| StepError::retry(format!("a thread of the worker died: {e}")))?
}
