//! A connected VMware host.

use std::sync::Arc;

use async_trait::async_trait;
use virtuozo_disk::MachineRoots;
use vix_sys::{VIX_FIND_REGISTERED_VMS, VIX_FIND_RUNNING_VMS};

use super::{
    child::{ChildProcess, ConnectTo, Operation},
    connection::Connection,
    guest::VixGuest,
    limits::LIMITS,
    locations::Locations,
    product::Product,
};
use crate::{Capabilities, Guest, GuestRef, Host, HostDatastore, HostFacts, HostTarget, Result};

/// A connection to a host, in a process of its own.
pub(super) struct VixHost {
    connection: Arc<Connection>,
}

impl VixHost {
    /// Connects to the host in a fresh process.
    pub(super) async fn connect(
        child: ChildProcess,
        target: HostTarget,
        allowed: MachineRoots,
    ) -> Result<Self> {
        let product = Product::of(&target)?;
        let connection = Connection {
            child,
            target,
            product,
            allowed,
        };
        let to = ConnectTo {
            label: connection.target.name.clone(),
            provider: product.provider(),
            address: connection.target.address.clone(),
            user: connection.target.user.clone(),
            password: connection.target.password.clone(),
        };
        connection
            .done(LIMITS.connect, Operation::Connect(to))
            .await?;
        Ok(Self {
            connection: Arc::new(connection),
        })
    }
}

/// The guests of a host, and where its files are.
struct Inventory {
    locations: Locations,
    guests: Vec<GuestRef>,
    /// `guests` names every guest of the host.
    is_complete: bool,
}

impl VixHost {
    /// Reads the host's inventory and its list of datastores afresh, and makes something of them.
    async fn with_inventory<T: Send + 'static>(
        &self,
        make: impl FnOnce(Inventory) -> T + Send + 'static,
    ) -> Result<T> {
        let product = self.connection.product;
        let what = match product {
            Product::Workstation => VIX_FIND_RUNNING_VMS,
            Product::Server2 | Product::WorkstationShared | Product::Esxi => {
                VIX_FIND_REGISTERED_VMS
            }
        };
        let live = self
            .connection
            .list(LIMITS.list, Operation::Find(what))
            .await?;
        self.connection
            .blocking(move |target, allowed| {
                let mut locations = Locations::load(target, allowed);
                let registered = locations.registered(target, product);
                // The host's own list is trusted; what it lists live may be less.
                let is_complete = registered.is_some();
                let mut guests = registered.unwrap_or_default();
                for path in &live {
                    let locator = locations.locator(path, product);
                    guests.extend(locator.map(GuestRef::at));
                }
                guests.sort();
                guests.dedup();
                make(Inventory {
                    locations,
                    guests,
                    is_complete,
                })
            })
            .await
    }
}

#[async_trait]
impl Host for VixHost {
    fn capabilities(&self) -> Capabilities {
        self.connection.capabilities()
    }

    async fn facts(&self) -> Result<HostFacts> {
        self.with_inventory(|inventory| HostFacts {
            datastores: inventory.locations.on_host,
            guests: inventory.guests,
            guests_are_complete: inventory.is_complete,
            warnings: inventory.locations.warnings,
        })
        .await
    }

    async fn datastores(&self) -> Result<Vec<HostDatastore>> {
        let product = self.connection.product;
        self.with_inventory(move |inventory| {
            inventory.locations.datastores(&inventory.guests, product)
        })
        .await
    }

    async fn guest(&self, guest: &GuestRef) -> Result<Arc<dyn Guest>> {
        Ok(Arc::new(VixGuest::new(
            Arc::clone(&self.connection),
            guest.clone(),
        )))
    }

    async fn close(&self) {
        self.connection.child.close().await;
    }
}
