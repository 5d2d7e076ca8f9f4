//! The description of the VIX back end: the products that it serves, and the properties of their hosts.

use super::{
    files::open_image,
    product::{CONFIG_DIR, ESXI, SERVER2, WORKSTATION, WORKSTATION_SHARED, refuse_locator},
};
use crate::{BackEnd, HostKindInfo, HostSettings, Property, PropertyType};

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
    open_image: Some(open_image),
};

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Locator;

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
