//! Back ends for tests of the configuration as a file.

use virtuozo_model::HostKind;
use virtuozo_store::hosts::{HostConfig, Rules};

/// What back ends permit here: remote hosts of one kind, local ones of another.
pub(super) struct Lab;

impl Rules for Lab {
    fn check_host(&self, host: &HostConfig) -> Result<(), String> {
        for name in host.properties.keys() {
            if name != "config-dir" {
                return Err(format!("there is no property {name}"));
            }
        }
        match (host.kind.as_str(), &host.address) {
            ("server2", Some(_)) | ("workstation", None) => Ok(()),
            ("server2", None) => Err("it needs an address".to_owned()),
            (kind, _) => Err(format!("there is no kind {kind}")),
        }
    }

    fn check_locator(&self, _: &HostKind, locator: &str) -> Result<(), String> {
        match locator.ends_with(".vmx") {
            true => Ok(()),
            false => Err("a locator ends in .vmx".to_owned()),
        }
    }
}
