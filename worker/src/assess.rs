//! Assesses a guest by its facts: what the store keeps of them, and whether it can be backed up.

use std::path::PathBuf;

use virtuozo_hypervisor::{GuestFacts, PowerState, Problem};
use virtuozo_model::{ErrorClass, GuestState, Power};
use virtuozo_store::inventory::{DiskObservation, GuestObservation};

/// The result of assessing a guest.
pub(crate) struct Assessment {
    pub(crate) observation: GuestObservation,
    pub(crate) eligibility: Eligibility,
}

/// Whether a guest can be backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Eligibility {
    /// It can be backed up.
    Eligible,
    /// It cannot be backed up.
    Ineligible {
        /// Whether another attempt, another machine or an operator can help.
        class: ErrorClass,
        /// Why.
        reason: String,
        /// The directory that this machine lacks, where that is the reason.
        location: Option<PathBuf>,
    },
}

/// Assesses a guest by its facts. Problems of disks that are left out of backups are ignored.
pub(crate) fn guest(facts: &GuestFacts, ignored_disks: &[String]) -> Assessment {
    let backed_up = |device: &str| !ignored_disks.iter().any(|d| d == device);
    let broken = facts
        .disks
        .iter()
        .filter(|d| backed_up(&d.device))
        .find_map(|disk| {
            disk.problem.as_ref().map(|problem| Problem {
                class: problem.class,
                message: format!("disk {}: {}", disk.device, problem.message),
                location: problem.location.clone(),
            })
        });
    let eligibility = match facts.problem.clone().or(broken) {
        Some(problem) => Eligibility::Ineligible {
            class: problem.class,
            reason: problem.message,
            location: problem.location,
        },
        None if facts.disks.iter().any(|d| backed_up(&d.device)) => Eligibility::Eligible,
        None => Eligibility::Ineligible {
            class: ErrorClass::Operator,
            reason:
                "all its disks are left out: take one in again (`virtuozo disk edit --help`), or leave \
                     out the guest"
                    .to_owned(),
            location: None,
        },
    };
    let (state, reason) = match &eligibility {
        Eligibility::Eligible => (GuestState::Ok, None),
        Eligibility::Ineligible { reason, .. } => (GuestState::Invalid, Some(reason.clone())),
    };
    let disks = facts
        .disks
        .iter()
        .map(|disk| DiskObservation {
            device: disk.device.clone(),
            file_name: disk.file_name.clone(),
            datastore: disk.datastore.clone(),
            capacity_bytes: disk.capacity_bytes,
            problem: disk.problem.as_ref().map(|problem| problem.message.clone()),
        })
        .collect();
    let power = match facts.power {
        PowerState::On => Power::On,
        PowerState::Off => Power::Off,
        PowerState::Suspended => Power::Suspended,
        PowerState::BlockedOnQuestion => Power::BlockedOnQuestion,
    };
    Assessment {
        observation: GuestObservation {
            name: facts.name.clone(),
            power,
            state,
            reason,
            node: facts.node.clone(),
            change_ids: facts.change_ids.iter().map(ToString::to_string).collect(),
            datastore: facts.datastore.clone(),
            disks,
        },
        eligibility,
    }
}
