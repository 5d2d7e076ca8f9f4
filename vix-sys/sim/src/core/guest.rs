//! A simulated guest: its files, and the lock under which all of them are changed.

use std::path::{Path, PathBuf};

use virtuozo_disk::vmware::{
    vmsd::Vmsd,
    vmx::{Device, Vmx},
};
use vix_sys::{VIX_E_CANNOT_READ_VM_CONFIG, VIX_E_VM_NOT_FOUND};

use super::{
    error::{Result, SimError},
    files::{self, FileLock},
    state::{Power, State},
};

/// A disk of the current configuration.
#[derive(Debug, Clone)]
pub(crate) struct GuestDisk {
    pub(crate) device: Device,
    pub(crate) file_name: String,
    /// The file: the newest delta, if there are snapshots.
    pub(crate) path: PathBuf,
    pub(crate) independent: bool,
}

/// A guest, named by its `.vmx`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guest {
    pub(crate) vmx: PathBuf,
    /// The product keeps one snapshot; a second takes its place.
    pub(crate) single_snapshot: bool,
}

impl Guest {
    pub(crate) fn new(vmx: PathBuf, single_snapshot: bool) -> Self {
        Self {
            vmx,
            single_snapshot,
        }
    }

    /// The power state now.
    pub(crate) fn state(&self) -> Result<State> {
        State::load(&self.vmx)
    }

    /// The configuration, which must be wholly sound, as the product demands.
    pub(crate) fn config(&self) -> Result<Vmx> {
        if !self.vmx.is_file() {
            return Err(SimError::new(
                VIX_E_VM_NOT_FOUND,
                format!("{} does not exist", self.vmx.display()),
            ));
        }
        let unreadable = |why: String| {
            SimError::new(
                VIX_E_CANNOT_READ_VM_CONFIG,
                format!("cannot read {}: {why}", self.vmx.display()),
            )
        };
        let (config, warnings) =
            Vmx::load(&self.vmx).map_err(|error| unreadable(error.to_string()))?;
        match warnings.first() {
            None => Ok(config),
            Some(warning) => Err(unreadable(format!(
                "line {} {}",
                warning.line, warning.text
            ))),
        }
    }

    pub(crate) fn vmsd_path(&self) -> PathBuf {
        self.vmx.with_extension("vmsd")
    }

    /// The snapshots, after what a process that died in a change left has been put in order.
    pub(crate) fn settled_vmsd(&self) -> Result<Vmsd> {
        if !self.state()?.is_settled() {
            self.lock()?;
        }
        self.vmsd()
    }

    pub(crate) fn vmsd(&self) -> Result<Vmsd> {
        Ok(Vmsd::load(&self.vmsd_path())?.0)
    }

    /// The directory of the `.vmx`.
    pub(crate) fn dir(&self) -> &Path {
        self.vmx.parent().unwrap_or(Path::new("/"))
    }

    /// File name of the `.vmx` without `.vmx`.
    pub(crate) fn stem(&self) -> String {
        self.vmx
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    pub(crate) fn disks(&self, config: &Vmx) -> Vec<GuestDisk> {
        config
            .disks()
            .into_iter()
            .map(|disk| GuestDisk {
                device: disk.device,
                path: self.dir().join(&disk.file_name),
                independent: disk.is_independent(),
                file_name: disk.file_name,
            })
            .collect()
    }

    /// The number from which the guest's stamps are made (`sim.seed`).
    pub(crate) fn seed(&self, config: &Vmx) -> u64 {
        config
            .dictionary
            .get("sim.seed")
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| crate::stamps::fnv1a(self.stem().as_bytes()))
    }

    /// VMware Tools run in the guest while it is on (`sim.tools`).
    pub(crate) fn has_tools(&self, config: &Vmx) -> bool {
        config
            .dictionary
            .get("sim.tools")
            .is_some_and(|text| text.eq_ignore_ascii_case("running"))
    }

    /// Waits for the guest's lock; puts in order what a process that died in an operation left.
    pub(crate) fn lock(&self) -> Result<Locked<'_>> {
        let mut locked = self.lock_as_it_is()?;
        locked.recover()?;
        Ok(locked)
    }

    /// Waits for the guest's lock only. Its disks must not be touched unless the state is settled.
    pub(crate) fn lock_as_it_is(&self) -> Result<Locked<'_>> {
        let path = self.vmx.with_extension("simlock");
        let lock = FileLock::acquire(&path).map_err(SimError::io("lock", &path))?;
        Ok(Locked {
            guest: self,
            state: self.state()?,
            _lock: lock,
        })
    }
}

/// A guest whose files nobody else changes.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    pub(crate) guest: &'a Guest,
    pub(crate) state: State,
    _lock: FileLock,
}

impl Locked<'_> {
    pub(crate) fn save_state(&self) -> Result<()> {
        self.state.save(&self.guest.vmx)
    }

    pub(crate) fn write_config(&self, config: &Vmx) -> Result<()> {
        let vmx = &self.guest.vmx;
        files::replace(vmx, &config.dictionary.to_bytes()).map_err(SimError::io("write", vmx))
    }

    pub(crate) fn write_vmsd(&self, vmsd: &Vmsd) -> Result<()> {
        let path = self.guest.vmsd_path();
        files::replace(&path, &vmsd.to_bytes()).map_err(SimError::io("write", &path))
    }

    pub(crate) fn is_on(&self) -> bool {
        self.state.power == Power::On
    }
}
