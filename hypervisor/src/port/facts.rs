//! What is found out about hosts and guests without changing them.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use virtuozo_model::text;

use super::{ChangeId, GuestRef};
use crate::{ErrorClass, HypervisorError};

/// The warnings about a host that are told; the others are counted.
const MAX_WARNINGS: usize = 20;

/// What validation finds out about a host without touching any guest.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HostFacts {
    /// Datastores that the host's configuration names: name → place as the host writes it.
    pub datastores: BTreeMap<String, String>,
    /// Guests that the host knows, each once.
    pub guests: Vec<GuestRef>,
    /// `guests` names every guest of the host. Where it does not, one that is missing there may just be off:
    /// only opening it shows which.
    pub guests_are_complete: bool,
    /// What could not be read, in sentences.
    pub warnings: Vec<String>,
}

impl HostFacts {
    /// The same with texts that may be stored and shown: each on one line, and of a bounded length. A datastore whose
    /// name is not so is left out, with a warning.
    #[must_use]
    pub fn checked(self) -> Self {
        let mut warnings: Vec<String> = self
            .warnings
            .iter()
            .map(|one| text::sentence(one))
            .collect();
        if let Some(untold @ 1..) = warnings.len().checked_sub(MAX_WARNINGS) {
            warnings.truncate(MAX_WARNINGS);
            warnings.push(format!("{untold} more of the kind"));
        }
        let mut datastores = BTreeMap::new();
        for (name, place) in self.datastores {
            let shown = text::name(&name);
            if shown == name {
                datastores.insert(name, text::sentence(&place));
            } else {
                warnings.push(format!(
                    "the datastore {shown} is left out: its name is too long or has control characters"
                ));
            }
        }
        Self {
            datastores,
            warnings,
            ..self
        }
    }
}

/// A datastore of a host, with what identifies it wherever its files are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDatastore {
    /// Its name.
    pub name: String,
    /// Its place as the host writes it; none where the host does not say.
    pub directory: Option<String>,
    /// The files by which guests are registered, as paths below the datastore with `/` between components.
    pub guest_files: Vec<String>,
}

/// A guest's power state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerState {
    /// Runs (also while it starts, resets or is paused).
    On,
    /// Is off.
    Off,
    /// Is suspended to disk.
    Suspended,
    /// Waits for somebody's answer to a question.
    BlockedOnQuestion,
}

/// Why a disk or a guest cannot be backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What to do about it.
    pub class: ErrorClass,
    /// What is wrong, as a sentence.
    pub message: String,
    /// The directory that this machine lacks, where the problem is that.
    pub location: Option<PathBuf>,
}

impl Problem {
    /// Something that is wrong with the guest or its files, whoever looks at them.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self {
            class: ErrorClass::Permanent,
            message: message.into(),
            location: None,
        }
    }
}

impl GuestFacts {
    /// The same with texts that may be stored and shown: each on one line, and of a bounded length.
    #[must_use]
    pub fn checked(self) -> Self {
        let name = text::name(&self.name);
        let problem = |problem: Problem| Problem {
            message: text::sentence(&problem.message),
            ..problem
        };
        let disk = |disk: DiskFacts| DiskFacts {
            device: text::name(&disk.device),
            file_name: text::sentence(&disk.file_name),
            datastore: disk.datastore.as_deref().map(text::name),
            problem: disk.problem.map(problem),
            ..disk
        };
        Self {
            name,
            disks: self.disks.into_iter().map(disk).collect(),
            snapshots: self.snapshots.iter().map(|one| text::name(one)).collect(),
            node: self.node.as_deref().map(text::name),
            datastore: self.datastore.as_deref().map(text::name),
            problem: self.problem.map(problem),
            ..self
        }
    }
}

impl From<HypervisorError> for Problem {
    fn from(error: HypervisorError) -> Self {
        Self {
            class: error.class,
            message: error.message,
            location: error.location,
        }
    }
}

/// One disk as the guest's configuration names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFacts {
    /// Device, for example `scsi0:0` or `vda`.
    pub device: String,
    /// The file or volume the configuration names, as it stands there.
    pub file_name: String,
    /// The datastore that holds it, by the name in [`HostFacts::datastores`]; none where that is not known.
    pub datastore: Option<String>,
    /// Size of the disk in bytes, where it could be read.
    pub capacity_bytes: Option<u64>,
    /// Is frozen with the others ([`Guest::freeze`](super::Guest::freeze)).
    pub snapshots: bool,
    /// Why the disk cannot be backed up; none if it can.
    pub problem: Option<Problem>,
}

/// What validation finds out about one guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFacts {
    /// Display name, or what can be made of its locator where it has none.
    pub name: String,
    /// Power state now.
    pub power: PowerState,
    /// The guest can be asked to shut down by itself.
    pub tools_running: bool,
    /// Disks, in the order of their devices.
    pub disks: Vec<DiskFacts>,
    /// Names of all snapshots, parents before children, and of backup jobs that run.
    pub snapshots: Vec<String>,
    /// The machine of its host that runs it now; none where the host is one machine.
    pub node: Option<String>,
    /// The datastore that holds its configuration, by the name in [`HostFacts::datastores`]; none where that is not
    /// known.
    pub datastore: Option<String>,
    /// Change ids for which its host keeps something; see [`Guest::forget`](super::Guest::forget).
    pub change_ids: Vec<ChangeId>,
    /// What people should know of and is no obstacle, in sentences: files of other guests that are read too.
    pub notes: Vec<String>,
    /// Why the guest cannot be backed up at all; none if it can.
    pub problem: Option<Problem>,
}
