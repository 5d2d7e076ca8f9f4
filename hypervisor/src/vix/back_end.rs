//! The description of the VIX back end: the products that it serves, and the properties of their hosts.

use std::path::PathBuf;

use crate::{
    BackEnd, ErrorClass, ErrorKind, HostKindInfo, HostSettings, HostTarget, HypervisorError,
    Locator, Property, PropertyType, Result,
};

const SERVER2: &str = "server2";
const WORKSTATION: &str = "workstation";
const WORKSTATION_SHARED: &str = "workstation_shared";
const ESXI: &str = "esxi";

/// Name of the property with the directory of the host's own lists.
const CONFIG_DIR: &str = "config-dir";

/// VMware hosts behind the VIX library.
pub const BACK_END: BackEnd = BackEnd {
    name: "vix",
    title: "VMware's VIX library",
    kinds: &[
        HostKindInfo {
            word: SERVER2,
            title: "VMware Server 2.0",
        },
        HostKindInfo {
            word: WORKSTATION,
            title: "VMware Workstation on the worker's own machine",
        },
        HostKindInfo {
            word: WORKSTATION_SHARED,
            title: "Workstation Server (shared VMs)",
        },
        HostKindInfo {
            word: ESXI,
            title: "ESXi or vCenter",
        },
    ],
    properties: &[Property {
        name: CONFIG_DIR,
        value: PropertyType::Directory,
        help: "Directory with its datastores.xml and vmInventory.xml as workers read it",
        is_secret: false,
        is_required: false,
    }],
    refuse_address,
    refuse_locator,
};

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
        match target.kind.as_str() {
            SERVER2 => Ok(Self::Server2),
            WORKSTATION => Ok(Self::Workstation),
            WORKSTATION_SHARED => Ok(Self::WorkstationShared),
            ESXI => Ok(Self::Esxi),
            other => Err(HypervisorError::new(
                ErrorKind::NotSupported,
                ErrorClass::Operator,
                format!(
                    "host {}: the VIX library serves no hosts of the kind {other}",
                    target.name
                ),
            )),
        }
    }
}

/// Where the host's own lists lie, as this machine reads them.
pub(super) fn config_dir(target: &HostTarget) -> Option<PathBuf> {
    target.properties.get(CONFIG_DIR).map(PathBuf::from)
}

fn refuse_address(host: &HostSettings<'_>) -> Option<String> {
    match (host.kind, host.address) {
        (WORKSTATION, Some(_)) => Some(
            "a workstation host is the worker's own machine and has no address; a Workstation that shares its \
             guests is of the kind workstation_shared"
                .to_owned(),
        ),
        (WORKSTATION, None) => None,
        (kind, None) => Some(format!(
            "a host of the kind {kind} needs an address, for example https://{}:{}/sdk",
            host.name,
            if kind == SERVER2 { 8333 } else { 443 }
        )),
        (_, Some(address))
            if !address.starts_with("https://") && !address.starts_with("http://") =>
        {
            Some(format!(
                "the address {address:?} is not a URL: it has the form https://machine:port/sdk"
            ))
        }
        (_, Some(_)) => None,
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn check(kind: &str, address: Option<&str>, properties: &[(&str, &str)]) -> Option<String> {
        let properties: BTreeMap<String, String> = properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let host = HostSettings {
            name: "alpha",
            kind,
            address,
            properties: &properties,
        };
        BACK_END.check_host(&host).err()
    }

    #[test]
    fn a_remote_host_needs_a_url_and_a_local_one_has_none() {
        assert_eq!(check(ESXI, Some("https://alpha/sdk"), &[]), None);
        assert_eq!(check(WORKSTATION, None, &[]), None);
        for (kind, address, why) in [
            (SERVER2, None, "https://alpha:8333/sdk"),
            (ESXI, Some("alpha"), "is not a URL"),
            (WORKSTATION, Some("https://alpha/sdk"), "has no address"),
        ] {
            let error = check(kind, address, &[]).unwrap();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_directory_of_the_hosts_lists_is_absolute() {
        let address = Some("https://alpha/sdk");
        assert_eq!(check(ESXI, address, &[(CONFIG_DIR, "/mnt/alpha")]), None);
        let error = check(ESXI, address, &[(CONFIG_DIR, "mnt")]).unwrap();
        assert!(error.contains("absolute"), "{error}");
    }

    #[test]
    fn a_guest_is_the_path_of_its_configuration() {
        let refuse = |text: &str| (BACK_END.refuse_locator)(&Locator::new(text).unwrap());
        for good in [
            "[standard] mail/mail.vmx",
            "[standard] mail/MAIL.VMX",
            "[standard] mail/mail.vmtx",
        ] {
            assert_eq!(refuse(good), None);
        }
        assert!(refuse("mail").unwrap().contains("mail.vmx"));
    }
}
