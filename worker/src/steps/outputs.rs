//! The outputs of the steps of an attempt, as the database stores them.

use std::{collections::HashMap, path::PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use virtuozo_hypervisor::PowerState;
use virtuozo_model::StepName;
use virtuozo_repository::{PointMode, ReadBack, SealedPoint};

use crate::{
    error::StepError,
    plan::{Output, Plan, PlannedStep},
};

/// The output of `validate`: facts about the guest, and how it is backed up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Validated {
    /// The mode, which decides the plan.
    pub(crate) mode: PointMode,
    /// Display name.
    pub(crate) guest_name: String,
    /// Power the guest on again after it was shut down for the backup.
    pub(crate) resume_power: bool,
    /// The repository for its restore points.
    pub(crate) destination: PathBuf,
    /// Devices of disks that are not backed up.
    pub(crate) ignored_disks: Vec<String>,
}

/// The output of `snapshot` and `power_off`: disks that do not change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Frozen {
    /// The instant whose content they hold.
    pub(crate) taken_at: DateTime<Utc>,
    /// Our snapshot; `None` for a guest that is off.
    pub(crate) snapshot: Option<String>,
    /// The power state in which they do not change.
    pub(crate) power: PowerState,
}

/// The output of `verify`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verified {
    /// Whether the copy was read back and is as it was written; `false` if the settings omit that.
    pub(crate) read_back: bool,
    /// Files that were read.
    pub(crate) files: usize,
    /// Bytes that were read.
    pub(crate) bytes_read: u64,
    /// Where they came from; `None` if they were not read, or an older version read them.
    #[serde(default)]
    pub(crate) read_from: Option<ReadBack>,
}

/// The outputs of the steps so far.
#[derive(Debug, Default)]
pub(super) struct Outputs(HashMap<Output, Value>);

impl Outputs {
    /// From the records of steps that are done, by step name. Steps that this version does not know are ignored.
    pub(super) fn recorded(steps: HashMap<String, Value>) -> Self {
        Self(
            steps
                .into_iter()
                .filter_map(|(name, value)| {
                    let output = Plan::output_of(StepName::from_name(&name)?)?;
                    Some((output, value))
                })
                .collect(),
        )
    }

    /// Stores the output of a step.
    pub(super) fn keep(&mut self, output: Output, value: Value) {
        self.0.insert(output, value);
    }

    /// The mode; `None` before `validate` has decided it.
    pub(super) fn mode(&self) -> Option<PointMode> {
        self.validated().ok().map(|validated| validated.mode)
    }

    /// The first step of the plan that is not done.
    pub(super) fn next(&self) -> Option<&'static PlannedStep> {
        let mut steps = Plan::of(self.mode()).steps().iter();
        steps.find(|step| !self.0.contains_key(&step.output))
    }

    pub(super) fn validated(&self) -> Result<Validated, StepError> {
        self.get(Output::Validated)
    }

    pub(super) fn frozen(&self) -> Result<Frozen, StepError> {
        self.get(Output::Frozen)
    }

    pub(super) fn sealed(&self) -> Result<SealedPoint, StepError> {
        self.get(Output::Sealed)
    }

    pub(super) fn verified(&self) -> Result<Verified, StepError> {
        self.get(Output::Verified)
    }

    /// Whether there is this output.
    pub(super) fn has(&self, output: Output) -> bool {
        self.0.contains_key(&output)
    }

    fn get<T: DeserializeOwned>(&self, output: Output) -> Result<T, StepError> {
        let value = self.0.get(&output).ok_or_else(|| {
            StepError::retry(format!(
                "an earlier step has not left what this one needs ({output:?})"
            ))
        })?;
        serde_json::from_value(value.clone()).map_err(|error| {
            StepError::retry(format!(
                "what an earlier step has left was written by another version of the program ({output:?}): {error}"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn validated(mode: &str) -> Value {
        json!({"mode": mode, "guest_name": "mail", "resume_power": true, "destination": "/srv", "ignored_disks": []})
    }

    fn next(steps: &[&str], mode: &str) -> Option<StepName> {
        let recorded = steps
            .iter()
            .map(|name| match *name {
                "validate" => ((*name).to_owned(), validated(mode)),
                _ => ((*name).to_owned(), Value::Null),
            })
            .collect();
        Outputs::recorded(recorded).next().map(|step| step.name)
    }

    #[test]
    fn who_takes_over_goes_on_with_the_first_step_that_is_not_recorded() {
        assert_eq!(next(&[], "hot"), Some(StepName::Validate));
        assert_eq!(next(&["validate"], "hot"), Some(StepName::Snapshot));
        assert_eq!(next(&["validate"], "cold"), Some(StepName::PowerOff));
        let copied = ["validate", "snapshot", "copy", "commit"];
        assert_eq!(next(&copied, "hot"), Some(StepName::Verify));
        let verified = ["validate", "power_off", "copy", "power_on", "verify"];
        assert_eq!(next(&verified, "cold"), Some(StepName::Publish));
    }

    #[test]
    fn the_record_of_a_step_that_this_version_does_not_know_is_passed_over() {
        assert_eq!(
            next(&["validate", "defragment"], "hot"),
            Some(StepName::Snapshot)
        );
    }

    #[test]
    fn a_record_of_another_shape_is_an_error_and_not_taken_for_missing() {
        let recorded = HashMap::from([("copy".to_owned(), json!({"chunks": 3}))]);
        let outputs = Outputs::recorded(recorded);
        let error = outputs.sealed().unwrap_err();
        assert!(error.to_string().contains("another version"), "{error}");
    }
}
