//! A connected VMware host.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use vix_sys::{
    VIX_FIND_REGISTERED_VMS, VIX_FIND_RUNNING_VMS, VIX_SERVICEPROVIDER_VMWARE_VI_SERVER,
    VIX_SERVICEPROVIDER_VMWARE_WORKSTATION, VIX_SERVICEPROVIDER_VMWARE_WORKSTATION_SHARED,
};

use super::{
    back_end::Product,
    child::{Answer, ChildProcess, ConnectTo, Operation},
    guest::VixGuest,
    locations::Locations,
};
use crate::{
    Capabilities, ErrorClass, ErrorKind, Guest, GuestRef, Host, HostFacts, HostTarget,
    HypervisorError, Result,
};

/// How long the host may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);
/// How long the host may take to list its guests.
const LIST_LIMIT: Duration = Duration::from_secs(60);

/// A connection to a host, in a process of its own.
pub(super) struct VixHost {
    link: Arc<Link>,
}

/// What guests need of their host.
pub(super) struct Link {
    child: ChildProcess,
    pub(super) target: HostTarget,
    product: Product,
}

impl Link {
    /// Asks for an operation that answers nothing.
    pub(super) async fn order(&self, limit: Duration, operation: Operation) -> Result<()> {
        match self.child.call(limit, operation).await? {
            Answer::Done => Ok(()),
            other => Err(self.odd(&other)),
        }
    }

    /// Asks for an operation that answers yes or no.
    pub(super) async fn flag(&self, limit: Duration, operation: Operation) -> Result<bool> {
        match self.child.call(limit, operation).await? {
            Answer::Flag(flag) => Ok(flag),
            other => Err(self.odd(&other)),
        }
    }

    /// Asks for an operation that answers a number.
    pub(super) async fn number(&self, limit: Duration, operation: Operation) -> Result<i32> {
        match self.child.call(limit, operation).await? {
            Answer::Number(number) => Ok(number),
            other => Err(self.odd(&other)),
        }
    }

    /// Asks for an operation that answers a list.
    pub(super) async fn list(&self, limit: Duration, operation: Operation) -> Result<Vec<String>> {
        match self.child.call(limit, operation).await? {
            Answer::List(list) => Ok(list),
            other => Err(self.odd(&other)),
        }
    }

    /// What the host can do.
    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities {
            hot_snapshots: true,
            // VMware Server keeps one snapshot for each guest and overwrites it.
            multiple_snapshots: self.product != Product::Server2,
        }
    }

    /// Runs work on files where it may block.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&HostTarget) -> T + Send + 'static,
    ) -> Result<T> {
        let target = self.target.clone();
        tokio::task::spawn_blocking(move || work(&target))
            .await
            .map_err(|error| {
                HypervisorError::new(
                    ErrorKind::Other,
                    ErrorClass::Retry,
                    format!("host {}: reading files failed: {error}", self.target.name),
                )
            })
    }

    fn odd(&self, answer: &Answer) -> HypervisorError {
        HypervisorError::new(
            ErrorKind::Other,
            ErrorClass::Permanent,
            format!(
                "host {}: the process for its connection is of another version: it answered {answer:?}",
                self.target.name
            ),
        )
    }
}

impl VixHost {
    /// Connects to the host in a fresh process.
    pub(super) async fn connect(child: ChildProcess, target: HostTarget) -> Result<Self> {
        let product = Product::of(&target)?;
        let provider = match product {
            Product::Server2 | Product::Esxi => VIX_SERVICEPROVIDER_VMWARE_VI_SERVER,
            Product::WorkstationShared => VIX_SERVICEPROVIDER_VMWARE_WORKSTATION_SHARED,
            Product::Workstation => VIX_SERVICEPROVIDER_VMWARE_WORKSTATION,
        };
        let link = Link {
            child,
            target,
            product,
        };
        let to = ConnectTo {
            label: link.target.name.clone(),
            provider,
            address: link.target.address.clone(),
            user: link.target.user.clone(),
            password: link.target.password.clone(),
        };
        link.order(CONNECT_LIMIT, Operation::Connect(to)).await?;
        Ok(Self {
            link: Arc::new(link),
        })
    }
}

#[async_trait]
impl Host for VixHost {
    fn capabilities(&self) -> Capabilities {
        self.link.capabilities()
    }

    async fn facts(&self) -> Result<HostFacts> {
        let product = self.link.product;
        let what = match product {
            Product::Workstation => VIX_FIND_RUNNING_VMS,
            Product::Server2 | Product::WorkstationShared | Product::Esxi => {
                VIX_FIND_REGISTERED_VMS
            }
        };
        let live = self.link.list(LIST_LIMIT, Operation::Find(what)).await?;
        self.link
            .blocking(move |target| {
                let mut locations = Locations::load(target);
                let registered = locations.registered(target, product);
                // The host's own list is trusted; what it lists live may be less.
                let guests_are_complete = registered.is_some();
                let mut guests = registered.unwrap_or_default();
                for path in &live {
                    let locator = locations.locator(path, product);
                    guests.extend(locator.map(GuestRef::at));
                }
                guests.sort();
                guests.dedup();
                HostFacts {
                    datastores: locations.on_host,
                    guests,
                    guests_are_complete,
                    warnings: locations.warnings,
                }
            })
            .await
    }

    async fn guest(&self, guest: &GuestRef) -> Result<Arc<dyn Guest>> {
        Ok(Arc::new(VixGuest::new(
            Arc::clone(&self.link),
            guest.clone(),
        )))
    }

    async fn close(&self) {
        self.link.child.close().await;
    }
}
