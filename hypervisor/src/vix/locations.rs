//! Where this machine reads the files that a host names: by the administrator's mapping of
//! datastores, else at the path the host gives.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use virtuozo_disk::{
    DiskError, MachineRoots,
    vmware::{datastore_path::DatastorePath, host_path, hostd},
};
use virtuozo_model::terminal;

use super::product::{Product, config_dir, refuse_locator};
use crate::{
    ErrorClass::{Elsewhere, Operator, Permanent, Retry},
    ErrorKind, GuestRef, HostDatastore, HostTarget, HypervisorError, Locator, Result,
};

/// Where an ESXi host mounts its datastores, by name.
const ESX_VOLUMES: &str = "/vmfs/volumes/";

/// The datastores of a host, there and here.
#[derive(Debug, Clone, Default)]
pub(super) struct Locations {
    host: String,
    /// Name → directory as this machine reads it.
    mapped: BTreeMap<String, PathBuf>,
    /// Why this machine does not read the host's own lists, where its configuration forbids that.
    refused: Option<String>,
    /// Where this machine reads guests' files at all.
    pub(super) allowed: MachineRoots,
    /// Name → directory as the host writes it.
    pub(super) on_host: BTreeMap<String, String>,
    /// Datastores that the host lists without a place that could be made out.
    unplaced: Vec<String>,
    /// What could not be read, in sentences.
    pub(super) warnings: Vec<String>,
}

impl Locations {
    /// Reads the host's list of datastores afresh. Blocks.
    pub(super) fn load(target: &HostTarget, allowed: &MachineRoots) -> Self {
        let mut locations = Self {
            host: target.name.clone(),
            mapped: target.datastores.clone(),
            allowed: allowed.clone(),
            ..Self::default()
        };
        let Some(config_dir) = config_dir(target) else {
            return locations;
        };
        if !matches!(allowed.hold_place(&config_dir), Ok(true)) {
            let why = allowed.refusal("read", &config_dir);
            locations.refused = Some(why.clone());
            locations
                .warnings
                .push(format!("host {}: {why}", locations.host));
            return locations;
        }
        let path = config_dir.join(hostd::DATASTORES_FILE);
        match read_list(&path, hostd::parse_datastores) {
            Ok(Some(datastores)) => {
                let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
                for datastore in datastores {
                    match datastore.host_directory(&mounts) {
                        Some(directory) => {
                            locations.on_host.insert(datastore.name, directory);
                        }
                        None => {
                            if !locations.mapped.contains_key(&datastore.name) {
                                locations.warnings.push(format!(
                                    "host {}: the place of the datastore {} is not known; {}",
                                    locations.host,
                                    datastore.name,
                                    locations.hint(Some(&datastore.name))
                                ));
                            }
                            locations.unplaced.push(datastore.name);
                        }
                    }
                }
            }
            Ok(None) => locations.warnings.push(format!(
                "host {}: there is no {}; check the host's configuration directory",
                locations.host,
                path.display()
            )),
            Err(why) => locations.warnings.push(format!(
                "host {}: cannot read {}: {why}",
                locations.host,
                path.display()
            )),
        }
        locations
    }

    /// The registered guests in `vmInventory.xml`, written as the host lists them live; none where
    /// there is no such file. What cannot be read becomes a warning. Blocks.
    pub(super) fn registered(
        &mut self,
        target: &HostTarget,
        product: Product,
    ) -> Option<Vec<GuestRef>> {
        let config_dir = config_dir(target)?;
        if !matches!(self.allowed.hold_place(&config_dir), Ok(true)) {
            return None;
        }
        let path = hostd::inventory_file(&config_dir);
        match read_list(&path, hostd::parse_inventory) {
            Ok(Some(paths)) => Some(
                paths
                    .iter()
                    .filter_map(|path| self.locator(path, product).map(GuestRef::at))
                    .collect(),
            ),
            Ok(None) => None,
            Err(why) => {
                self.warnings.push(format!(
                    "host {}: cannot read {}: {why}",
                    self.host,
                    path.display()
                ));
                None
            }
        }
    }

    /// A guest by a path in any form: as the host wants it. None, with a warning, if that cannot be a
    /// guest. A guest has no UUID here: that in a `.vmx` is the same in a copy of it.
    pub(super) fn locator(&mut self, path: &str, product: Product) -> Option<Locator> {
        let by_datastore = match product {
            Product::Workstation => None,
            Product::Server2 | Product::WorkstationShared | Product::Esxi => self
                .parse(path)
                .or_else(|| DatastorePath::from_host_path(path, &self.on_host)),
        };
        let text = by_datastore
            // One that would be read as another is named by its path on the host.
            .filter(|path| self.parse(&path.to_string()).as_ref() == Some(path))
            .map(|path| path.to_string())
            .unwrap_or_else(|| path.to_owned());
        let checked = Locator::new(text).map_err(|error| error.to_string());
        // What is not taken here, the command line and an import do not take either.
        let checked = checked.and_then(|locator| match refuse_locator(&locator) {
            None => Ok(locator),
            Some(why) => Err(why),
        });
        checked
            .map_err(|why| {
                self.warnings
                    .push(format!("host {}: a guest is left out: {why}", self.host));
            })
            .ok()
    }

