//! Step `validate`: reads the facts of the guest, removes what earlier failures left, and decides the mode.

use std::path::PathBuf;

use virtuozo_hypervisor::{Capabilities, Guest, GuestFacts, PowerState, snapshot_name};
use virtuozo_model::{Mode, Severity, terminal};
use virtuozo_repository::PointMode;
use virtuozo_store::{
    events::{self, NewEvent},
    guest_runs,
    inventory::GuestObservation,
};

use super::{GuestRun, Validated};
use crate::{
    assess::{self, Eligibility},
    error::StepError,
    undo,
};

/// Validates the guest and decides the mode. Nothing here depends on an earlier attempt. The caller records the
/// observation, unless there was an error.
pub(super) async fn run(run: &GuestRun) -> Result<(Validated, GuestObservation), StepError> {
    let opened = run.opened().await?;
    let facts = settled_facts(run, opened.guest.as_ref()).await?;
    let seen = assess::guest(&facts, &run.ignored_disks);
    let judged = match seen.eligibility {
        Eligibility::Ineligible {
            class,
            reason,
            location,
        } => Err(StepError::Failed {
            class,
            message: reason,
            location,
        }),
        Eligibility::Eligible => {
            tell(run, &facts.notes).await?;
            judge(run, opened.host.capabilities(), facts).await
        }
    };
    match judged {
        Ok(validated) => Ok((validated, seen.observation)),
        Err(error) => {
            note(run, &seen.observation).await?;
            Err(error)
        }
    }
}

/// Tells what people should know of the guest.
async fn tell(run: &GuestRun, notes: &[String]) -> Result<(), StepError> {
    let pool = &run.context.pool;
    for note in notes {
        let message = format!("guest {}: {note}", run.guest.full_name());
        let event = run.about(NewEvent::user(Severity::Info, message));
        run.context
            .while_unavailable("a note on the guest", || events::record(pool, &event))
            .await?;
    }
    Ok(())
}

/// Records the observation of the guest.
pub(super) async fn note(run: &GuestRun, seen: &GuestObservation) -> Result<(), StepError> {
    let pool = &run.context.pool;
    let noting = || guest_runs::saw(pool, &run.row, seen);
    Ok(run
        .context
        .while_unavailable("the guest's state", noting)
        .await?)
}

async fn judge(
    run: &GuestRun,
    can: Capabilities,
    facts: GuestFacts,
) -> Result<Validated, StepError> {
    let requested = run.guest.mode.unwrap_or(run.settings.mode);
    let mode = decide(requested, &facts, can)?;
    let destination = run
        .guest
        .destination
        .clone()
        .or_else(|| run.settings.destination.clone())
        .ok_or_else(|| {
            StepError::operator(format!(
                "there is no destination for its restore points: set one for all with `virtuozo \
                 settings set destination /DIRECTORY`, or for this guest with `{} --destination /DIRECTORY`",
                terminal::command("guest edit", &[run.guest.full_name()])
            ))
        })?;
    let destination = PathBuf::from(destination);
    run.unless_stopped(run.enter(&destination)).await?;
    Ok(Validated {
        mode,
        guest_name: facts.name,
        resume_power: run
            .guest
            .resume_power_state
            .unwrap_or(run.settings.resume_power_state),
        destination,
        ignored_disks: run.ignored_disks.clone(),
    })
}

/// The facts of the guest, after our leftover snapshots are removed.
async fn settled_facts(run: &GuestRun, guest: &dyn Guest) -> Result<GuestFacts, StepError> {
    let look = async || Ok(guest.facts().await?.checked());
    let facts = run.unless_stopped(look()).await?;
    let is_left = facts
        .snapshots
        .iter()
        .any(|one| snapshot_name::is_ours(one));
    if (is_left || run.has_obligations)
        && undo::clear_leftovers(run, guest, &facts.snapshots).await?
    {
        run.unless_stopped(look()).await
    } else {
        Ok(facts)
    }
}

/// The mode for a guest in its present state.
fn decide(requested: Mode, facts: &GuestFacts, can: Capabilities) -> Result<PointMode, StepError> {
    match facts.power {
        PowerState::BlockedOnQuestion => {
            return Err(StepError::operator(
                "the guest waits for an answer to a question: answer it in its console",
            ));
        }
        // A guest that does not run needs no snapshot.
        PowerState::Off | PowerState::Suspended => return Ok(PointMode::Cold),
        PowerState::On => {}
    }
    match (requested, obstacle(facts, can)) {
        (Mode::Cold, _) | (Mode::Auto, Some(_)) => Ok(PointMode::Cold),
        (Mode::Hot | Mode::Auto, None) => Ok(PointMode::Hot),
        (Mode::Hot, Some(why)) => Err(StepError::operator(format!(
            "it cannot be backed up hot: {why}; set its mode to auto or cold"
        ))),
    }
}

