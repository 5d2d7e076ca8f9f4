//! The port: everything that the rest of Virtuozo can ask of a hypervisor.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use virtuozo_disk::BlockSource;

use crate::{ErrorClass, HypervisorError};

/// The result of every operation of the port.
pub type Result<T> = std::result::Result<T, HypervisorError>;

/// The product behind a host. Only the factory of connections looks at it; steps ask for
/// [`Capabilities`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostKind {
    /// VMware Server 2.0.
    Server2,
    /// VMware Workstation on the worker's own machine, guests by host path.
    Workstation,
    /// Workstation Server ("shared VMs").
    WorkstationShared,
    /// ESXi or vCenter.
    Esxi,
}

/// How to reach a host.
#[derive(Debug, Clone)]
pub struct HostTarget {
    /// The name administrators gave the host; used in messages.
    pub name: String,
    /// The product.
    pub kind: HostKind,
    /// Connection string, for example `https://host:8333/sdk`; none for a local Workstation.
    pub address: Option<String>,
    /// User name; none for the current user.
    pub user: Option<String>,
    /// Password; none for the current user.
    pub password: Option<SecretString>,
    /// Directory with the host's `datastores.xml` and `vmInventory.xml` as this machine reads it.
    pub config_dir: Option<PathBuf>,
    /// Administrator's mapping: datastore name → directory as this machine reads it. A datastore that
    /// is not named here is read at the path its host gives.
    pub datastores: BTreeMap<String, PathBuf>,
}

/// What a host can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Running guests can be snapshotted.
    pub hot_snapshots: bool,
    /// A guest may have more than one snapshot. Where it may not (VMware Server), a new snapshot
    /// would overwrite a foreign one.
    pub multiple_snapshots: bool,
}

/// A guest as the host lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GuestRef {
    /// The path of the `.vmx` as the host wants it: a datastore path or a host path. The identity of
    /// a guest on its host.
    pub vmx_path: String,
}

/// What validation finds out about a host without touching any guest.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HostFacts {
    /// Datastores in `datastores.xml`: name → directory on the host.
    pub datastores: BTreeMap<String, String>,
    /// Guests in the live inventory.
    pub live: Vec<GuestRef>,
    /// `live` names every guest of the host. A host without an inventory (Workstation) lists only
    /// those that run: a guest that is missing there may just be off.
    pub live_is_complete: bool,
    /// Guests in `vmInventory.xml`; none where the host has no such file or it cannot be read.
    pub registered: Option<Vec<GuestRef>>,
    /// What could not be read, in sentences.
    pub warnings: Vec<String>,
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

/// How to bring a guest down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerOff {
    /// How long the guest's own shutdown may take (needs Tools) before the power is cut. Zero cuts
    /// it at once.
    pub soft_limit: Duration,
    /// How long to wait for the hard way.
    pub hard_limit: Duration,
}

/// Why a disk or a guest cannot be backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What to do about it.
    pub class: ErrorClass,
    /// What is wrong, as a sentence.
    pub message: String,
}

impl Problem {
    /// Something that is wrong with the guest or its files, whoever looks at them.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self {
            class: ErrorClass::Permanent,
            message: message.into(),
        }
    }
}

impl From<HypervisorError> for Problem {
    fn from(error: HypervisorError) -> Self {
        Self {
            class: error.class,
            message: error.message,
        }
    }
}

/// One disk as the guest's configuration names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFacts {
    /// Device, for example `scsi0:0`.
    pub device: String,
    /// The file the configuration names, as it stands there.
    pub file_name: String,
    /// Size of the disk in bytes, where it could be read.
    pub capacity_bytes: Option<u64>,
    /// Takes part in snapshots (not `independent-*`).
    pub snapshots: bool,
    /// Why the disk cannot be backed up; none if it can.
    pub problem: Option<Problem>,
}

/// What validation finds out about one guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFacts {
    /// Display name; the stem of the `.vmx` where it has none.
    pub name: String,
    /// Power state now.
    pub power: PowerState,
    /// Tools run in the guest.
    pub tools_running: bool,
    /// Disks, in the order of their devices.
    pub disks: Vec<DiskFacts>,
    /// Names of all snapshots, parents before children.
    pub snapshots: Vec<String>,
    /// Why the guest cannot be backed up at all; none if it can.
    pub problem: Option<Problem>,
}

/// Which instant of a guest to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instant {
    /// The state frozen by our snapshot of this exact name.
    Snapshot(String),
    /// The state of a guest that is off.
    PoweredOff,
}

/// A small file of a guest, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallFile {
    /// Name in the restore point, without directories.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A link of a disk chain, or a large file, to be copied.
pub struct ImageFile {
    /// Name in the restore point, without directories, unique in the image.
    pub name: String,
    /// The device whose chain it is part of, for progress; none for state and memory files.
    pub device: Option<String>,
    /// How it is to be stored.
    pub format: ImageFormat,
    /// The bytes. For a delta the ranges of this link alone, the rest absent.
    pub source: Box<dyn BlockSource>,
}

/// How a file of an image is to be stored in a restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageFormat {
    /// As it is.
    Raw,
    /// As a VMDK of one file, on top of `parent` if it is a delta.
    Vmdk {
        /// Name of the [`ImageFile`] below this one; it stands earlier in the list.
        parent: Option<String>,
        /// The source's `ddb.*` entries without the prefix (adapter, geometry, uuid and the like), so
        /// that the guest finds its disk as it knows it.
        disk_database: BTreeMap<String, String>,
    },
}

/// A guest at one instant, readable until the snapshot is removed or the guest powered on.
pub struct GuestImage {
    /// Configuration and firmware state, already written so that they open beside the files below:
    /// `.vmx`, `.nvram`, and `.vmsd` where foreign snapshots are part of the image.
    pub small: Vec<SmallFile>,
    /// Disk links, parents before children, then state and memory files of foreign snapshots.
    pub files: Vec<ImageFile>,
    /// Names of the foreign snapshots in the image.
    pub foreign_snapshots: Vec<String>,
}

/// Makes connections to hosts.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Checks that what the back end needs (library, network) is present on this machine and
    /// answers; the text says what was found.
    async fn probe(&self) -> Result<String>;

    /// Connects to a host.
    async fn connect(&self, target: &HostTarget) -> Result<Arc<dyn Host>>;
}

/// A connection to a host. Every wait inside has a limit.
#[async_trait]
pub trait Host: Send + Sync {
    /// What the host can do.
    fn capabilities(&self) -> Capabilities;

    /// Reads the host's inventory and configuration files afresh.
    async fn facts(&self) -> Result<HostFacts>;

    /// Opens a guest.
    async fn guest(&self, guest: &GuestRef) -> Result<Arc<dyn Guest>>;

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

    /// Powers the guest off, softly where Tools run, hard after the limit; already off is success.
    async fn power_off(&self, how: PowerOff) -> Result<()>;

    /// Names of all snapshots, parents before children.
    async fn snapshots(&self) -> Result<Vec<String>>;

    /// Takes a snapshot without memory. Fails if one of this name exists.
    async fn create_snapshot(&self, name: &str, description: &str, limit: Duration) -> Result<()>;

    /// Removes exactly the snapshot of this name and waits until its disks are merged; an absent one
    /// is success. Returns whether there was one.
    async fn remove_snapshot(&self, name: &str, limit: Duration) -> Result<bool>;

    /// Opens the guest's files as they were at `at`, without the devices in `ignored_disks`.
    async fn image(&self, at: &Instant, ignored_disks: &[String]) -> Result<GuestImage>;
}
