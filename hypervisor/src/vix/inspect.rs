//! A guest's own files, read from its datastore: what it is made of and what is wrong with it.

use std::path::{Path, PathBuf};

use virtuozo_disk::{
    BlockSource, DiskError, RawFile, ranges,
    vmdk::Chain,
    vmware::{
        host_path,
        vmsd::{Snapshot, Vmsd},
        vmx::{Encryption, Vmx},
    },
};

use super::locations::Locations;
use crate::{
    DiskFacts, ErrorClass, ErrorKind, GuestRef, HypervisorError, Problem, Result, snapshot_name,
};

/// A chain cannot lead through more directories than this.
const MAX_SEARCH_DIRS: usize = 64;

/// Configuration and snapshot list of a guest, and where they lie.
pub(super) struct GuestFiles {
    pub(super) locations: Locations,
    /// The `.vmx` as this machine reads it.
    pub(super) path: PathBuf,
    /// The datastore that it lies in.
    pub(super) datastore: Option<String>,
    dir: PathBuf,
    pub(super) vmx: Vmx,
    pub(super) vmsd: Vmsd,
}

impl GuestFiles {
    /// Reads `.vmx` and `.vmsd`. Blocks.
    pub(super) fn load(locations: Locations, guest: &GuestRef) -> Result<Self> {
        let path = locations.vmx(guest)?;
        let (vmx, warnings) = Vmx::load(&path).map_err(|error| locations.explain(error))?;
        for warning in warnings {
            tracing::debug!(path = %path.display(), line = warning.line, warning.text);
        }
        let (vmsd, warnings) =
            Vmsd::load(&path.with_extension("vmsd")).map_err(|error| locations.explain(error))?;
        for warning in warnings {
            tracing::debug!(path = %path.display(), line = warning.line, warning.text);
        }
        let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
        let datastore = locations.datastore_of(guest.locator.as_str());
        Ok(Self {
            locations,
            path,
            datastore,
            dir,
            vmx,
            vmsd,
        })
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
        host_path::stem(&self.path.to_string_lossy()).to_owned()
    }

    /// Where a file is that `.vmx` or `.vmsd` names.
    pub(super) fn place(&self, name: &str) -> Result<PathBuf> {
        if host_path::is_absolute(name) {
            return self.locations.host_file(name);
        }
        let name = host_path::to_slashes(name);
        let beside = self.dir.join(&name);
        if !beside.exists()
            && let Some(working_dir) = self.working_dir()
            && working_dir.join(&name).exists()
        {
            return Ok(working_dir.join(name));
        }
        Ok(beside)
    }

    /// The datastore of a file that `.vmx` or `.vmsd` names.
    fn datastore_of(&self, name: &str) -> Option<String> {
        if host_path::is_absolute(name) {
            return self.locations.datastore_of(name);
        }
        self.datastore.clone()
    }

    fn working_dir(&self) -> Option<PathBuf> {
        let dir = self.vmx.working_dir()?;
        if host_path::is_absolute(dir) {
            self.locations.host_file(dir).ok()
        } else {
            Some(self.dir.join(host_path::to_slashes(dir)))
        }
    }

    /// Opens a disk with all its parents.
    pub(super) fn chain(&self, file_name: &str) -> Result<Chain> {
        let path = self.place(file_name)?;
        let mut dirs = vec![self.dir.clone()];
        dirs.extend(self.working_dir());
        loop {
            let error = match Chain::open(&path, &dirs) {
                Ok(chain) => return Ok(chain),
                Err(error) => error,
            };
            // A parent that the host names by an absolute path may lie elsewhere on this machine.
            match self.mapped_dir(&error) {
                Some(dir) if !dirs.contains(&dir) && dirs.len() < MAX_SEARCH_DIRS => dirs.push(dir),
                _ => return Err(self.locations.explain(error)),
            }
        }
    }

    /// The directory of the file whose absence is the error, by the host's datastores.
    fn mapped_dir(&self, error: &DiskError) -> Option<PathBuf> {
        let DiskError::Io { path, source, .. } = error else {
            return None;
        };
        if source.kind() != std::io::ErrorKind::NotFound {
            return None;
        }
        // A path of Windows is one component for this machine.
        let name = path.file_name()?.to_str()?;
        let named = if host_path::is_windows(name) {
            name
        } else {
            path.to_str()?
        };
        let mapped = self.locations.host_file(named).ok()?;
        Some(mapped.parent()?.to_owned())
    }

    /// Opens a file that is stored as it is.
    pub(super) fn raw(&self, path: &Path) -> Result<RawFile> {
        RawFile::open(path).map_err(|error| self.locations.explain(error))
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
                let (capacity_bytes, problem) = match self.chain(&disk.file_name) {
                    Ok(chain) => (
                        Some(chain.size_bytes()),
                        self.damage(&chain, runs)
                            .or_else(|| self.broken_snapshot(|node| is_same(node, &device))),
                    ),
                    Err(error) => (None, Some(error.into())),
                };
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

    /// The first damage in the tables of a chain's links; their data is not read.
    fn damage(&self, chain: &Chain, runs: bool) -> Option<Problem> {
        let links = chain.layers().iter().skip(usize::from(runs));
        let mut damaged = links.filter_map(|link| ranges(link).find_map(|range| range.err()));
        damaged
            .next()
            .map(|error| self.locations.explain(error).into())
    }

    /// What is wrong with the first foreign snapshot that has a broken disk on a device that fits.
    fn broken_snapshot(&self, fits: impl Fn(&str) -> bool) -> Option<Problem> {
        self.foreign_snapshots().iter().find_map(|snapshot| {
            let mut disks = snapshot.disks.iter().filter(|disk| fits(&disk.node));
            let error = disks.find_map(|disk| self.chain(&disk.file_name).err())?;
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
                self.path.display()
            )));
        }
        if self.vmx.dictionary.iter().next().is_none() {
            return Some(Problem::permanent(format!(
                "{} is not a configuration file; repair it or restore it from a backup",
                self.path.display()
            )));
        }
        let disks = self.vmx.disks();
        if disks.is_empty() {
            return Some(Problem::permanent(format!(
                "{} names no disks",
                self.path.display()
            )));
        }
        // What a snapshot holds of disks that have since been unplugged.
        self.broken_snapshot(|node| {
            disks
                .iter()
                .all(|disk| !is_same(node, &disk.device.to_string()))
        })
    }

    /// An error of the guest's files.
    pub(super) fn invalid(&self, why: impl std::fmt::Display) -> HypervisorError {
        HypervisorError::new(
            ErrorKind::GuestInvalid,
            ErrorClass::Permanent,
            format!("{}: {why}", self.path.display()),
        )
    }
}

/// Whether two texts name the same device.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}
