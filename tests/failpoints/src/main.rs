//! `virtuozo` with failpoints, for tests and proofs. The variable `FAILPOINTS` says what happens to its workers:
//! `PLACE=ACTION`, and more of them after a semicolon.
//!
//! Places are `STEP.before` (nothing has been done), `STEP.change` (between the last look at the lease and the
//! change itself, where a delay hurts most; `snapshot`, `power_off` and `publish` have it), `STEP.effect` (done,
//! not recorded), `STEP.recorded`, `undo.change` (in `commit` and `power_on`), `copy.middle` (after the first
//! bytes) and `copy.durable` (after the first checkpoint, with at least half of a file still to be copied).
//!
//! Each action happens once in a process, the first time the worker comes to the place:
//!
//! * `PLACE=pause(FILE)`: it writes the file and pauses until the file is gone. To die here, it is killed; to be
//!   late, it is frozen with SIGSTOP meanwhile.
//! * `PLACE=fail`: an error that another attempt may find healed.
//! * `STEP=repeat`: the step is carried out twice in a row.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use virtuozo_model::StepName;
use virtuozo_worker::{Disturbance, Failpoints, Place};

const VARIABLE: &str = "FAILPOINTS";
/// What the errors of [`place`] say.
const PLACES: &str = "STEP.before, STEP.change, STEP.effect, STEP.recorded, undo.change, copy.middle, copy.durable, \
     verify.middle";

fn main() -> ExitCode {
    let asked_for = std::env::var(VARIABLE).unwrap_or_default();
    match FromEnvironment::parse(&asked_for) {
        Ok(failpoints) => virtuozo::run(Arc::new(failpoints)),
        Err(error) => {
            eprintln!("{VARIABLE}: {error}");
            ExitCode::from(2)
        }
    }
}

/// What is to happen, as the variable says.
#[derive(Debug, Default)]
struct FromEnvironment(Vec<Failpoint>);

#[derive(Debug)]
struct Failpoint {
    /// As the variable names the place or the step.
    name: String,
    action: Action,
    happened: AtomicBool,
}

#[derive(Debug)]
enum Action {
    Pause(Place, PathBuf),
    Fail(Place),
    Repeat(StepName),
}

impl FromEnvironment {
    fn parse(text: &str) -> Result<Self, String> {
        text.split(';')
            .filter(|one| !one.is_empty())
            .map(Failpoint::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Failpoint {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, action) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is not PLACE=ACTION"))?;
        let file = action
            .strip_prefix("pause(")
            .and_then(|rest| rest.strip_suffix(')'));
        let action = match (action, file) {
            (_, Some(file)) => Action::Pause(place(name)?, file.into()),
            ("fail", None) => Action::Fail(place(name)?),
            ("repeat", None) => Action::Repeat(step(name)?),
            (other, None) => {
                return Err(format!(
                    "{other:?} is no action: pause(FILE), fail or repeat"
                ));
            }
        };
        Ok(Self {
            name: name.to_owned(),
            action,
            happened: AtomicBool::new(false),
        })
    }

    /// Whether it happens now: only once.
    fn happens(&self) -> bool {
        !self.happened.swap(true, Ordering::Relaxed)
    }
}

fn step(name: &str) -> Result<StepName, String> {
    StepName::from_name(name).ok_or_else(|| format!("there is no step {name:?}"))
}

fn place(name: &str) -> Result<Place, String> {
    match name {
        "undo.change" => return Ok(Place::UndoChange),
        "copy.middle" => return Ok(Place::CopyMiddle),
        "copy.durable" => return Ok(Place::CopyDurable),
        "verify.middle" => return Ok(Place::VerifyMiddle),
        _ => {}
    }
    let unknown = || format!("there is no place {name:?}: {PLACES}");
    let (of_step, point) = name.split_once('.').ok_or_else(unknown)?;
    let step = step(of_step)?;
    match (point, step) {
        ("before", _) => Ok(Place::Before(step)),
        ("change", StepName::Snapshot | StepName::PowerOff | StepName::Publish) => {
            Ok(Place::Change(step))
        }
        ("effect", _) => Ok(Place::Effect(step)),
        ("recorded", _) => Ok(Place::Recorded(step)),
        _ => Err(unknown()),
    }
}

impl Failpoints for FromEnvironment {
    fn at(&self, place: Place) -> Disturbance {
        for failpoint in &self.0 {
            match &failpoint.action {
                Action::Pause(at, file) if *at == place && failpoint.happens() => {
                    tracing::warn!(place = failpoint.name, "a failpoint pauses the worker");
                    if let Err(error) = std::fs::write(file, &failpoint.name) {
                        tracing::error!(file = %file.display(), %error, "the file of a failpoint cannot be written");
                    }
                    return Disturbance::Pause(file.clone());
                }
                Action::Fail(at) if *at == place && failpoint.happens() => {
                    tracing::warn!(place = failpoint.name, "a failpoint lets the worker fail");
                    return Disturbance::Fail(format!(
                        "a failpoint let it fail at {}",
                        failpoint.name
                    ));
                }
                _ => {}
            }
        }
        Disturbance::None
    }

    fn is_ahead(&self, place: Place) -> bool {
        self.0.iter().any(|failpoint| {
            matches!(&failpoint.action, Action::Pause(at, _) if *at == place)
                && !failpoint.happened.load(Ordering::Relaxed)
        })
    }

    fn repeats(&self, step: StepName) -> bool {
        self.0.iter().any(|failpoint| {
            let repeats =
                matches!(failpoint.action, Action::Repeat(of) if of == step) && failpoint.happens();
            if repeats {
                tracing::warn!(%step, "a failpoint repeats the step");
            }
            repeats
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failpoint_happens_once_and_only_at_its_place() {
        let file = std::env::temp_dir().join(format!("failpoint-{}", std::process::id()));
        let text = format!(
            "copy.middle=pause({});publish.effect=fail;commit=repeat",
            file.display()
        );
        let all = FromEnvironment::parse(&text).unwrap();
        assert!(matches!(
            all.at(Place::Effect(StepName::Copy)),
            Disturbance::None
        ));
        assert!(all.is_ahead(Place::CopyMiddle));
        assert!(matches!(all.at(Place::CopyMiddle), Disturbance::Pause(_)));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "copy.middle");
        std::fs::remove_file(&file).unwrap();
        assert!(!all.is_ahead(Place::CopyMiddle));
        assert!(matches!(all.at(Place::CopyMiddle), Disturbance::None));
        let publish = Place::Effect(StepName::Publish);
        assert!(
            matches!(all.at(publish), Disturbance::Fail(why) if why.contains("publish.effect"))
        );
        assert!(matches!(all.at(publish), Disturbance::None));
        assert!(!all.repeats(StepName::Copy));
        assert!(all.repeats(StepName::Commit));
        assert!(!all.repeats(StepName::Commit));
    }

    #[test]
    fn what_names_no_place_or_action_is_refused() {
        for (text, why) in [
            ("copy.middle", "PLACE=ACTION"),
            ("copy.middle=die", "pause(FILE)"),
            ("copying.before=fail", "no step"),
            ("validate.change=fail", "copy.durable"),
            ("copy.middle=repeat", "no step"),
        ] {
            let error = FromEnvironment::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(FromEnvironment::parse("").unwrap().0.is_empty());
    }
}
