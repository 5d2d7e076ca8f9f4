//! One connection to a VMware host: requests to its process, what the host is, and work on its files.

use std::time::Duration;

use virtuozo_disk::MachineRoots;

use super::{
    child::{Answer, ChildProcess, Operation},
    limits::LIMITS,
    product::Product,
    session::Snapshots,
};
use crate::{Capabilities, ErrorClass, ErrorKind, HostTarget, HypervisorError, Result};

/// A connection to a host, which the host and its guests share.
pub(super) struct Connection {
    pub(super) child: ChildProcess,
    pub(super) target: HostTarget,
    pub(super) product: Product,
    /// Below which directories this machine reads guests' files.
    pub(super) allowed: MachineRoots,
}

impl Connection {
    /// Requests an operation without a result.
    pub(super) async fn done(&self, limit: Duration, operation: Operation) -> Result<()> {
        match self.child.call(limit, operation).await? {
            Answer::Done => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Requests an operation that answers yes or no.
    pub(super) async fn flag(&self, limit: Duration, operation: Operation) -> Result<bool> {
        match self.child.call(limit, operation).await? {
            Answer::Flag(flag) => Ok(flag),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Requests an operation that answers a number.
    pub(super) async fn number(&self, limit: Duration, operation: Operation) -> Result<i32> {
        match self.child.call(limit, operation).await? {
            Answer::Number(number) => Ok(number),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Requests an operation that answers a list.
    pub(super) async fn list(&self, limit: Duration, operation: Operation) -> Result<Vec<String>> {
        match self.child.call(limit, operation).await? {
            Answer::List(list) => Ok(list),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Requests the names of a guest's snapshots; where the library does not tell them, their number.
    pub(super) async fn snapshots(&self, vmx_path: String) -> Result<Snapshots> {
        let operation = Operation::Snapshots { vmx_path };
        match self.child.call(LIMITS.question, operation).await? {
            Answer::List(names) => Ok(Snapshots::Named(names)),
            Answer::Number(number) => Ok(Snapshots::Unnamed(
                usize::try_from(number).unwrap_or_default(),
            )),
            other => Err(self.unexpected(&other)),
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

    /// Runs work on files on a thread that may block.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&HostTarget, &MachineRoots) -> T + Send + 'static,
    ) -> Result<T> {
        let (target, allowed) = (self.target.clone(), self.allowed.clone());
        tokio::task::spawn_blocking(move || work(&target, &allowed))
            .await
            .map_err(|error| {
                HypervisorError::new(
                    ErrorKind::Other,
                    ErrorClass::Retry,
                    format!("host {}: reading files failed: {error}", self.target.name),
                )
            })
    }

    fn unexpected(&self, answer: &Answer) -> HypervisorError {
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
