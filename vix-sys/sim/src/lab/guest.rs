//! A guest of a lab: its state, its disks and their check, without the C API.

use std::path::{Path, PathBuf};

use virtuozo_disk::{BlockSource, vmdk::Chain};
use vix_sys::{VIX_E_DISK_INVALIDDISK, VIX_E_SNAPSHOT_NOTFOUND};

use crate::{
    core::{
        error::{Result, SimError},
        guest::Guest,
        power, snapshot,
        state::Power,
    },
    stamps,
};

/// A simulated guest.
#[derive(Debug, Clone)]
pub struct LabGuest {
    guest: Guest,
}

impl LabGuest {
    /// The guest of a `.vmx`.
    pub fn at(vmx: impl Into<PathBuf>) -> Self {
        Self {
            guest: Guest::new(vmx.into(), false),
        }
    }

    /// Its `.vmx`.
    pub fn vmx(&self) -> &Path {
        &self.guest.vmx
    }

    /// The number from which its stamps are made, for [`stamps::check`].
    ///
    /// # Errors
    /// The `.vmx` cannot be read.
    pub fn seed(&self) -> Result<u64> {
        Ok(self.guest.seed(&self.guest.config()?))
    }

    /// The power state.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn power(&self) -> Result<Power> {
        Ok(self.guest.state()?.power)
    }

    /// The last write before it was powered off; none while it runs or after a crash.
    ///
    /// # Errors
    /// The state's file cannot be read.
    pub fn last_stamp(&self) -> Result<Option<u64>> {
        Ok(self.guest.state()?.last_stamp)
    }

    /// Powers the guest on.
    ///
    /// # Errors
    /// It is on, its disks are broken, or the guest program is missing.
    pub fn power_on(&self) -> Result<()> {
        power::on(&self.guest)
    }

    /// Powers the guest off, hard.
    ///
    /// # Errors
    /// It is not on.
    pub fn power_off(&self) -> Result<()> {
        power::off(&self.guest, false, &|| false)
    }

    /// Kills the guest's process: the guest has crashed, and its locks stay behind.
    ///
    /// # Errors
    /// The state's file cannot be read.
    pub fn kill(&self) -> Result<()> {
        power::kill(&self.guest)
    }

    /// Names of all snapshots, parents before children.
    ///
    /// # Errors
    /// The `.vmsd` cannot be read.
    pub fn snapshots(&self) -> Result<Vec<String>> {
        let vmsd = self.guest.settled_vmsd()?;
        Ok(vmsd
            .parents_first()
            .into_iter()
            .map(|one| one.name.clone())
            .collect())
    }

    /// Takes a snapshot.
    ///
    /// # Errors
    /// Those of the product.
    pub fn create_snapshot(&self, name: &str) -> Result<()> {
        snapshot::create(&self.guest, name, "", false).map(|_| ())
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// Those of the product.
    pub fn remove_snapshot(&self, name: &str) -> Result<()> {
        let uid = snapshot::named(&self.guest.settled_vmsd()?, name)?;
        snapshot::remove(&self.guest, uid, false)
    }

    /// The files its disks are in now, in the order of devices.
    ///
    /// # Errors
    /// The `.vmx` cannot be read.
    pub fn current_disks(&self) -> Result<Vec<PathBuf>> {
        let disks = self.guest.disks(&self.guest.config()?);
        Ok(disks.into_iter().map(|disk| disk.path).collect())
    }

    /// The files a snapshot froze, in the order of devices.
    ///
    /// # Errors
    /// There is no snapshot of this name, or several.
    pub fn frozen_disks(&self, name: &str) -> Result<Vec<PathBuf>> {
        let vmsd = self.guest.settled_vmsd()?;
        let uid = snapshot::named(&vmsd, name)?;
        let entry = vmsd.get(uid).ok_or_else(|| {
            SimError::new(
                VIX_E_SNAPSHOT_NOTFOUND,
                format!("there is no snapshot {name}"),
            )
        })?;
        let dir = self.guest.dir();
        Ok(entry
            .disks
            .iter()
            .map(|disk| dir.join(&disk.file_name))
            .collect())
    }

    /// Checks that these disks of the guest (all, in the order of devices) show one instant, and says
    /// which: the number of the last write they hold.
    ///
    /// # Errors
    /// A disk cannot be read, or a sentence from [`stamps::check`].
    pub fn check(&self, disks: &[PathBuf]) -> Result<u64> {
        let chains: Vec<Chain> = disks
            .iter()
            .map(|path| Chain::open(path, &[]))
            .collect::<std::result::Result<_, _>>()?;
        let sources: Vec<&dyn BlockSource> = chains.iter().map(|chain| chain as _).collect();
        stamps::check(self.seed()?, &sources)
            .map_err(|why| SimError::new(VIX_E_DISK_INVALIDDISK, why))
    }
}
