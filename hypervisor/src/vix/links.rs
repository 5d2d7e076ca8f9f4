//! The links of a guest's disks as files of one directory: every link once, parents first, each with
//! a name of its own.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use virtuozo_disk::{
    DiskError, FileId,
    vmdk::{Chain, Descriptor, Layer},
};

use crate::{DiskProperties, Geometry, ImageFile, ImageFormat};

/// What a disk that does not say so is taken for.
const DEFAULT_ADAPTER: &str = "lsilogic";
const DEFAULT_HARDWARE: u32 = 8;

/// Names given out so far. Two names that differ in case only would be one on Windows.
#[derive(Default)]
pub(super) struct Names {
    taken: HashSet<String>,
    /// Lower-case name that was wanted → the number to try next.
    next: HashMap<String, u64>,
}

impl Names {
    /// The wanted name, or the first free one like it: `disk.vmdk`, `disk-2.vmdk`.
    pub(super) fn take(&mut self, wanted: &str) -> String {
        let (stem, extension) = match wanted.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
            _ => (wanted, String::new()),
        };
        let mut name = wanted.to_owned();
        let number = self.next.entry(wanted.to_lowercase()).or_insert(2);
        while !self.taken.insert(name.to_lowercase()) {
            name = format!("{stem}-{number}{extension}");
            *number += 1;
        }
        name
    }
}

struct Link {
    layer: Arc<Layer>,
    device: String,
    name: String,
    parent: Option<String>,
}

/// Links collected from several chains.
#[derive(Default)]
pub(super) struct Links {
    links: Vec<Link>,
    /// The file of a link's descriptor → its name here.
    names: HashMap<FileId, String>,
}

impl Links {
    /// Adds the links of a chain that are not there yet. Returns the name of the newest one.
    pub(super) fn add(
        &mut self,
        chain: &Chain,
        device: &str,
        names: &mut Names,
    ) -> Result<String, DiskError> {
        let mut below: Option<String> = None;
        for layer in chain.layers().iter().rev() {
            let id = layer.found().id();
            let name = match self.names.get(&id) {
                Some(name) => name.clone(),
                None => {
                    let name = names.take(&file_name(layer.path()));
                    self.names.insert(id, name.clone());
                    self.links.push(Link {
                        layer: Arc::clone(layer),
                        device: device.to_owned(),
                        name: name.clone(),
                        parent: below,
                    });
                    name
                }
            };
            below = Some(name);
        }
        below.ok_or_else(|| DiskError::Unsupported {
            path: PathBuf::new(),
            reason: "a chain without links".to_owned(),
        })
    }

    /// The files of the image, parents before children, each with its datastore.
    pub(super) fn into_files(
        self,
        datastore_of: impl Fn(&Path) -> Option<String>,
    ) -> Vec<ImageFile> {
        self.links
            .into_iter()
            .map(|link| {
                let descriptor = link.layer.descriptor();
                ImageFile {
                    name: link.name,
                    device: Some(link.device),
                    datastore: datastore_of(link.layer.path()),
                    format: ImageFormat::Disk {
                        parent: link.parent,
                        properties: properties(descriptor),
                    },
                    source: Box::new(link.layer),
                }
            })
            .collect()
    }
}

/// The base name; a disk's always ends in `.vmdk`, as the products want it.
fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.to_ascii_lowercase().ends_with(".vmdk") {
        name.into_owned()
    } else {
        format!("{name}.vmdk")
    }
}

/// What a guest knows its disk by, from the entries of the source's disk database. The other entries speak of the
/// source's files (content id, encoding, provisioning). VMware's deltas often name no adapter.
fn properties(descriptor: &Descriptor) -> DiskProperties {
    let mut entries: BTreeMap<String, String> = descriptor
        .ddb()
        .iter()
        .map(|(key, value)| (key.to_ascii_lowercase(), value.clone()))
        .collect();
    let number = |key: &str| entries.get(key)?.parse().ok();
    let geometry = number("geometry.cylinders")
        .zip(number("geometry.heads"))
        .zip(number("geometry.sectors"))
        .map(|((cylinders, heads), sectors)| Geometry {
            cylinders,
            heads,
            sectors,
        });
    let adapter = entries.remove("adaptertype");
    let uuid = entries.remove("uuid");
    let mut back_end: BTreeMap<String, String> = descriptor
        .ddb()
        .iter()
        .filter(|(key, _)| {
            let key = key.to_ascii_lowercase();
            key.starts_with("biosgeometry.") || key == "toolsversion"
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let hardware = descriptor.hardware_version().unwrap_or(DEFAULT_HARDWARE);
    back_end.insert("virtualHWVersion".to_owned(), hardware.to_string());
    DiskProperties {
        adapter: Some(adapter.unwrap_or_else(|| DEFAULT_ADAPTER.to_owned())),
        geometry,
        uuid,
        back_end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step for each name: this many take hours if it is one for each pair.
    #[test]
    fn many_equal_names_are_told_apart_in_linear_time() {
        let mut names = Names::default();
        let last = (0..300_000).map(|_| names.take("a.vmdk")).last();
        assert_eq!(last.as_deref(), Some("a-300000.vmdk"));
    }

    #[test]
    fn names_stay_unique_whatever_their_case() {
        let mut names = Names::default();
        let taken: Vec<String> = ["a.vmdk", "A.vmdk", "a-2.vmdk", "a.vmdk", "noext", "noext"]
            .into_iter()
            .map(|name| names.take(name))
            .collect();
        assert_eq!(
            taken,
            [
                "a.vmdk",
                "A-2.vmdk",
                "a-2-2.vmdk",
                "a-3.vmdk",
                "noext",
                "noext-2"
            ]
        );
    }
}
