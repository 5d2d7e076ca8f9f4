//! The products behind VMware hosts, by the words for their kinds, and what a host says of where its guests are.

use std::path::PathBuf;

use vix_sys::{
    VIX_SERVICEPROVIDER_VMWARE_VI_SERVER, VIX_SERVICEPROVIDER_VMWARE_WORKSTATION,
    VIX_SERVICEPROVIDER_VMWARE_WORKSTATION_SHARED, VixServiceProvider,
};

use crate::{ErrorClass, ErrorKind, HostTarget, HypervisorError, Locator, Result};

pub(super) const SERVER2: &str = "server2";
pub(super) const WORKSTATION: &str = "workstation";
pub(super) const WORKSTATION_SHARED: &str = "workstation_shared";
pub(super) const ESXI: &str = "esxi";

/// Name of the property with the directory of the host's own lists.
pub(super) const CONFIG_DIR: &str = "config-dir";

/// The product behind a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    /// VMware Server 2.0.
    Server2,
    /// VMware Workstation on the worker's own machine, guests by host path.
    Workstation,
    /// Workstation Server ("shared VMs").
    WorkstationShared,
    /// ESXi or vCenter.
    Esxi,
}

impl Product {
    /// The product that a host's kind names.
    pub(super) fn of(target: &HostTarget) -> Result<Self> {
        Self::of_kind(&target.kind).map_err(|error| HypervisorError {
            message: format!("host {}: {}", target.name, error.message),
            ..error
        })
    }

    /// The product that a kind names.
    pub(super) fn of_kind(kind: &str) -> Result<Self> {
        match kind {
            SERVER2 => Ok(Self::Server2),
            WORKSTATION => Ok(Self::Workstation),
            WORKSTATION_SHARED => Ok(Self::WorkstationShared),
            ESXI => Ok(Self::Esxi),
            other => Err(HypervisorError::new(
                ErrorKind::NotSupported,
                ErrorClass::Operator,
                format!("the VIX library serves no hosts of the kind {other}"),
            )),
        }
    }

    /// What the library calls it.
    pub(super) fn provider(self) -> VixServiceProvider {
        match self {
            Self::Server2 | Self::Esxi => VIX_SERVICEPROVIDER_VMWARE_VI_SERVER,
            Self::WorkstationShared => VIX_SERVICEPROVIDER_VMWARE_WORKSTATION_SHARED,
            Self::Workstation => VIX_SERVICEPROVIDER_VMWARE_WORKSTATION,
        }
    }
}

/// Where the host's own lists lie, as this machine reads them.
pub(super) fn config_dir(target: &HostTarget) -> Option<PathBuf> {
    target.properties.get(CONFIG_DIR).map(PathBuf::from)
}

/// Names of the configurations of guests and of templates end in one of these, in any case.
const EXTENSIONS: [&str; 2] = [".vmx", ".vmtx"];

pub(super) fn refuse_locator(locator: &Locator) -> Option<String> {
    let lower = locator.as_str().to_ascii_lowercase();
    let is_configuration = EXTENSIONS
        .iter()
        .any(|extension| lower.ends_with(extension));
    (!is_configuration).then(|| {
        format!(
            "{:?} is not the path of a guest: it ends in .vmx (a template: .vmtx), for example \"[standard] mail/mail.vmx\"",
            locator.as_str()
        )
    })
}
