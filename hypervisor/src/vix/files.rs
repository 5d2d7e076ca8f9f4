//! Where the files of a host are, as another process of this machine can be told, and what it finds there.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use virtuozo_child_process::Line;
use virtuozo_disk::MachineRoots;

use super::{image::image, inspect::GuestFiles, locations::Locations, product::Product};
use crate::{
    DiskFacts, ErrorClass, ErrorKind, GuestImage, GuestRef, HostDatastore, HostTarget,
    HypervisorError, Instant, Problem, Result,
};

/// What of a host is needed to find its files: no address and no password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HostFiles {
    name: String,
    kind: String,
    properties: BTreeMap<String, String>,
    datastores: BTreeMap<String, PathBuf>,
    allowed: MachineRoots,
}

impl HostFiles {
    pub(super) fn of(target: &HostTarget, allowed: &MachineRoots) -> Self {
        Self {
            name: target.name.clone(),
            kind: target.kind.clone(),
            properties: target.properties.clone(),
            datastores: target.datastores.clone(),
            allowed: allowed.clone(),
        }
    }

    /// The host as far as its files go.
    pub(super) fn target(&self) -> HostTarget {
        HostTarget {
            name: self.name.clone(),
            kind: self.kind.clone(),
            address: None,
            user: None,
            password: None,
            properties: self.properties.clone(),
            datastores: self.datastores.clone(),
            file_silence: Duration::ZERO,
        }
    }

    /// Reads where its files are. Blocks.
    pub(super) fn locations(&self) -> Locations {
        Locations::load(&self.target(), &self.allowed)
    }
}

/// By what the files of a guest's image are found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ImageFoundBy {
    pub(super) host: HostFiles,
    pub(super) guest: GuestRef,
    pub(super) at: Instant,
    pub(super) ignored_disks: Vec<String>,
}

/// Opens an image. Blocks.
pub(super) fn open_image(found_by: &Value) -> Result<GuestImage> {
    let found_by = ImageFoundBy::deserialize(found_by).map_err(|error| not_understood(&error))?;
    let files = GuestFiles::load(found_by.host.locations(), &found_by.guest)?;
    image(files, &found_by.at, &found_by.ignored_disks)
}

/// The name of this back end's work among the work that a process of files can do.
pub const FILE_WORK: &str = "vix";

/// What is read in another process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HostWork {
    /// The files of a guest. Answers [`GuestSeen`].
    Look {
        host: HostFiles,
        guest: GuestRef,
        /// It is written to meanwhile.
        runs: bool,
    },
    /// The names of a guest's snapshots, parents first: `Vec<String>`.
    Snapshots { host: HostFiles, guest: GuestRef },
    /// The host's own lists. Answers [`Inventory`].
    Lists {
        host: HostFiles,
        /// The guests that the library lists.
        live: Vec<String>,
    },
}

/// What a guest's files say.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GuestSeen {
    pub(super) name: String,
    pub(super) notes: Vec<String>,
    pub(super) datastore: Option<String>,
    pub(super) disks: Vec<DiskFacts>,
    pub(super) problem: Option<Problem>,
}

/// The guests of a host, and where its files are.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Inventory {
    pub(super) guests: Vec<GuestRef>,
    /// `guests` names every guest of the host.
    pub(super) is_complete: bool,
    /// Name → directory as the host writes it.
    pub(super) on_host: BTreeMap<String, String>,
    pub(super) datastores: Vec<HostDatastore>,
    pub(super) warnings: Vec<String>,
}

/// Does work of this back end by its request. Blocks.
pub fn serve_file_work(request: Value, line: &Line) -> Value {
    let answer: Result<Value> = match HostWork::deserialize(request) {
        Ok(HostWork::Look { host, guest, runs }) => {
            line.phase(format!(
                "reads of the files of {}, {}",
                host.name, guest.locator
            ));
            look(&host, &guest, runs).and_then(|seen| value(&seen))
        }
        Ok(HostWork::Snapshots { host, guest }) => {
            line.phase(format!(
                "reads of the files of {}, {}",
                host.name, guest.locator
            ));
            GuestFiles::load(host.locations(), &guest).and_then(|files| {
                let snapshots = files.vmsd.parents_first().into_iter();
                value(&snapshots.map(|one| one.name.clone()).collect::<Vec<_>>())
            })
        }
        Ok(HostWork::Lists { host, live }) => {
            line.phase(format!("reads of the lists of the host {}", host.name));
            lists(&host, &live).and_then(|inventory| value(&inventory))
        }
        Err(error) => Err(not_understood(&error)),
    };
    serde_json::to_value(answer).unwrap_or_default()
}

fn value(answer: &impl Serialize) -> Result<Value> {
    serde_json::to_value(answer).map_err(|error| not_understood(&error))
}

/// What is said between processes of two versions.
pub(super) fn not_understood(error: &serde_json::Error) -> HypervisorError {
    HypervisorError::new(
        ErrorKind::Other,
        ErrorClass::Retry,
        format!("the process that reads files is of another version: {error}"),
    )
}

fn look(host: &HostFiles, guest: &GuestRef, runs: bool) -> Result<GuestSeen> {
    let files = GuestFiles::load(host.locations(), guest)?;
    // Looking at the disks may lead to files of other guests, which the notes name.
    let disks = files.disk_facts(runs);
    let problem = files.problem();
    Ok(GuestSeen {
        name: files.name(),
        notes: files.notes(),
        datastore: files.datastore.clone(),
        disks,
        problem,
    })
}

fn lists(host: &HostFiles, live: &[String]) -> Result<Inventory> {
    let target = host.target();
    let product = Product::of(&target)?;
    let mut locations = host.locations();
    let registered = locations.registered(&target, product);
    // The host's own list is trusted; what it lists live may be less.
    let is_complete = registered.is_some();
    let mut guests = registered.unwrap_or_default();
    for path in live {
        let locator = locations.locator(path, product);
        guests.extend(locator.map(GuestRef::at));
    }
    guests.sort();
    guests.dedup();
    Ok(Inventory {
        datastores: locations.datastores(&guests, product),
        guests,
        is_complete,
        on_host: locations.on_host,
        warnings: locations.warnings,
    })
}
