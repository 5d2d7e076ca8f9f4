//! How a guest is made on a host: from a neutral description, with disks that are written at offsets.
//!
//! The caller writes down what it is going to make before it asks, under an id of its own, so that a guest
//! whose maker died is found and removed by that id: with [`Restorer::unfinished`] and [`Restorer::remove`].

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DiskProperties, GuestRef, Result};

/// What starts a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Firmware {
    /// A PC's BIOS.
    Bios,
    /// UEFI.
    Uefi,
}

/// A disk to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskDescription {
    /// Device, as the guest it is restored from had it.
    pub device: String,
    /// Size in bytes.
    pub capacity_bytes: u64,
    /// What the guest knows it by.
    pub properties: DiskProperties,
}

/// A network card to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkDescription {
    /// The card, by the name it has in the field: `e1000`, `virtio`.
    pub adapter: Option<String>,
    /// Its address, `00:11:22:33:44:55`; none: a new one.
    pub mac: Option<String>,
    /// The host's network it is plugged into; none: into none.
    pub network: Option<String>,
}

/// A guest to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestDescription {
    /// The caller's id for this restore, by which the guest is found again until it is registered.
    pub restore_id: Uuid,
    /// Display name.
    pub name: String,
    /// The UUID it is to have; none: a new one.
    pub uuid: Option<Uuid>,
    /// What starts it.
    pub firmware: Firmware,
    /// Processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Disks, the one it starts from first.
    pub disks: Vec<DiskDescription>,
    /// Network cards.
    pub networks: Vec<NetworkDescription>,
    /// The datastore it is to lie in; none: the host's choice.
    pub datastore: Option<String>,
    /// The machine of the host that is to run it; none: the host's choice.
    pub node: Option<String>,
}

/// Writes a disk of a guest that was made and is not registered yet. Calls block.
pub trait DiskWriter: Send {
    /// Size of the disk in bytes.
    fn size_bytes(&self) -> u64;

    /// Writes all of `bytes` at an offset; what was never written reads as zeros.
    ///
    /// # Errors
    /// What the host says, and where the range is not within the disk.
    fn write_at(&mut self, offset_bytes: u64, bytes: &[u8]) -> Result<()>;

    /// Everything written is durable, and the disk is closed.
    ///
    /// # Errors
    /// What the host says: the disk then has to be written again.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Makes guests on a connected host.
#[async_trait]
pub trait Restorer: Send + Sync {
    /// Makes a guest with empty disks, which is off. One that was made under this id is taken instead of a
    /// second one.
    async fn create(&self, description: &GuestDescription, limit: Duration) -> Result<()>;

    /// Opens a disk of a guest that was made under this id and is not registered.
    async fn write_disk(&self, restore_id: Uuid, device: &str) -> Result<Box<dyn DiskWriter>>;

    /// Hands the guest over to the host's administrators: from here on it is a guest like any other, listed and
    /// off, which [`Self::remove`] and [`Self::unfinished`] no longer find. Repeated, it gives the same guest.
    async fn register(&self, restore_id: Uuid, limit: Duration) -> Result<GuestRef>;

    /// Removes a guest that was made under this id and is not registered, with its disks. An absent one is
    /// success. Returns whether there was one.
    async fn remove(&self, restore_id: Uuid, limit: Duration) -> Result<bool>;

    /// The ids of guests that were made and neither registered nor removed.
    async fn unfinished(&self) -> Result<Vec<Uuid>>;
}
