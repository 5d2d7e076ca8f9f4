//! The products that can be simulated, and what sets them apart.

use vix_sys::{VIX_E_NOT_SUPPORTED, VixServiceProvider};

use super::error::{Result, SimError};

/// Functions that VMware Player lacks.
const NOT_IN_PLAYER: &[&str] = &[
    "VixVM_CreateSnapshot",
    "VixVM_RemoveSnapshot",
    "VixVM_RevertToSnapshot",
    "VixVM_GetNumRootSnapshots",
    "VixVM_GetRootSnapshot",
    "VixVM_GetCurrentSnapshot",
    "VixVM_GetNamedSnapshot",
    "VixSnapshot_GetNumChildren",
    "VixSnapshot_GetChild",
    "VixSnapshot_GetParent",
];
/// Functions that VMware Server 1 lacks.
const NOT_IN_SERVER1: &[&str] = &[
    OPEN_VM,
    "VixJob_GetNthProperties",
    "VixPropertyList_AllocPropertyList",
    "VixVM_CreateSnapshot",
    "VixVM_GetNumRootSnapshots",
    "VixVM_GetCurrentSnapshot",
    "VixVM_GetNamedSnapshot",
    "VixSnapshot_GetNumChildren",
    "VixSnapshot_GetChild",
    "VixSnapshot_GetParent",
];
/// Functions that VMware Server 2.0 lacks.
const NOT_IN_SERVER2: &[&str] = &[OPEN_VM];
/// Opening a guest with options or properties. Without them it is `VixVM_Open`, which every product has.
pub(crate) const OPEN_VM: &str = "VixHost_OpenVM";

/// The product a simulated host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// VMware Server 1: an inventory, guests by host path.
    Server1,
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
    const ALL: [Self; 5] = [
        Self::Server1,
        Self::Server2,
        Self::Workstation,
        Self::WorkstationShared,
        Self::Esxi,
    ];

    /// As `host.conf` writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server1 => "server1",
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
            Self::Server1 => &[v::VIX_SERVICEPROVIDER_VMWARE_SERVER],
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

    /// The provider that a connection by `asked` has: the default is the product's own.
    pub(crate) fn provider(self, asked: VixServiceProvider) -> VixServiceProvider {
        match (asked, self.providers()) {
            (vix_sys::VIX_SERVICEPROVIDER_DEFAULT, [own, ..]) => *own,
            _ => asked,
        }
    }

    /// Refuses a function that the product lacks when it is reached through `provider` (VIX API Reference, the products
    /// that support each function).
    pub(crate) fn provides(self, provider: VixServiceProvider, function: &str) -> Result<()> {
        let lacks = match (self, provider) {
            (Self::Server1, _) => NOT_IN_SERVER1,
            (Self::Server2, _) => NOT_IN_SERVER2,
            (Self::Workstation, vix_sys::VIX_SERVICEPROVIDER_VMWARE_PLAYER) => NOT_IN_PLAYER,
            _ => &[],
        };
        if lacks.contains(&function) {
            return Err(SimError::new(
                VIX_E_NOT_SUPPORTED,
                format!(
                    "{} by provider {provider} has no {function}",
                    self.version()
                ),
            ));
        }
        Ok(())
    }

    /// The product and its version, for people.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Server1 => "VMware Server 1.0.10",
            Self::Server2 => "VMware Server 2.0.2",
            Self::Workstation => "VMware Workstation 17.0.0",
            Self::WorkstationShared => "VMware Workstation Server 15.0.0",
            Self::Esxi => "VMware ESXi 5.5.0",
        }
    }

    /// Guests are registered.
    pub(crate) fn has_inventory(self) -> bool {
        self != Self::Workstation
    }

    /// Guests are named by datastore path; else by the path on the host.
    pub(crate) fn has_datastore_paths(self) -> bool {
        !matches!(self, Self::Workstation | Self::Server1)
    }

    /// A login is asked for. VMware Server 1 lets the current user in who gives none.
    pub(crate) fn asks_for_login(self, is_given: bool) -> bool {
        match self {
            Self::Workstation => false,
            Self::Server1 => is_given,
            Self::Server2 | Self::WorkstationShared | Self::Esxi => true,
        }
    }

    pub(crate) fn has_single_snapshot(self) -> bool {
        matches!(self, Self::Server1 | Self::Server2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_product_lacks_depends_on_the_provider_that_reaches_it() {
        let has = |product: Product, provider, function| {
            product
                .provides(provider, function)
                .map_err(|error| error.code)
        };
        assert_eq!(has(Product::Workstation, 3, "VixVM_CreateSnapshot"), Ok(()));
        for (product, provider, function) in [
            (Product::Workstation, 4, "VixVM_CreateSnapshot"),
            (Product::Server1, 2, "VixSnapshot_GetParent"),
            (Product::Server1, 2, OPEN_VM),
            (Product::Server2, 10, OPEN_VM),
        ] {
            assert_eq!(
                has(product, provider, function),
                Err(VIX_E_NOT_SUPPORTED),
                "{product:?} {provider} {function}"
            );
        }
        assert_eq!(has(Product::Server1, 2, "VixVM_RemoveSnapshot"), Ok(()));
        assert_eq!(has(Product::Esxi, 10, OPEN_VM), Ok(()));
    }
}
