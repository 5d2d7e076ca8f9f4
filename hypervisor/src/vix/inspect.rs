//! A guest's own files, read from its datastore: what it is made of and what is wrong with it.

use std::path::Path;

use virtuozo_disk::{
    BlockSource,
    vmdk::Chain,
    vmware::{
        host_path,
        vmsd::{Snapshot, Vmsd},
        vmx::{Encryption, MAX_DISKS, Vmx, VmxDisk},
    },
};

use super::{guest_paths::GuestPaths, locations::Locations};
use crate::{
    DiskFacts, ErrorClass, ErrorKind, GuestRef, HypervisorError, Problem, Result, snapshot_name,
};

/// Configuration and snapshot list of a guest, and where they lie.
pub(super) struct GuestFiles {
    pub(super) paths: GuestPaths,
    /// The datastore that it lies in.
    pub(super) datastore: Option<String>,
    pub(super) vmx: Vmx,
    pub(super) vmsd: Vmsd,
}

impl GuestFiles {
    /// Reads `.vmx` and `.vmsd`. Blocks.
    pub(super) fn load(locations: Locations, guest: &GuestRef) -> Result<Self> {
        let path = locations.vmx(guest)?;
        let datastore = locations.datastore_of(guest.locator.as_str());
        let (paths, opened) = GuestPaths::open(locations, &path)?;
        let explain = |error| paths.locations.explain(error);
        let (vmx, warnings) = Vmx::read(&opened).map_err(explain)?;
        let (vmsd, more) = Vmsd::read(paths.beside_vmx("vmsd")).map_err(explain)?;
        for warning in warnings.into_iter().chain(more) {
            tracing::debug!(path = %path.display(), line = warning.line, warning.text);
        }
        let files = Self {
            paths: paths.with_working_dir(vmx.working_dir()),
            datastore,
            vmx,
            vmsd,
        };
        let disks = files.vmx.disks().len();
        if disks > MAX_DISKS {
            return Err(files.invalid(format_args!(
                "it names {disks} disks, and {MAX_DISKS} are the most"
            )));
        }
        Ok(files)
    }

    /// The `.vmx` as this machine reads it.
    pub(super) fn path(&self) -> &Path {
        self.paths.vmx()
    }

    /// The name shown to people.
    pub(super) fn name(&self) -> String {
        match self.vmx.display_name() {
            Some(name) => name.to_owned(),
            None => self.stem(),
        }
    }

    /// The name of the `.vmx` without its extension.
    pub(super) fn stem(&self) -> String {
        host_path::stem(&self.path().to_string_lossy()).to_owned()
    }

    /// The datastore of a file that `.vmx` or `.vmsd` names.
    fn datastore_of(&self, name: &str) -> Option<String> {
        if host_path::is_absolute(name) {
            return self.paths.locations.datastore_of(name);
        }
        self.datastore.clone()
    }

    /// Snapshots that are not ours, parents before children.
    pub(super) fn foreign_snapshots(&self) -> Vec<&Snapshot> {
        self.vmsd
            .parents_first()
            .into_iter()
            .filter(|snapshot| !snapshot_name::is_ours(&snapshot.name))
            .collect()
    }

    /// The disks, with what is wrong with each. While the guest runs, the links it writes to are not
    /// looked through. Blocks.
    pub(super) fn disk_facts(&self, runs: bool) -> Vec<DiskFacts> {
        let disks = self.vmx.disks();
        disks
            .iter()
            .map(|disk| {
                let device = disk.device.to_string();
                let (capacity_bytes, problem) = match self.paths.chain(&disk.file_name) {
                    Ok(chain) => (
                        Some(chain.size_bytes()),
                        self.redo_log(disk)
                            .err()
                            .map(Problem::from)
                            .or_else(|| self.damage(&chain, runs))
                            .or_else(|| self.broken_snapshot(|node| is_same(node, &device))),
                    ),
                    Err(error) => (None, Some(error.into())),
                };
                self.paths.forget_links();
                DiskFacts {
                    device,
                    file_name: disk.file_name.clone(),
                    datastore: self.datastore_of(&disk.file_name),
                    capacity_bytes,
                    snapshots: !disk.is_independent(),
                    problem,
                }
            })
            .collect()
    }

