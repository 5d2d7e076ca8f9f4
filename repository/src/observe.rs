//! How long operations report their progress, and ask whether they may go on.

use std::path::Path;

use crate::Stopped;

/// Watches a copy, a verification or a restore. Called from several threads.
pub trait CopyObserver: Sync {
    /// `copied_bytes` of `total_bytes` are done. In a copy both count the bytes to be read, without
    /// zero and absent ranges; in a verification or restore they count stored bytes.
    ///
    /// `device_or_file` is the device where the file belongs to one, else the file's name. Each link
    /// of a disk chain is a file of its own and counts from 0.
    fn progress(&self, device_or_file: &str, copied_bytes: u64, total_bytes: u64);

    /// Called before each chunk of work. May block, for example while it is uncertain whether the
    /// caller still holds its lease.
    ///
    /// # Errors
    /// [`Stopped`] ends the operation, leaving nothing that counts as complete.
    fn wait_allowed(&self) -> std::result::Result<(), Stopped>;

    /// A file of a copy is synced from now until [`sync_ended`](Self::sync_ended); one at a time.
    fn sync_begins(&self, _file: &Path) {}

    /// The sync that began last has ended well.
    fn sync_ended(&self) {}

    /// What a copy has stored was made durable, so that a successor can go on from here.
    fn durable(&self) {}
}

/// Watches nothing and allows everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl CopyObserver for Unobserved {
    fn progress(&self, _: &str, _: u64, _: u64) {}

    fn wait_allowed(&self) -> std::result::Result<(), Stopped> {
        Ok(())
    }
}