    /// A path in a datastore of the host, whatever brackets are in its name.
    fn parse(&self, path: &str) -> Option<DatastorePath> {
        let names = self.mapped.keys().chain(self.on_host.keys());
        DatastorePath::parse_known(path, names.chain(&self.unplaced)).ok()
    }

    /// Where this machine reads a guest's `.vmx`.
    pub(super) fn vmx(&self, guest: &GuestRef) -> Result<PathBuf> {
        let locator = guest.locator.as_str();
        if !locator.starts_with('[') {
            return self.host_file(locator);
        }
        let names = self.mapped.keys().chain(self.on_host.keys());
        let path = DatastorePath::parse_known(locator, names.chain(&self.unplaced));
        let path = path.map_err(|error| {
            HypervisorError::new(
                ErrorKind::GuestInvalid,
                Permanent,
                format!("host {}: {error}", self.host),
            )
        })?;
        match self.root(&path.datastore) {
            Some(root) => Ok(path.resolve(&root)),
            None => Err(self.not_mapped(
                locator,
                &format!("the datastore {} is not known", path.datastore),
                Some(&path.datastore),
            )),
        }
    }

    /// Where this machine reads a file that the host names by an absolute path: below the datastore
    /// with the longest directory, else as it is.
    pub(super) fn host_file(&self, path: &str) -> Result<PathBuf> {
        if let Some(below) = self.in_datastore(path)
            && let Some(root) = self.root(&below.datastore)
        {
            return Ok(below.resolve(&root));
        }
        if host_path::is_windows(path) {
            return Err(self.not_mapped(
                path,
                "it is a path of Windows in no datastore that is mapped",
                None,
            ));
        }
        Ok(PathBuf::from(path))
    }

    /// An absolute path of the host as one in a datastore.
    fn in_datastore(&self, path: &str) -> Option<DatastorePath> {
        DatastorePath::from_host_path(path, &self.on_host)
            .or_else(|| in_volume(path).filter(|path| self.mapped.contains_key(&path.datastore)))
    }

    /// The datastores that the host lists, that its guests lie in or that are mapped, with the guests in each.
    pub(super) fn datastores(&self, guests: &[GuestRef], product: Product) -> Vec<HostDatastore> {
        let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let listed = self.on_host.keys().chain(self.mapped.keys());
        for name in listed.chain(&self.unplaced) {
            files.entry(name.clone()).or_default();
        }
        for guest in guests {
            let locator = guest.locator.as_str();
            let path = self
                .parse(locator)
                .or_else(|| self.in_datastore(locator))
                .or_else(|| in_volume(locator));
            if let Some(path) = path {
                files.entry(path.datastore).or_default().push(path.relative);
            }
        }
        let datastore = |(name, guest_files): (String, Vec<String>)| HostDatastore {
            directory: self
                .on_host
                .get(&name)
                .cloned()
                .or_else(|| (product == Product::Esxi).then(|| format!("{ESX_VOLUMES}{name}"))),
            name,
            guest_files,
        };
        files.into_iter().map(datastore).collect()
    }

    /// The datastore of a path of the host, in any of its forms.
    pub(super) fn datastore_of(&self, path: &str) -> Option<String> {
        let path = self.parse(path).or_else(|| self.in_datastore(path));
        path.map(|path| path.datastore)
    }

    /// What to say of a file that could not be opened here.
    pub(super) fn explain(&self, error: DiskError) -> HypervisorError {
        let mut datastore = None;
        let (kind, class, location) = match &error {
            DiskError::Io { source, path, .. } => {
                let root = self.root_of(path);
                datastore = self.named_by(path, root.as_deref());
                match source.kind() {
                    // Of a file that may not be read below a directory that may, nothing follows for the others there.
                    io::ErrorKind::PermissionDenied => (
                        ErrorKind::NotMapped,
                        Elsewhere,
                        root.filter(|root| fs::read_dir(root).is_err()),
                    ),
                    // Where the datastore is there, the file itself must be missing.
                    io::ErrorKind::NotFound
                        if root.as_deref().or(path.parent()).is_some_and(Path::is_dir) =>
                    {
                        (ErrorKind::GuestInvalid, Permanent, None)
                    }
                    io::ErrorKind::NotFound => (ErrorKind::NotMapped, Elsewhere, root),
                    // No file can have this name.
                    io::ErrorKind::InvalidInput
                    | io::ErrorKind::InvalidFilename
                    | io::ErrorKind::NotADirectory => (ErrorKind::GuestInvalid, Permanent, None),
                    _ => (ErrorKind::Other, Retry, None),
                }
            }
            DiskError::Outside { path, .. } => {
                datastore = self.named_by(path, None);
                (ErrorKind::GuestInvalid, Permanent, None)
            }
            DiskError::NotAllowed { .. } => (ErrorKind::NotAllowed, Operator, None),
            _ => (ErrorKind::GuestInvalid, Permanent, None),
        };
        let mut message = format!("host {}: {error}", self.host);
        if matches!(error, DiskError::Outside { .. }) {
            message.push_str(
                "; it lies outside of the guest's folder and of every datastore of the host. If it is the guest's, ",
            );
            message.push_str(&self.hint(datastore.as_deref()));
        }
        if kind == ErrorKind::NotMapped {
            message.push_str("; mount its datastore here, or ");
            message.push_str(&self.hint(datastore.as_deref()));
        }
        HypervisorError {
            location,
            ..HypervisorError::new(kind, class, message)
        }
    }

