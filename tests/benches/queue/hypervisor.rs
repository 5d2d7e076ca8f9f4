//! A hypervisor that does nothing: its guests run, have one small disk, and remember the names of their
//! snapshots, because the product looks for them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use virtuozo_disk::{BlockRange, BlockSource, DiskError, RangeKind};
use virtuozo_hypervisor::{
    BackEnd, Capabilities, ChangeId, ChangeIds, Connector, DiskFacts, FreezeRequest, Guest,
    GuestFacts, GuestImage, GuestRef, Host, HostDatastore, HostFacts, HostKindInfo, HostTarget,
    Image, ImageFile, ImageFormat, Instant, PowerOff, PowerState, Result, SmallFile,
};

/// Size of a guest's disk; all of it is zeros that need not be copied.
const DISK_BYTES: u64 = 64 * 1024;

/// Snapshots by the path of the guest.
type Snapshots = Arc<Mutex<HashMap<String, Vec<String>>>>;

/// Connects to any host at once.
#[derive(Default)]
pub(crate) struct NoHypervisor(NoHost);

#[async_trait]
impl Connector for NoHypervisor {
    fn back_end(&self) -> &'static BackEnd {
        const NONE: BackEnd = BackEnd {
            name: "none",
            title: "hosts that do nothing",
            kinds: &[HostKindInfo {
                word: "none",
                title: "a host that does nothing",
            }],
            properties: &[],
            refuse_address: |_| None,
            refuse_locator: |_| None,
            open_image: None,
        };
        &NONE
    }

    async fn probe(&self) -> Result<String> {
        Ok("none".to_owned())
    }

    async fn connect(&self, _: &HostTarget) -> Result<Arc<dyn Host>> {
        Ok(Arc::new(self.0.clone()))
    }
}

#[derive(Clone, Default)]
struct NoHost {
    snapshots: Snapshots,
}

#[async_trait]
impl Host for NoHost {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            hot_snapshots: true,
            multiple_snapshots: true,
        }
    }

    async fn facts(&self) -> Result<HostFacts> {
        Ok(HostFacts::default())
    }

    async fn datastores(&self) -> Result<Vec<HostDatastore>> {
        Ok(Vec::new())
    }

    async fn guest(&self, guest: &GuestRef) -> Result<Arc<dyn Guest>> {
        Ok(Arc::new(NoGuest {
            path: guest.locator.to_string(),
            host: self.clone(),
        }))
    }

    async fn close(&self) {}
}

struct NoGuest {
    path: String,
    host: NoHost,
}

impl NoGuest {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Vec<String>>> {
        self.host.snapshots.lock()
    }

    fn names(&self) -> Vec<String> {
        self.all().get(&self.path).cloned().unwrap_or_default()
    }
}

#[async_trait]
impl Guest for NoGuest {
    async fn facts(&self) -> Result<GuestFacts> {
        Ok(GuestFacts {
            name: self.path.clone(),
            power: PowerState::On,
            tools_running: true,
            disks: vec![DiskFacts {
                device: "scsi0:0".to_owned(),
                file_name: "disk.vmdk".to_owned(),
                datastore: None,
                capacity_bytes: Some(DISK_BYTES),
                snapshots: true,
                problem: None,
            }],
            snapshots: self.names(),
            node: None,
            datastore: None,
            change_ids: Vec::new(),
            notes: Vec::new(),
            problem: None,
        })
    }

    async fn power_state(&self) -> Result<PowerState> {
        Ok(PowerState::On)
    }

    async fn power_on(&self, _: Duration) -> Result<()> {
        Ok(())
    }

    async fn power_off(&self, _: PowerOff) -> Result<()> {
        Ok(())
    }

    async fn snapshots(&self) -> Result<Vec<String>> {
        Ok(self.names())
    }

    async fn freeze(&self, request: &FreezeRequest) -> Result<()> {
        let mut all = self.all();
        all.entry(self.path.clone())
            .or_default()
            .push(request.name.clone());
        Ok(())
    }

    async fn release(&self, name: &str, _: Duration) -> Result<bool> {
        let mut all = self.all();
        let Some(names) = all.get_mut(&self.path) else {
            return Ok(false);
        };
        let before = names.len();
        names.retain(|n| n != name);
        let removed = names.len() < before;
        if names.is_empty() {
            all.remove(&self.path);
        }
        Ok(removed)
    }

    async fn forget(&self, _: &ChangeId) -> Result<bool> {
        Ok(false)
    }

    async fn image(&self, _: &Instant, _: &ChangeIds, _: &[String]) -> Result<Image> {
        Ok(Image::Open(GuestImage {
            small: vec![SmallFile {
                name: "guest.vmx".to_owned(),
                bytes: b"displayName = \"guest\"\n".to_vec(),
            }],
            files: vec![ImageFile {
                name: "disk.raw".to_owned(),
                device: Some("scsi0:0".to_owned()),
                datastore: None,
                format: ImageFormat::Raw,
                source: Box::new(Zeros),
            }],
            foreign_snapshots: Vec::new(),
            changes: Default::default(),
        }))
    }
}

struct Zeros;

impl BlockSource for Zeros {
    fn size_bytes(&self) -> u64 {
        DISK_BYTES
    }

    fn range_at(&self, offset_bytes: u64) -> std::result::Result<BlockRange, DiskError> {
        Ok(BlockRange {
            offset_bytes,
            len_bytes: DISK_BYTES - offset_bytes,
            kind: RangeKind::Zero,
        })
    }

    fn read_at(&self, _: u64, buf: &mut [u8]) -> std::result::Result<(), DiskError> {
        buf.fill(0);
        Ok(())
    }
}
