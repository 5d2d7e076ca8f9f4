//! Writes the descriptor of a new disk.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use super::descriptor::NO_PARENT;
use crate::{DiskError, SECTOR_BYTES};

/// The parent of a delta that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentLink {
    /// Content id of the parent.
    pub content_id: u32,
    /// Name of the parent's descriptor, as it is to be written: relative to the delta's directory,
    /// or absolute.
    pub hint: String,
}

/// What a new descriptor is to say.
#[derive(Debug)]
pub(super) struct Template<'a> {
    pub(super) create_type: &'a str,
    pub(super) content_id: u32,
    pub(super) parent: Option<&'a ParentLink>,
    pub(super) extents: Vec<TemplateExtent>,
    pub(super) adapter_type: &'a str,
    pub(super) hardware_version: u32,
    /// Further entries, keys without `ddb.`; they win over computed ones.
    pub(super) ddb: &'a BTreeMap<String, String>,
}

#[derive(Debug)]
pub(super) struct TemplateExtent {
    pub(super) sectors: u64,
    pub(super) is_flat: bool,
    pub(super) file_name: String,
}

impl Template<'_> {
    /// The text; `path` is for errors.
    pub(super) fn render(&self, path: &Path) -> Result<String, DiskError> {
        let refused = |what: &str, text: &str| DiskError::Refused {
            path: path.to_owned(),
            reason: format!("{what} {text:?} contains a quote or a control character"),
        };
        let checked = |what: &str, text: &str| {
            if text.contains(|c: char| c == '"' || c.is_control()) {
                Err(refused(what, text))
            } else {
                Ok(())
            }
        };
        let parent_id = self.parent.map_or(NO_PARENT, |parent| parent.content_id);
        let mut text = format!(
            "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID={:08x}\n\
             parentCID={parent_id:08x}\nisNativeSnapshot=\"no\"\ncreateType=\"{}\"\n",
            self.content_id, self.create_type
        );
        if let Some(parent) = self.parent {
            checked("the parent's name", &parent.hint)?;
            text += &format!("parentFileNameHint=\"{}\"\n", parent.hint);
        }
        text += "\n# Extent description\n";
        for extent in &self.extents {
            checked("the file name", &extent.file_name)?;
            let (kind, offset) = if extent.is_flat {
                ("FLAT", " 0")
            } else {
                ("SPARSE", "")
            };
            text += &format!(
                "RW {} {kind} \"{}\"{offset}\n",
                extent.sectors, extent.file_name
            );
        }
        text += "\n# The Disk Data Base\n#DDB\n\n";
        for (key, value) in self.disk_database() {
            checked("the disk database entry", &value)?;
            if key.contains(|c: char| !c.is_ascii_graphic() || c == '=' || c == '"') {
                return Err(refused("the disk database key", &key));
            }
            // Writing into a string cannot fail.
            _ = writeln!(text, "ddb.{key} = \"{value}\"");
        }
        Ok(text)
    }

    /// Entries by key; later sources win, whatever the case of their keys.
    fn disk_database(&self) -> Vec<(String, String)> {
        let sectors: u64 = self.extents.iter().map(|extent| extent.sectors).sum();
        let (cylinders, heads) = geometry(sectors, self.adapter_type);
        let computed = [
            ("adapterType", self.adapter_type.to_owned()),
            ("geometry.cylinders", cylinders.to_string()),
            ("geometry.heads", heads.to_string()),
            ("geometry.sectors", SECTORS_PER_TRACK.to_string()),
            ("virtualHWVersion", self.hardware_version.to_string()),
        ];
        let is_given = |key: &str| self.ddb.keys().any(|given| given.eq_ignore_ascii_case(key));
        let mut entries: Vec<(String, String)> = computed
            .into_iter()
            .filter(|(key, _)| !is_given(key))
            .map(|(key, value)| (key.to_owned(), value))
            .chain(self.ddb.clone())
            .collect();
        entries.sort();
        entries
    }
}

const SECTORS_PER_TRACK: u64 = 63;

/// Cylinders and heads: 255 heads on SCSI; 16 on IDE, which can address no more than 16383 cylinders.
fn geometry(sectors: u64, adapter_type: &str) -> (u64, u64) {
    if adapter_type.eq_ignore_ascii_case("ide") {
        ((sectors / (16 * SECTORS_PER_TRACK)).clamp(1, 16383), 16)
    } else {
        ((sectors / (255 * SECTORS_PER_TRACK)).max(1), 255)
    }
}

/// A whole number of sectors from a size in bytes.
pub(super) fn sectors_of(path: &Path, capacity_bytes: u64) -> Result<u64, DiskError> {
    if capacity_bytes.is_multiple_of(SECTOR_BYTES) {
        Ok(capacity_bytes / SECTOR_BYTES)
    } else {
        Err(DiskError::Refused {
            path: path.to_owned(),
            reason: format!("{capacity_bytes} bytes are not a whole number of sectors"),
        })
    }
}
