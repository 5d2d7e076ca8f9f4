//! The ways to hosts that a process has: one connector for each back end.

use std::{collections::BTreeMap, sync::Arc};

use super::{BackEnd, Connector, Host, HostTarget, Result};
use crate::{ErrorClass, ErrorKind, HypervisorError};

/// What came of looking whether a back end can work on this machine.
#[derive(Debug, Clone)]
pub struct Probed {
    /// The back end.
    pub back_end: &'static BackEnd,
    /// What was found, or what is missing and what to do about it.
    pub found: Result<String>,
}

/// One connector for each back end.
#[derive(Clone, Default)]
pub struct Connectors {
    of_kind: BTreeMap<&'static str, Arc<dyn Connector>>,
    all: Vec<Arc<dyn Connector>>,
}

impl Connectors {
    /// These connectors. Of two that serve the same kind of host the later one does.
    pub fn new(all: impl IntoIterator<Item = Arc<dyn Connector>>) -> Self {
        let all: Vec<Arc<dyn Connector>> = all.into_iter().collect();
        let of_kind = all
            .iter()
            .flat_map(|connector| {
                let kinds = connector.back_end().kinds.iter();
                kinds.map(|kind| (kind.word, Arc::clone(connector)))
            })
            .collect();
        Self { of_kind, all }
    }

    /// Looks which back ends can work on this machine, one after the other.
    pub async fn probe(&self) -> Vec<Probed> {
        let mut probed = Vec::with_capacity(self.all.len());
        for connector in &self.all {
            probed.push(Probed {
                back_end: connector.back_end(),
                found: connector.probe().await,
            });
        }
        probed
    }

    /// The connector for a kind of host; none if no back end of this program serves it.
    pub fn of_kind(&self, kind: &str) -> Option<&Arc<dyn Connector>> {
        self.of_kind.get(kind)
    }

    /// Connects to a host with the connector for its kind.
    ///
    /// # Errors
    /// What the connector says, and where there is none for the host's kind.
    pub async fn connect(&self, target: &HostTarget) -> Result<Arc<dyn Host>> {
        match self.of_kind.get(target.kind.as_str()) {
            Some(connector) => connector.connect(target).await,
            None => Err(HypervisorError::new(
                ErrorKind::NotSupported,
                ErrorClass::Elsewhere,
                format!(
                    "host {}: this program knows no hosts of the kind {}; it may be of an older version than the \
                     one that added the host",
                    target.name, target.kind
                ),
            )),
        }
    }
}