    /// Whether the host's file systems do not tell names apart by their case.
    pub(super) fn are_of_windows(&self) -> bool {
        let mut directories = self.on_host.values();
        directories.any(|directory| host_path::is_windows(directory))
    }

    /// The directories of the datastores that this machine reads.
    pub(super) fn roots(&self) -> Vec<PathBuf> {
        let names = self.mapped.keys().chain(self.on_host.keys());
        names.filter_map(|name| self.root(name)).collect()
    }

    /// The directory of the datastore that holds a file of this machine.
    pub(super) fn root_of(&self, path: &Path) -> Option<PathBuf> {
        self.roots()
            .into_iter()
            .filter(|root| path.starts_with(root))
            .max_by_key(|root| root.components().count())
    }

    /// The datastore of a file of this machine.
    pub(super) fn datastore_here(&self, path: &Path) -> Option<String> {
        self.named_by(path, self.root_of(path).as_deref())
    }

    /// The datastore whose directory a file of this machine lies in, or the name or id of the volume that its path on the
    /// host gives.
    fn named_by(&self, path: &Path, root: Option<&Path>) -> Option<String> {
        let mut names = self.mapped.keys().chain(self.on_host.keys());
        let of_root = root.and_then(|root| {
            names.find(|name| self.root(name).is_some_and(|directory| directory == root))
        });
        of_root
            .cloned()
            .or_else(|| Some(in_volume(path.to_str()?)?.datastore))
    }

    fn root(&self, datastore: &str) -> Option<PathBuf> {
        self.mapped.get(datastore).cloned().or_else(|| {
            let directory = self.on_host.get(datastore)?;
            (!host_path::is_windows(directory)).then(|| PathBuf::from(directory))
        })
    }

    fn not_mapped(&self, path: &str, why: &str, datastore: Option<&str>) -> HypervisorError {
        if let Some(refused) = &self.refused {
            let message = format!("host {}: cannot read {path}: {refused}", self.host);
            return HypervisorError::new(ErrorKind::NotAllowed, Operator, message);
        }
        HypervisorError::new(
            ErrorKind::NotMapped,
            Operator,
            format!(
                "host {}: cannot read {path}: {why}; {}",
                self.host,
                self.hint(datastore)
            ),
        )
    }

    /// How to map a datastore, whose name may not be known.
    fn hint(&self, datastore: Option<&str>) -> String {
        let Some(datastore) = datastore else {
            return format!(
                "say where this machine reads it: {} DATASTORE DIRECTORY (the names of the host's datastores: {} {})",
                terminal::command("datastore map", &[&self.host]),
                "virtuozo datastore list --host",
                terminal::shell_word(&self.host)
            );
        };
        let as_well = match is_volume_id(datastore) {
            true => " (the id of a volume is mapped as its name is)",
            false => "",
        };
        format!(
            "say where this machine reads it: {} DIRECTORY{as_well}",
            terminal::command("datastore map", &[&self.host, datastore])
        )
    }
}

/// Whether a directory below [`ESX_VOLUMES`] is named by the id of a VMFS volume or the hash of an NFS mount, and not by the
/// name of a datastore.
fn is_volume_id(name: &str) -> bool {
    let is_hexadecimal =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
    let parts: Vec<&str> = name.split('-').collect();
    parts.iter().all(|part| is_hexadecimal(part))
        && matches!((parts.len(), name.len()), (4, 35) | (2, 17))
}

/// A path of an ESXi host as one in the datastore that it mounts there.
fn in_volume(path: &str) -> Option<DatastorePath> {
    let (datastore, relative) = path.strip_prefix(ESX_VOLUMES)?.split_once('/')?;
    Some(DatastorePath {
        datastore: datastore.to_owned(),
        relative: host_path::normalize_relative(relative)?.join("/"),
    })
}

fn read_list<T>(
    path: &Path,
    parse: impl FnOnce(&str) -> std::result::Result<T, String>,
) -> std::result::Result<Option<T>, String> {
    hostd::read_file(path)
        .map_err(|error| error.to_string())?
        .map(|xml| parse(&xml))
        .transpose()
}

#[cfg(test)]
mod tests;
