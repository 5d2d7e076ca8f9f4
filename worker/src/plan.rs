//! The plans of a backup: the steps of a guest run in their order, with the output of each, the step that undoes it, and
//! the step at which the run is retried after a failure.

use virtuozo_model::StepName;
use virtuozo_repository::PointMode;

/// The plan for a guest that runs.
pub(crate) const HOT: Plan = Plan(&[
    step(StepName::Validate, Output::Validated, Retry::FromStart),
    step(StepName::Snapshot, Output::Frozen, Retry::FromStart).undone_by(StepName::Commit),
    step(StepName::Copy, Output::Sealed, Retry::FromStart),
    step(StepName::Commit, Output::BroughtBack, Retry::FromHere),
    step(StepName::Verify, Output::Verified, Retry::FromHere),
    step(StepName::Publish, Output::Published, Retry::FromHere).short(),
]);

/// The plan for a guest that is off.
pub(crate) const COLD: Plan = Plan(&[
    step(StepName::Validate, Output::Validated, Retry::FromStart),
    step(StepName::PowerOff, Output::Frozen, Retry::FromStart).undone_by(StepName::PowerOn),
    step(StepName::Copy, Output::Sealed, Retry::FromStart),
    step(StepName::PowerOn, Output::BroughtBack, Retry::FromHere),
    step(StepName::Verify, Output::Verified, Retry::FromHere),
    step(StepName::Publish, Output::Published, Retry::FromHere).short(),
]);

/// The output of a step, which later steps use. Steps of different plans may have the same output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Output {
    /// [`Validated`](crate::steps::Validated): what the guest is, and how it is backed up.
    Validated,
    /// [`Frozen`](crate::steps::Frozen): disks that do not change.
    Frozen,
    /// [`SealedPoint`](virtuozo_repository::SealedPoint): the complete copy, under its temporary name.
    Sealed,
    /// The guest is as it was before; no data.
    BroughtBack,
    /// [`Verified`](crate::steps::Verified): the copy was read back, or the settings omit that.
    Verified,
    /// The restore points of the guest. The guest run ends with it.
    Published,
}

/// Where the next attempt begins after a step has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// With the first step, after the obligations are met.
    FromStart,
    /// With the failed step: the copy is complete.
    FromHere,
}

/// One step of a plan.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PlannedStep {
    pub(crate) name: StepName,
    pub(crate) output: Output,
    pub(crate) retry: Retry,
    undone_by: Option<StepName>,
    is_short: bool,
}

const fn step(name: StepName, output: Output, retry: Retry) -> PlannedStep {
    PlannedStep {
        name,
        output,
        retry,
        undone_by: None,
        is_short: false,
    }
}

impl PlannedStep {
    /// The step changes the guest, and the step `undo` reverts that.
    const fn undone_by(self, undo: StepName) -> Self {
        Self {
            undone_by: Some(undo),
            ..self
        }
    }

    /// Handing the step to another worker would take longer than the step.
    const fn short(self) -> Self {
        Self {
            is_short: true,
            ..self
        }
    }
}

/// Steps in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan(&'static [PlannedStep]);

impl Plan {
    /// The plan of a mode. All plans begin with the same step, which decides the mode.
    pub(crate) fn of(mode: Option<PointMode>) -> Self {
        match mode {
            None | Some(PointMode::Hot) => HOT,
            Some(PointMode::Cold) => COLD,
        }
    }

    /// Its steps.
    pub(crate) fn steps(self) -> &'static [PlannedStep] {
        self.0
    }

    /// The output of a step in any plan; `None` if no plan has the step.
    pub(crate) fn output_of(name: StepName) -> Option<Output> {
        [HOT, COLD]
            .iter()
            .flat_map(|plan| plan.steps())
            .find(|step| step.name == name)
            .map(|step| step.output)
    }

    /// Whether a draining worker leaves this step to another one. It does not leave the steps that bring a guest back.
    pub(crate) fn is_handed_over(self, step: &PlannedStep) -> bool {
        let is_undo = self.0.iter().any(|s| s.undone_by == Some(step.name));
        !is_undo && !step.is_short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(plan: Plan, name: StepName) -> usize {
        plan.steps().iter().position(|s| s.name == name).unwrap()
    }

    #[test]
    fn what_changes_a_guest_is_undone_by_a_later_step_of_the_same_plan() {
        for plan in [HOT, COLD] {
            let undone: Vec<_> = plan
                .steps()
                .iter()
                .filter_map(|step| Some((step.name, step.undone_by?)))
                .collect();
            assert_eq!(undone.len(), 1, "{plan:?}");
            for (step, undo) in undone {
                assert!(place(plan, undo) > place(plan, StepName::Copy), "{step}");
                assert!(place(plan, StepName::Copy) > place(plan, step), "{step}");
            }
        }
    }

    #[test]
    fn a_guest_is_back_before_its_copy_is_verified_and_the_copy_verified_before_it_is_published() {
        for plan in [HOT, COLD] {
            let names: Vec<_> = plan.steps().iter().map(|step| step.output).collect();
            assert_eq!(
                names,
                [
                    Output::Validated,
                    Output::Frozen,
                    Output::Sealed,
                    Output::BroughtBack,
                    Output::Verified,
                    Output::Published
                ]
            );
        }
    }

    #[test]
    fn a_step_goes_on_where_it_failed_once_the_copy_is_complete_and_not_before() {
        for plan in [HOT, COLD] {
            for (at, step) in plan.steps().iter().enumerate() {
                let copied = at > place(plan, StepName::Copy);
                assert_eq!(step.retry == Retry::FromHere, copied, "{}", step.name);
            }
        }
    }

    #[test]
    fn a_worker_that_stops_finishes_what_brings_a_guest_back_and_what_is_short() {
        let kept: Vec<_> = [HOT, COLD]
            .into_iter()
            .flat_map(|plan| plan.steps().iter().filter(move |s| !plan.is_handed_over(s)))
            .map(|step| step.name)
            .collect();
        assert_eq!(
            kept,
            [
                StepName::Commit,
                StepName::Publish,
                StepName::PowerOn,
                StepName::Publish
            ]
        );
    }
}
