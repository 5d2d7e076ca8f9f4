//! The products that can be simulated, and what sets them apart.

use vix_sys::VixServiceProvider;

/// The product a simulated host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// VMware Server 2.0: an inventory, one snapshot per guest.
    Server2,
    /// Workstation on this machine: no inventory, no login.
    Workstation,
    /// Shared guests of Workstation.
    WorkstationShared,
    /// ESXi.
    Esxi,
}

impl Product {
    const ALL: [Self; 4] = [
        Self::Server2,
        Self::Workstation,
        Self::WorkstationShared,
        Self::Esxi,
    ];

    /// As `host.conf` writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server2 => "server2",
            Self::Workstation => "workstation",
            Self::WorkstationShared => "workstation_shared",
            Self::Esxi => "esxi",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|product| product.name() == name)
    }

    /// The providers that reach it; the first is its own.
    pub(crate) fn providers(self) -> &'static [VixServiceProvider] {
        use vix_sys as v;
        match self {
            Self::Server2 | Self::Esxi => &[
                v::VIX_SERVICEPROVIDER_VMWARE_VI_SERVER,
                v::VIX_SERVICEPROVIDER_DEFAULT,
            ],
            Self::Workstation => &[
                v::VIX_SERVICEPROVIDER_VMWARE_WORKSTATION,
                v::VIX_SERVICEPROVIDER_VMWARE_PLAYER,
                v::VIX_SERVICEPROVIDER_DEFAULT,
            ],
            Self::WorkstationShared => &[v::VIX_SERVICEPROVIDER_VMWARE_WORKSTATION_SHARED],
        }
    }

    /// Guests are registered, opened by datastore path, and the user logs in.
    pub(crate) fn has_inventory(self) -> bool {
        self != Self::Workstation
    }

    pub(crate) fn has_single_snapshot(self) -> bool {
        self == Self::Server2
    }
}
