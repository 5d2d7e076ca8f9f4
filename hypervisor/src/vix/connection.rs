//! One connection to a VMware host: requests to its process, what the host is, and reading its files.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use virtuozo_child_process::FileProcesses;
use virtuozo_disk::MachineRoots;

use super::{
    child::{Answer, ChildProcess, Operation},
    files::{FILE_WORK, HostFiles, HostWork, not_understood},
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
    /// The processes that read files.
    pub(super) files: FileProcesses,
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

    /// Where the host's files are, for another process.
    pub(super) fn host_files(&self) -> HostFiles {
        HostFiles::of(&self.target, &self.allowed)
    }

    /// Has files read in a process that can be given up.
    pub(super) async fn read<T: DeserializeOwned>(&self, work: &HostWork) -> Result<T> {
        let silence = self.target.file_silence;
        let reading = self.files.call::<Result<Value>>(FILE_WORK, work, silence);
        let answer = reading.await.map_err(|error| {
            let kind = match error.is_silence() {
                true => ErrorKind::FilesSilent,
                false => ErrorKind::Other,
            };
            HypervisorError::new(
                kind,
                error.class(),
                format!("host {}: {error}", self.target.name),
            )
        })?;
        serde_json::from_value(answer?).map_err(|error| not_understood(&error))
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
