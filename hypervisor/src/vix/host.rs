//! A connected VMware host.

use std::sync::Arc;

use async_trait::async_trait;
use virtuozo_child_process::FileProcesses;
use virtuozo_disk::MachineRoots;
use vix_sys::{VIX_FIND_REGISTERED_VMS, VIX_FIND_RUNNING_VMS};

use super::{
    child::{ChildProcess, ConnectTo, Operation},
    connection::Connection,
    files::{HostWork, Inventory},
    guest::VixGuest,
    limits::LIMITS,
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
        files: FileProcesses,
    ) -> Result<Self> {
        let product = Product::of(&target)?;
        let connection = Connection {
            child,
            target,
            product,
            allowed,
            files,
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

impl VixHost {
    /// Reads the host's inventory and its list of datastores afresh.
    async fn inventory(&self) -> Result<Inventory> {
        let what = match self.connection.product {
            Product::Workstation => VIX_FIND_RUNNING_VMS,
            Product::Server2 | Product::WorkstationShared | Product::Esxi => {
                VIX_FIND_REGISTERED_VMS
            }
        };
        let live = self
            .connection
            .list(LIMITS.list, Operation::Find(what))
            .await?;
        let host = self.connection.host_files();
        self.connection.read(&HostWork::Lists { host, live }).await
    }
}

#[async_trait]
impl Host for VixHost {
    fn capabilities(&self) -> Capabilities {
        self.connection.capabilities()
    }

    async fn facts(&self) -> Result<HostFacts> {
        let inventory = self.inventory().await?;
        Ok(HostFacts {
            datastores: inventory.on_host,
            guests: inventory.guests,
            guests_are_complete: inventory.is_complete,
            warnings: inventory.warnings,
        })
    }

    async fn datastores(&self) -> Result<Vec<HostDatastore>> {
        Ok(self.inventory().await?.datastores)
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
