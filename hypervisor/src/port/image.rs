//! A guest at one instant, as files that can be read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use virtuozo_disk::BlockSource;

use super::DiskChanges;

/// A small file of a guest, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallFile {
    /// Name in the restore point, without directories.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A disk, a link of a disk's chain, or a large file, to be copied.
pub struct ImageFile {
    /// Name in the restore point, without directories, unique in the image.
    pub name: String,
    /// The device whose disk it is part of, for progress; none for state and memory files.
    pub device: Option<String>,
    /// The datastore that it is read from, for messages; none where that is not known.
    pub datastore: Option<String>,
    /// How it is to be stored.
    pub format: ImageFormat,
    /// The bytes. For a delta the ranges of this link alone, the rest absent.
    pub source: Box<dyn BlockSource>,
}

/// How a file of an image is to be stored in a restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageFormat {
    /// As it is.
    Raw,
    /// As a disk, on top of `parent` if it is a delta.
    Disk {
        /// Name of the [`ImageFile`] below this one; it stands earlier in the list.
        parent: Option<String>,
        /// What the guest knows its disk by.
        properties: DiskProperties,
    },
}

/// What a guest knows its disk by, beside its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskProperties {
    /// The controller the disk hangs on, by the name it has in the field: `ide`, `lsilogic`, `virtio`.
    pub adapter: Option<String>,
    /// The geometry that was shown to the guest.
    pub geometry: Option<Geometry>,
    /// The disk's own id, as the back end writes it.
    pub uuid: Option<String>,
    /// What the back end wants to have back when the disk is restored; nobody else looks into it. Keys are
    /// printable ASCII without blanks, `=` and `"`, and values one line without `"`.
    pub back_end: BTreeMap<String, String>,
}

/// A disk in the numbers of old firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// Cylinders.
    pub cylinders: u64,
    /// Heads in a cylinder.
    pub heads: u64,
    /// Sectors in a track.
    pub sectors: u64,
}

/// A guest at one instant, before its files are opened.
pub enum Image {
    /// They are open, in this process.
    Open(GuestImage),
    /// Any process of this machine can open them, with [`open_image`](crate::open_image).
    Files(ImageFiles),
}

/// What another process of this machine needs to open the files of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFiles {
    /// The kind of host, which says whose back end opens them.
    pub kind: String,
    /// What is opened, for messages: the guest's name and where it lies.
    pub label: String,
    /// How its back end finds them. It holds no password.
    pub found_by: Value,
}

/// A guest at one instant, readable until the instant is released or the guest powered on.
pub struct GuestImage {
    /// Configuration and firmware state, already written so that they open beside the files below, with the list
    /// of foreign snapshots where those are part of the image.
    pub small: Vec<SmallFile>,
    /// Disks or links of disks, parents before children, then state and memory files of foreign snapshots.
    pub files: Vec<ImageFile>,
    /// Names of the foreign snapshots in the image.
    pub foreign_snapshots: Vec<String>,
    /// For each device in `files`, what has changed. Where changes are known, the device has one file.
    pub changes: BTreeMap<String, DiskChanges>,
}
