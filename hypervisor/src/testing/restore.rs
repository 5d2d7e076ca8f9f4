//! Guests that are made in memory.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::world::{FakeGuest, Unfinished, When, World, locator, not_there, path};
use crate::{
    DiskWriter, ErrorClass, ErrorKind, GuestDescription, GuestRef, HypervisorError, PowerState,
    Restorer, Result,
};

pub(super) struct FakeRestorer {
    pub(super) world: Arc<World>,
}

impl FakeRestorer {
    fn all_unfinished<T>(&self, look: impl FnOnce(&mut BTreeMap<Uuid, Unfinished>) -> T) -> T {
        look(&mut self.world.unfinished.lock())
    }

    fn registered<T>(&self, look: impl FnOnce(&mut BTreeMap<Uuid, GuestRef>) -> T) -> T {
        look(&mut self.world.registered.lock())
    }

    async fn pass(&self, operation: &'static str, when: When) -> Result<()> {
        self.world.pass(operation, "", when).await
    }
}

#[async_trait]
impl Restorer for FakeRestorer {
    async fn create(&self, description: &GuestDescription, _: Duration) -> Result<()> {
        self.pass("create", When::Before).await?;
        self.all_unfinished(|all| {
            all.entry(description.restore_id)
                .or_insert_with(|| Unfinished {
                    name: description.name.clone(),
                    uuid: description.uuid,
                    node: description.node.clone(),
                    disks: description
                        .disks
                        .iter()
                        .map(|disk| (disk.device.clone(), vec![0; disk.capacity_bytes as usize]))
                        .collect(),
                });
        });
        self.pass("create", When::After).await
    }

    async fn write_disk(&self, restore_id: Uuid, device: &str) -> Result<Box<dyn DiskWriter>> {
        self.pass("write_disk", When::Before).await?;
        let size_bytes = self.all_unfinished(|all| {
            let guest = all
                .get(&restore_id)
                .ok_or_else(|| not_there("no such restore"))?;
            let disk = guest.disks.get(device).ok_or_else(|| {
                HypervisorError::new(
                    ErrorKind::GuestInvalid,
                    ErrorClass::Permanent,
                    format!("the guest has no disk {device}"),
                )
            })?;
            Ok::<_, HypervisorError>(disk.len() as u64)
        })?;
        Ok(Box::new(Writer {
            world: Arc::clone(&self.world),
            restore_id,
            device: device.to_owned(),
            size_bytes,
        }))
    }

    async fn register(&self, restore_id: Uuid, _: Duration) -> Result<GuestRef> {
        self.pass("register", When::Before).await?;
        if let Some(guest) = self.registered(|all| all.get(&restore_id).cloned()) {
            return Ok(guest);
        }
        let made = self
            .all_unfinished(|all| all.remove(&restore_id))
            .ok_or_else(|| not_there("no such restore"))?;
        let path = path(&made.name);
        let disks = made
            .disks
            .into_iter()
            .map(|(device, bytes)| (device, Arc::new(bytes)))
            .collect();
        let mut guest = FakeGuest::new(PowerState::Off, disks);
        guest.uuid = made.uuid;
        guest.node = made.node;
        let registered = GuestRef {
            locator: locator(&path)?,
            uuid: guest.uuid,
        };
        self.world.lock().insert(path, guest);
        self.registered(|all| all.insert(restore_id, registered.clone()));
        self.pass("register", When::After).await?;
        Ok(registered)
    }

    async fn remove(&self, restore_id: Uuid, _: Duration) -> Result<bool> {
        self.pass("remove", When::Before).await?;
        let removed = self.all_unfinished(|all| all.remove(&restore_id).is_some());
        self.pass("remove", When::After).await?;
        Ok(removed)
    }

    async fn unfinished(&self) -> Result<Vec<Uuid>> {
        self.pass("unfinished", When::Before).await?;
        Ok(self.all_unfinished(|all| all.keys().copied().collect()))
    }
}

struct Writer {
    world: Arc<World>,
    restore_id: Uuid,
    device: String,
    size_bytes: u64,
}

impl DiskWriter for Writer {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn write_at(&mut self, offset_bytes: u64, bytes: &[u8]) -> Result<()> {
        let end = offset_bytes.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.size_bytes) {
            return Err(HypervisorError::new(
                ErrorKind::Other,
                ErrorClass::Permanent,
                format!(
                    "{}: {offset_bytes} is past the end of the disk",
                    self.device
                ),
            ));
        }
        let mut unfinished = self.world.unfinished.lock();
        let disk = unfinished
            .get_mut(&self.restore_id)
            .and_then(|guest| guest.disks.get_mut(&self.device))
            .ok_or_else(|| not_there("the guest was removed"))?;
        let from = offset_bytes as usize;
        disk[from..from + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
