//! The plans of a backup: the steps of a guest run in their order. What a step leaves, what undoes it and where the run
//! goes on after it has failed stands here and nowhere else.

use virtuozo_model::StepName;
use virtuozo_repository::PointMode;

/// While the guest runs.
pub(crate) const HOT: Plan = Plan(&[
    step(StepName::Validate, Output::Validated, Retry::FromStart),
    step(StepName::Snapshot, Output::Frozen, Retry::FromStart).undone_by(StepName::Commit),
    step(StepName::Copy, Output::Sealed, Retry::FromStart),
    step(StepName::Commit, Output::BroughtBack, Retry::FromHere),
    step(StepName::Verify, Output::Verified, Retry::FromHere),
    step(StepName::Publish, Output::Published, Retry::FromHere).short(),
]);

/// While the guest is off.
pub(crate) const COLD: Plan = Plan(&[
    step(StepName::Validate, Output::Validated, Retry::FromStart),
    step(StepName::PowerOff, Output::Frozen, Retry::FromStart).undone_by(StepName::PowerOn),
    step(StepName::Copy, Output::Sealed, Retry::FromStart),
    step(StepName::PowerOn, Output::BroughtBack, Retry::FromHere),
    step(StepName::Verify, Output::Verified, Retry::FromHere),
    step(StepName::Publish, Output::Published, Retry::FromHere).short(),
]);

/// What a step leaves for those after it. Steps of different plans that do the same for them leave the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Output {
    /// [`Validated`](crate::steps::Validated): what the guest is, and how it is backed up.
    Validated,
    /// [`Frozen`](crate::steps::Frozen): disks that do not change.
    Frozen,
    /// [`SealedPoint`](virtuozo_repository::SealedPoint): the complete copy, under its temporary name.
    Sealed,
    /// Nothing but that the guest is as it was before.
    BroughtBack,
    /// [`Verified`](crate::steps::Verified): whether the copy was read back.
    Verified,
    /// The restore points of the guest; the guest run has ended with it.
    Published,
}

/// Where the next attempt begins after a step has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// With the first step, after the guest was brought back.
    FromStart,
    /// With the step that failed: the copy is complete, and still good.
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
    /// The step changes the guest, and a later one takes that back.
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

    /// What a step leaves, whatever the plan; none if no plan has it.
    pub(crate) fn output_of(name: StepName) -> Option<Output> {
        [HOT, COLD]
            .iter()
            .flat_map(|plan| plan.steps())
            .find(|step| step.name == name)
            .map(|step| step.output)
    }

    /// Whether a worker that stops leaves this step to another one. A guest is brought back first.
    pub(crate) fn gives_way(self, step: &PlannedStep) -> bool {
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
            .flat_map(|plan| plan.steps().iter().filter(move |s| !plan.gives_way(s)))
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
