//! A simulated host: a directory with `host.conf`, the management service's files and datastores.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use virtuozo_disk::vmware::{
    Dictionary,
    datastore_path::{DatastorePath, DatastorePathError},
    hostd,
};
use vix_sys::{
    VIX_E_CANNOT_CONNECT_TO_HOST, VIX_E_CANNOT_READ_VM_CONFIG, VIX_E_HOST_USER_PERMISSIONS,
    VIX_E_INVALID_HOSTNAME_SPECIFICATION, VIX_E_INVALID_XML, VIX_E_NOT_FOUND, VIX_E_VM_IS_RUNNING,
    VIX_E_VM_NOT_FOUND, VixServiceProvider,
};

use super::{
    error::{Result, SimError},
    files::{self, FileLock},
    guest::Guest,
    product::Product,
    state::Power,
};

/// Names the directory of the simulated hosts.
pub(crate) const ROOT_VARIABLE: &str = "VIRTUOZO_SIM_ROOT";
pub(crate) const CONF_FILE: &str = "host.conf";
pub(crate) const CONFIG_DIR: &str = "hostd";
pub(crate) const DATASTORES_DIR: &str = "datastores";
const LOCAL_HOST: &str = "local";

/// A host's directory and what its `host.conf` says.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(super) dir: PathBuf,
    pub(crate) product: Product,
    user: Option<String>,
    password: Option<String>,
    pub(super) max_connections: Option<usize>,
}

impl Host {
    /// The host that a connection string names, below `root`.
    pub(crate) fn find(root: &Path, host_name: Option<&str>) -> Result<Self> {
        let name = match host_name {
            // As VMware's own sample programs name the local host.
            None | Some("") => LOCAL_HOST,
            Some(text) => name_of(text)?,
        };
        Self::load(&root.join(name), name)
    }

    pub(crate) fn load(dir: &Path, name: &str) -> Result<Self> {
        let conf = dir.join(CONF_FILE);
        let refuse = |why: String| SimError::new(VIX_E_CANNOT_CONNECT_TO_HOST, why);
        let (conf, _) = Dictionary::load(&conf)
            .map_err(|error| refuse(format!("there is no simulated host {name}: {error}")))?;
        let product = conf.get("product").unwrap_or_default();
        let product = Product::named(product)
            .ok_or_else(|| refuse(format!("the product {product:?} of {name} is not known")))?;
        Ok(Self {
            name: name.to_owned(),
            dir: dir.to_owned(),
            product,
            user: conf.get("user").map(str::to_owned),
            password: conf.get("password").map(str::to_owned),
            max_connections: conf
                .get("maxConnections")
                .and_then(|text| text.parse().ok()),
        })
    }

    /// Checks that the provider reaches this product and that the login is right.
    pub(crate) fn admit(
        &self,
        provider: VixServiceProvider,
        user: Option<&str>,
        password: Option<&str>,
    ) -> Result<()> {
        if !self.product.providers().contains(&provider) {
            return Err(SimError::new(
                VIX_E_CANNOT_CONNECT_TO_HOST,
                format!("provider {provider} does not reach {}", self.product.name()),
            ));
        }
        let is_given = user.is_some() || password.is_some();
        let right = user == self.user.as_deref() && password == self.password.as_deref();
        if self.product.asks_for_login(is_given) && !right {
            return Err(SimError::new(
                VIX_E_HOST_USER_PERMISSIONS,
                format!("wrong user name or password for {}", self.name),
            ));
        }
        Ok(())
    }

    pub(super) fn lock(&self) -> Result<FileLock> {
        let path = self.dir.join("host.lock");
        FileLock::acquire(&path).map_err(SimError::io("lock", &path))
    }

    fn config_file(&self, name: &str) -> PathBuf {
        self.dir.join(CONFIG_DIR).join(name)
    }

    /// Name → directory of all datastores.
    pub(crate) fn datastores(&self) -> Result<BTreeMap<String, String>> {
        let file = self.config_file(hostd::DATASTORES_FILE);
        let Some(xml) = hostd::read_file(&file)? else {
            return Ok(BTreeMap::new());
        };
        let datastores = hostd::parse_datastores(&xml).map_err(|why| wrong_xml(&file, &why))?;
        Ok(datastores
            .into_iter()
            .filter_map(|one| Some((one.name.clone(), one.host_directory("")?)))
            .collect())
    }

    /// Host paths of all registered guests.
    fn inventory(&self) -> Result<Vec<String>> {
        let file = hostd::inventory_file(&self.dir.join(CONFIG_DIR));
        let Some(xml) = hostd::read_file(&file)? else {
            return Ok(Vec::new());
        };
        hostd::parse_inventory(&xml).map_err(|why| wrong_xml(&file, &why))
    }

    fn write_inventory(&self, paths: &[String]) -> Result<()> {
        let file = hostd::inventory_file(&self.dir.join(CONFIG_DIR));
        let xml = hostd::write_inventory(paths.iter().map(String::as_str));
        files::replace(&file, xml.as_bytes()).map_err(SimError::io("write", &file))
    }