    /// Refuses a disk whose newest content lies in a redo log, without which a copy would be of an older time.
    pub(super) fn redo_log(&self, disk: &VmxDisk) -> Result<()> {
        if !disk.keeps_redo_log() {
            return Ok(());
        }
        let named = match &disk.redo_log {
            Some(name) => self.paths.open_named(name)?,
            None => None,
        };
        let found = match named {
            Some(opened) => Some(opened.path().to_owned()),
            None => {
                let opened = self.paths.open_disk(&disk.file_name)?;
                self.paths.redo_log_beside(&opened)?
            }
        };
        match found {
            None => Ok(()),
            Some(path) => Err(self.invalid(format_args!(
                "the disk {} (mode {}) has the redo log {}, which holds what was written last and is not part of a \
                 backup; have the host commit or discard it (power the guest on and off, and answer), or leave out the \
                 disk",
                disk.device,
                disk.mode,
                path.display()
            ))),
        }
    }

    /// The first damage in the tables of a chain's links; their data is not read.
    fn damage(&self, chain: &Chain, runs: bool) -> Option<Problem> {
        let mut links = chain.layers().iter().skip(usize::from(runs));
        links
            .find_map(|link| link.check_tables().err())
            .map(|error| self.paths.locations.explain(error).into())
    }

    /// What is wrong with the first foreign snapshot that has a broken disk on a device that fits.
    fn broken_snapshot(&self, fits: impl Fn(&str) -> bool) -> Option<Problem> {
        self.foreign_snapshots().iter().find_map(|snapshot| {
            let mut disks = snapshot.disks.iter().filter(|disk| fits(&disk.node));
            let error = disks.find_map(|disk| self.paths.chain(&disk.file_name).err())?;
            let message = match error.class {
                ErrorClass::Elsewhere => {
                    format!("the snapshot {}: {}", snapshot.name, error.message)
                }
                _ => format!(
                    "the snapshot {} is broken: {}; repair or remove it on the host",
                    snapshot.name, error.message
                ),
            };
            Some(Problem {
                class: error.class,
                message,
                location: error.location,
            })
        })
    }

    /// Why the guest as a whole cannot be backed up. Blocks.
    pub(super) fn problem(&self) -> Option<Problem> {
        if self.vmx.encryption() == Some(Encryption::Full) {
            return Some(Problem::permanent(format!(
                "{} is encrypted; decrypt the guest or ignore it",
                self.path().display()
            )));
        }
        if self.vmx.dictionary.iter().next().is_none() {
            return Some(Problem::permanent(format!(
                "{} is not a configuration file; repair it or restore it from a backup",
                self.path().display()
            )));
        }
        let disks = self.vmx.disks();
        if disks.is_empty() {
            return Some(Problem::permanent(format!(
                "{} names no disks",
                self.path().display()
            )));
        }
        if let Some(error) = self
            .other_files()
            .find_map(|name| self.paths.open_named(&name).err())
        {
            return Some(error.into());
        }
        // What a snapshot holds of disks that have since been unplugged.
        self.broken_snapshot(|node| {
            disks
                .iter()
                .all(|disk| !is_same(node, &disk.device.to_string()))
        })
    }

    /// The files that `.vmx` and `.vmsd` name beside disks, and those that stand beside them.
    fn other_files(&self) -> impl Iterator<Item = String> + '_ {
        let states = self.foreign_snapshots().into_iter();
        let states = states
            .filter_map(|snapshot| snapshot.state_file.as_deref())
            .chain(self.vmx.suspend_state());
        let states = states.flat_map(|state| [state.to_owned(), memory_file(state)]);
        self.vmx
            .nvram()
            .map(str::to_owned)
            .into_iter()
            .chain(states)
    }

    /// What people should know of the disks that were opened.
    pub(super) fn notes(&self) -> Vec<String> {
        let parents = self.paths.borrowed().into_iter();
        parents
            .map(|path| {
                format!(
                    "its disks rest on {}, which lies in the folder of another guest and is copied with them",
                    path.display()
                )
            })
            .collect()
    }

    /// An error of the guest's files.
    pub(super) fn invalid(&self, why: impl std::fmt::Display) -> HypervisorError {
        HypervisorError::new(
            ErrorKind::GuestInvalid,
            ErrorClass::Permanent,
            format!("{}: {why}", self.path().display()),
        )
    }
}

/// The memory file that belongs to a state file.
pub(super) fn memory_file(state: &str) -> String {
    let stem = match state.rsplit_once('.') {
        Some((stem, extension)) if !extension.contains(['/', '\\']) => stem,
        _ => state,
    };
    format!("{stem}.vmem")
}

/// Whether two texts name the same device.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}
