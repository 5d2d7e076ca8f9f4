//! The port: everything that the rest of Virtuozo can ask of a hypervisor.

mod back_end;
mod connectors;
mod facts;
mod image;
mod instant;
mod name;
mod restore;

pub use back_end::{BackEnd, HostKindInfo, HostSettings, OpenImage, Property, PropertyType};
pub use connectors::{Connectors, Probed};
pub use facts::{DiskFacts, GuestFacts, HostDatastore, HostFacts, PowerState, Problem};
pub use image::{
    DiskProperties, Geometry, GuestImage, Image, ImageFile, ImageFiles, ImageFormat, SmallFile,
};
pub use instant::{ByteRange, ChangeIds, ChangedRanges, DiskChanges, FreezeRequest, Instant};
pub use name::{ChangeId, GuestRef, InvalidName, Locator};
pub use restore::{
    DiskDescription, DiskWriter, Firmware, GuestDescription, NetworkDescription, Restorer,
};

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::{ErrorClass, ErrorKind, HypervisorError};

/// The result of every operation of the port.
pub type Result<T> = std::result::Result<T, HypervisorError>;

/// How to reach a host.
#[derive(Debug, Clone)]
pub struct HostTarget {
    /// The name administrators gave the host; used in messages.
    pub name: String,
    /// The kind of host, one of the words in [`BackEnd::kinds`].
    pub kind: String,
    /// Connection string; none where the host is this machine.
    pub address: Option<String>,
    /// User name; none for the current user.
    pub user: Option<String>,
    /// Password; none for the current user.
    pub password: Option<SecretString>,
    /// What else the back end has to know, by the names in [`BackEnd::properties`].
    pub properties: BTreeMap<String, String>,
    /// Administrator's mapping: datastore name → directory as this machine reads it. A datastore that
    /// is not named here is read at the path its host gives.
    pub datastores: BTreeMap<String, PathBuf>,
    /// How long nothing may move while files of guests are read.
    pub file_silence: Duration,
}

/// What a host can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Running guests can be frozen ([`Guest::freeze`]), by a snapshot or a backup job.
    pub hot_snapshots: bool,
    /// A guest may have more than one snapshot. Where it may not, a new snapshot would overwrite a
    /// foreign one.
    pub multiple_snapshots: bool,
}

/// How to bring a guest down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerOff {
    /// How long the guest's own shutdown may take before the power is cut. Zero cuts it at once.
    pub soft_limit: Duration,
    /// How long to wait for the hard way.
    pub hard_limit: Duration,
}

/// Makes connections to the hosts of one back end.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Which kinds of host these are, and what has to be said about them.
    fn back_end(&self) -> &'static BackEnd;

    /// Checks that what the back end needs (library, network) is present on this machine and
    /// answers; the text says what was found.
    async fn probe(&self) -> Result<String>;

    /// Checks also that hosts of a kind can be connected to from this machine, as far as that can be said without one.
    async fn probe_kind(&self, _kind: &str) -> Result<String> {
        self.probe().await
    }

    /// Connects to a host.
    async fn connect(&self, target: &HostTarget) -> Result<Arc<dyn Host>>;
}

/// A connection to a host. Every wait inside has a limit.
#[async_trait]
pub trait Host: Send + Sync {
    /// What the host can do.
    fn capabilities(&self) -> Capabilities;

    /// Reads the host's inventory and configuration afresh.
    async fn facts(&self) -> Result<HostFacts>;

    /// Reads which datastores the host has, and which guests are registered in each; one that no files are read from is
    /// left out.
    async fn datastores(&self) -> Result<Vec<HostDatastore>>;

    /// Opens a guest. Where the reference has a UUID and another guest stands at its locator, it is not found.
    async fn guest(&self, guest: &GuestRef) -> Result<Arc<dyn Guest>>;

    /// How guests are made on this host; where they cannot be, [`ErrorKind::NotSupported`] with the
    /// reason.
    fn restorer(&self) -> Result<Arc<dyn Restorer>> {
        Err(HypervisorError::new(
            ErrorKind::NotSupported,
            ErrorClass::Permanent,
            "guests cannot be made on hosts of this kind; restore the files, and register the guest by hand",
        ))
    }

    /// Ends the connection and everything opened through it. Idempotent.
    async fn close(&self);
}

/// A guest on a connected host. Every change is idempotent.
#[async_trait]
pub trait Guest: Send + Sync {
    /// Reads configuration, disks, snapshots and power state afresh. A broken guest is an answer
    /// ([`GuestFacts::problem`]), not an error.
    async fn facts(&self) -> Result<GuestFacts>;

    /// The power state now.
    async fn power_state(&self) -> Result<PowerState>;

    /// Powers the guest on; already on is success.
    async fn power_on(&self, limit: Duration) -> Result<()>;

    /// Powers the guest off, softly where its own shutdown can be asked for, hard after the limit; already
    /// off is success.
    async fn power_off(&self, how: PowerOff) -> Result<()>;

    /// Names of all snapshots, parents before children, and of backup jobs that run.
    async fn snapshots(&self) -> Result<Vec<String>>;

    /// Freezes all disks of a running guest at one instant, under a name by which the instant is found again
    /// from any machine until it is released. Fails if something of this name exists.
    ///
    /// How back ends do it:
    /// * by a snapshot (VIX, vSphere, XAPI): the guest goes on in new files, what is frozen stays until the
    ///   snapshot is removed. `since` is of no use yet: the change ids are asked for in [`Self::image`].
    /// * by a backup job (libvirt): the job keeps what the guest overwrites in scratch files. The old mark
    ///   in `since` is part of the order, since the job exports its bitmap, and the mark of this instant is
    ///   made with it. The job ends with [`Self::release`], and what it would have reported is lost.
    async fn freeze(&self, request: &FreezeRequest) -> Result<()>;

    /// Releases exactly the instant of this name: removes the snapshot and waits until its disks are merged, or
    /// ends the backup job. An absent one is success. Returns whether there was one.
    async fn release(&self, name: &str, limit: Duration) -> Result<bool>;

    /// The guest's files as they were at `at`, without the devices in `ignored_disks`; once they are opened, they say
    /// for each disk what has changed since its change id in `since`. The same `since` goes to [`Self::freeze`] and here.
    ///
    /// A back end that asks for changes afterwards (vSphere: by the frozen snapshot and the old id; XAPI: by both
    /// instants, before it opens the newer one) does so here. One that had to know the old mark when it froze the
    /// guest (libvirt) reads what its job exports here; if the job was begun with another mark, the changes
    /// are [`ChangedRanges::Unknown`]. So they are whenever a mark is gone, or is of another disk or size; the
    /// caller then copies the disk in full. The answer never leaves out a range that has changed.
    async fn image(
        &self,
        at: &Instant,
        since: &ChangeIds,
        ignored_disks: &[String],
    ) -> Result<Image>;

    /// Removes what the host keeps for a change id that no backup will be compared with any more: a checkpoint,
    /// a snapshot's metadata. An absent one is success, and so is one for which nothing is kept. Returns
    /// whether something was removed. [`GuestFacts::change_ids`] lists what is still kept.
    async fn forget(&self, change_id: &ChangeId) -> Result<bool>;
}