    /// All guests that the host knows: the registered ones, or without an inventory all there are.
    pub(crate) fn guests(&self) -> Result<Vec<PathBuf>> {
        if self.product.has_inventory() {
            let paths = self.inventory()?;
            // One entry that leads nowhere does not hide the others.
            return Ok(paths
                .iter()
                .filter_map(|path| self.resolve(path).ok())
                .collect());
        }
        let mut found = Vec::new();
        for directory in self.datastores()?.values() {
            for guest in fs::read_dir(directory).into_iter().flatten().flatten() {
                for file in fs::read_dir(guest.path()).into_iter().flatten().flatten() {
                    if file.path().extension().is_some_and(|kind| kind == "vmx") {
                        found.push(file.path());
                    }
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// The file that a path of the API means: a datastore path, or a path of this machine.
    fn resolve(&self, path: &str) -> Result<PathBuf> {
        let unknown = |why: String| SimError::new(VIX_E_VM_NOT_FOUND, why);
        if path.starts_with('/') {
            return Ok(path.into());
        }
        let parsed: DatastorePath = path
            .parse()
            .map_err(|error: DatastorePathError| unknown(error.to_string()))?;
        match self.datastores()?.get(&parsed.datastore) {
            Some(directory) => Ok(parsed.resolve(Path::new(directory))),
            None => Err(unknown(format!(
                "{} has no datastore {}",
                self.name, parsed.datastore
            ))),
        }
    }

    /// The path by which the API names a guest.
    pub(crate) fn api_path(&self, vmx: &Path) -> Result<String> {
        let path = vmx.to_string_lossy();
        if !self.product.has_datastore_paths() {
            return Ok(path.into_owned());
        }
        DatastorePath::from_host_path(&path, &self.datastores()?)
            .map(|path| path.to_string())
            .ok_or_else(|| {
                SimError::new(
                    VIX_E_VM_NOT_FOUND,
                    format!("{path} lies in no datastore of {}", self.name),
                )
            })
    }

    /// Opens a guest that the host knows.
    pub(crate) fn open_guest(&self, path: &str) -> Result<Guest> {
        let vmx = self.resolve(path)?;
        if self.product.has_inventory() {
            let named = !(self.product.has_datastore_paths() && path.starts_with('/'));
            let known = named && self.guests()?.contains(&vmx);
            if !known {
                return Err(SimError::new(
                    VIX_E_VM_NOT_FOUND,
                    format!("{path} is not registered on {}", self.name),
                ));
            }
        }
        let guest = Guest::new(vmx, self.product.has_single_snapshot());
        let config = guest.config()?;
        if config.encryption() == Some(virtuozo_disk::vmware::vmx::Encryption::Full) {
            return Err(SimError::new(
                vix_sys::VIX_E_NEED_KEY,
                format!("{path} is encrypted"),
            ));
        }
        if config.disks().is_empty() && config.dictionary.get("config.version").is_none() {
            return Err(SimError::new(
                VIX_E_CANNOT_READ_VM_CONFIG,
                format!("{path} is not a configuration of a guest"),
            ));
        }
        Ok(guest)
    }

    /// Adds a guest to the inventory; one that is there already stays.
    pub(crate) fn register(&self, path: &str) -> Result<()> {
        if !self.product.has_inventory() {
            return Ok(());
        }
        let vmx = self.resolve(path)?;
        if !vmx.is_file() {
            return Err(SimError::new(
                VIX_E_NOT_FOUND,
                format!("{} does not exist", vmx.display()),
            ));
        }
        let _lock = self.lock()?;
        let mut paths = self.inventory()?;
        let host_path = vmx.to_string_lossy().into_owned();
        if !paths.contains(&host_path) {
            paths.push(host_path);
            self.write_inventory(&paths)?;
        }
        Ok(())
    }

    /// Takes a guest that is off out of the inventory; an unknown one is no error.
    pub(crate) fn unregister(&self, path: &str) -> Result<()> {
        if !self.product.has_inventory() {
            return Ok(());
        }
        let vmx = self.resolve(path)?;
        let _lock = self.lock()?;
        let mut paths = self.inventory()?;
        let known = paths.len();
        paths.retain(|known| Path::new(known) != vmx);
        if paths.len() == known {
            return Ok(());
        }
        if Guest::new(vmx, false).state()?.power == Power::On {
            return Err(SimError::new(
                VIX_E_VM_IS_RUNNING,
                format!("{path} is powered on"),
            ));
        }
        self.write_inventory(&paths)
    }
}

/// The host part of `https://host:port/sdk`, or a bare name.
fn name_of(text: &str) -> Result<&str> {
    let wrong = || {
        SimError::new(
            VIX_E_INVALID_HOSTNAME_SPECIFICATION,
            format!("{text:?} is not a host name or https://host:port/sdk"),
        )
    };
    let authority = match text.split_once("://") {
        Some(("https" | "http", rest)) => match rest.split_once('/') {
            Some((authority, "sdk" | "sdk/")) => authority,
            _ => return Err(wrong()),
        },
        Some(_) => return Err(wrong()),
        None => text,
    };
    let name = match authority.split_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        Some(_) => return Err(wrong()),
        None => authority,
    };
    let valid = !name.is_empty()
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if valid { Ok(name) } else { Err(wrong()) }
}

fn wrong_xml(file: &Path, why: &str) -> SimError {
    SimError::new(VIX_E_INVALID_XML, format!("{}: {why}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_taken_out_of_the_url() {
        for text in [
            "https://alpha.lab:8333/sdk",
            "http://alpha.lab/sdk",
            "alpha.lab",
            "alpha.lab:443",
        ] {
            assert_eq!(name_of(text), Ok("alpha.lab"), "{text}");
        }
        for text in [
            "",
            "ftp://alpha.lab/sdk",
            "https://alpha.lab",
            "https:///sdk",
            "https://../sdk",
            "a/b",
            "alpha.lab:x",
        ] {
            assert_eq!(
                name_of(text).map_err(|error| error.code),
                Err(VIX_E_INVALID_HOSTNAME_SPECIFICATION),
                "{text}"
            );
        }
    }
}
