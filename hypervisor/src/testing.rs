//! A hypervisor in memory, with faults: guests whose disks are byte vectors, instants that freeze them.
//!
//! It holds to the port, and shows what VIX cannot: changed ranges in both ways, nodes, UUIDs, restore. Tests of
//! what stands above the port use it as well.

mod guest;
mod restore;
mod world;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;

pub use world::{
    Act, ChangeTracking, DISK, DISK_BYTES, Disks, FakeGuest, FakeSnapshot, PausedCall, When, World,
    path, pattern, pattern_of,
};

use self::{guest::Handle, restore::FakeRestorer, world::not_there};
use crate::{
    BackEnd, Capabilities, Connector, ErrorClass, ErrorKind, Guest, GuestRef, Host, HostDatastore,
    HostFacts, HostKindInfo, HostTarget, HypervisorError, Property, PropertyType, Restorer, Result,
};

/// Hosts in memory.
pub const BACK_END: BackEnd = BackEnd {
    name: "memory",
    title: "hosts in memory, for tests",
    kinds: &[HostKindInfo {
        word: "memory",
        title: "a host in memory",
    }],
    properties: &[Property {
        name: "rack",
        value: PropertyType::Text,
        help: "Where it stands",
        is_secret: false,
        is_required: false,
    }],
    refuse_address: |_| None,
    refuse_locator: |_| None,
    open_image: None,
};

/// A process's way into the world.
#[derive(Clone)]
pub struct FakeConnector {
    /// The world.
    pub world: Arc<World>,
    /// The datastores are mounted on its machine. Where not, a guest can be seen whose datastore is mapped to a directory that
    /// exists.
    pub is_mounted: bool,
    /// The machine has what the back end needs.
    pub is_usable: Arc<AtomicBool>,
}

impl FakeConnector {
    /// One on a machine that lacks nothing.
    pub fn new(world: Arc<World>) -> Self {
        Self {
            world,
            is_mounted: true,
            is_usable: Arc::new(AtomicBool::new(true)),
        }
    }

    fn usable(&self) -> Result<()> {
        if self.is_usable.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(HypervisorError::new(
            ErrorKind::LibraryMissing,
            ErrorClass::Elsewhere,
            "this machine has no memory; install some",
        ))
    }
}

#[async_trait]
impl Connector for FakeConnector {
    fn back_end(&self) -> &'static BackEnd {
        &BACK_END
    }

    async fn probe(&self) -> Result<String> {
        self.usable().map(|()| "memory is there".to_owned())
    }

    async fn connect(&self, target: &HostTarget) -> Result<Arc<dyn Host>> {
        self.usable()?;
        let world = &self.world;
        world.pass("connect", &target.name, When::Before).await?;
        let now = world.connections.fetch_add(1, Ordering::SeqCst) + 1;
        world.most_connections.fetch_max(now, Ordering::SeqCst);
        Ok(Arc::new(FakeHost {
            world: Arc::clone(world),
            is_mounted: self.is_mounted,
            datastores: target.datastores.clone(),
            name: target.name.clone(),
            open: AtomicBool::new(true),
        }))
    }
}

struct FakeHost {
    world: Arc<World>,
    is_mounted: bool,
    /// Where its machine reads them.
    datastores: BTreeMap<String, PathBuf>,
    name: String,
    open: AtomicBool,
}

impl FakeHost {
    /// With several hosts in the world, a guest belongs to the host whose name its own begins with.
    fn has(&self, path: &str) -> bool {
        self.name == "lab" || path.starts_with(&format!("[standard] {}", self.name))
    }
}

#[async_trait]
impl Host for FakeHost {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            hot_snapshots: true,
            multiple_snapshots: !self.world.one_snapshot_only.load(Ordering::SeqCst),
        }
    }

    async fn facts(&self) -> Result<HostFacts> {
        self.world
            .pass("host_facts", &self.name, When::Before)
            .await?;
        if !self.open.load(Ordering::SeqCst) {
            return Err(HypervisorError::new(
                ErrorKind::ConnectionLost,
                ErrorClass::Retry,
                format!("host {}: the connection is closed", self.name),
            ));
        }
        let mut guests = Vec::new();
        for (path, guest) in self.world.lock().iter() {
            if self.has(path) {
                guests.push(GuestRef {
                    locator: world::locator(path)?,
                    uuid: guest.uuid,
                });
            }
        }
        Ok(HostFacts {
            guests,
            guests_are_complete: true,
            ..HostFacts::default()
        })
    }

    async fn datastores(&self) -> Result<Vec<HostDatastore>> {
        let guests = self.facts().await?.guests.into_iter();
        let files = guests.filter_map(|guest| {
            let file = guest.locator.as_str().strip_prefix("[standard] ");
            file.map(str::to_owned)
        });
        Ok(vec![HostDatastore {
            name: "standard".to_owned(),
            directory: None,
            guest_files: files.collect(),
        }])
    }

    async fn guest(&self, guest: &GuestRef) -> Result<Arc<dyn Guest>> {
        let path = guest.locator.as_str();
        self.world.pass("open", path, When::Before).await?;
        let uuid = match self.world.lock().get(path) {
            Some(found) => found.uuid,
            None => return Err(not_there("there is no such guest")),
        };
        if guest.uuid.is_some() && guest.uuid != uuid {
            return Err(not_there("another guest stands there"));
        }
        Ok(Arc::new(Handle {
            world: Arc::clone(&self.world),
            missing: (!self.is_mounted).then(|| self.datastores.clone()),
            path: path.to_owned(),
        }))
    }

    fn restorer(&self) -> Result<Arc<dyn Restorer>> {
        Ok(Arc::new(FakeRestorer {
            world: Arc::clone(&self.world),
        }))
    }

    async fn close(&self) {
        if self.open.swap(false, Ordering::SeqCst) {
            self.world.connections.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