/// Why a running guest cannot be backed up from a snapshot.
fn obstacle(facts: &GuestFacts, can: Capabilities) -> Option<String> {
    if !can.hot_snapshots {
        return Some("its host takes no snapshots of running guests".to_owned());
    }
    if let Some(disk) = facts.disks.iter().find(|d| !d.snapshots) {
        return Some(format!(
            "disk {} takes no part in snapshots (independent)",
            disk.device
        ));
    }
    if let (false, Some(foreign)) = (can.multiple_snapshots, facts.snapshots.first()) {
        return Some(format!(
            "its host keeps one snapshot of a guest, and {foreign:?} would be overwritten"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use virtuozo_hypervisor::DiskFacts;

    use super::*;

    fn facts(power: PowerState, independent: bool, foreign: bool) -> GuestFacts {
        GuestFacts {
            name: "mail".to_owned(),
            power,
            tools_running: true,
            disks: vec![DiskFacts {
                device: "scsi0:0".to_owned(),
                file_name: "mail.vmdk".to_owned(),
                datastore: None,
                capacity_bytes: Some(1 << 20),
                snapshots: !independent,
                problem: None,
            }],
            snapshots: if foreign {
                vec!["before upgrade".to_owned()]
            } else {
                Vec::new()
            },
            node: None,
            datastore: None,
            change_ids: Vec::new(),
            notes: Vec::new(),
            problem: None,
        }
    }

    const ALL: Capabilities = Capabilities {
        hot_snapshots: true,
        multiple_snapshots: true,
    };
    const ONE: Capabilities = Capabilities {
        hot_snapshots: true,
        multiple_snapshots: false,
    };

    #[test]
    fn auto_is_hot_for_a_running_guest_and_cold_for_one_that_is_off() {
        assert_eq!(
            decide(Mode::Auto, &facts(PowerState::On, false, true), ALL).unwrap(),
            PointMode::Hot
        );
        assert_eq!(
            decide(Mode::Auto, &facts(PowerState::Off, false, true), ALL).unwrap(),
            PointMode::Cold
        );
    }

    #[test]
    fn a_foreign_snapshot_is_never_overwritten_on_a_host_that_keeps_one() {
        let guest = facts(PowerState::On, false, true);
        assert_eq!(decide(Mode::Auto, &guest, ONE).unwrap(), PointMode::Cold);
        let refused = decide(Mode::Hot, &guest, ONE).unwrap_err();
        assert!(refused.to_string().contains("before upgrade"), "{refused}");
    }

    #[test]
    fn an_independent_disk_makes_auto_cold_and_hot_an_error() {
        let guest = facts(PowerState::On, true, false);
        assert_eq!(decide(Mode::Auto, &guest, ALL).unwrap(), PointMode::Cold);
        assert!(
            decide(Mode::Hot, &guest, ALL)
                .unwrap_err()
                .to_string()
                .contains("scsi0:0")
        );
    }

    #[test]
    fn a_guest_that_waits_for_an_answer_is_left_to_a_person() {
        let blocked = facts(PowerState::BlockedOnQuestion, false, false);
        for mode in [Mode::Hot, Mode::Cold, Mode::Auto] {
            assert!(decide(mode, &blocked, ALL).is_err());
        }
    }

    proptest! {
        #[test]
        fn a_plan_is_hot_only_if_the_guest_runs_and_nothing_stands_in_the_way(
            mode in prop::sample::select(vec![Mode::Hot, Mode::Cold, Mode::Auto]),
            power in prop::sample::select(vec![
                PowerState::On, PowerState::Off, PowerState::Suspended, PowerState::BlockedOnQuestion,
            ]),
            independent: bool,
            foreign: bool,
            hot_snapshots: bool,
            multiple_snapshots: bool,
        ) {
            let can = Capabilities { hot_snapshots, multiple_snapshots };
            let free = hot_snapshots && !independent && (multiple_snapshots || !foreign);
            let decided = decide(mode, &facts(power, independent, foreign), can).ok();
            if decided == Some(PointMode::Hot) {
                prop_assert!(power == PowerState::On && free && mode != Mode::Cold);
            }
            if mode == Mode::Auto && power != PowerState::BlockedOnQuestion {
                prop_assert!(decided.is_some());
            }
        }
    }
}
