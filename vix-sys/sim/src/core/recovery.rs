//! Completes a change of a guest's disk chains whose process died.

use super::{error::Result, guest::Locked, snapshot};

impl Locked<'_> {
    /// Puts in order what a process that died in a change left: a removal goes on, an unfinished
    /// snapshot (its frozen file is still the one the guest writes to) goes away. Nobody must have the
    /// disks open. A guest whose configuration cannot be read is left alone.
    pub(crate) fn recover(&mut self) -> Result<()> {
        if self.state.is_settled() {
            return Ok(());
        }
        let Ok(config) = self.guest.config() else {
            return Ok(());
        };
        let mut vmsd = self.guest.vmsd()?;
        if let Some(uid) = self.state.removing {
            return if vmsd.get(uid).is_some() {
                snapshot::remove_one(self, uid)
            } else {
                self.end()
            };
        }
        let disks = self.guest.disks(&config);
        if let Some(current) = vmsd.current.and_then(|uid| vmsd.get(uid)) {
            let active = current
                .disks
                .iter()
                .any(|frozen| disks.iter().any(|disk| disk.file_name == frozen.file_name));
            let uid = current.uid;
            if active && let Some(removed) = vmsd.remove(uid) {
                self.remove_state_files(removed.state_file.as_deref())?;
                self.write_vmsd(&vmsd)?;
            }
        }
        self.state.generation += 1;
        self.end()
    }
}
