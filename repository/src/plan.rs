//! What a copy is going to store, and how much space it takes.

use std::collections::BTreeMap;

use virtuozo_disk::BlockSource;

use crate::{
    RepositoryError, Result,
    grains::{self, GRAIN_BYTES, RunKind},
};

/// One file to be copied into a restore point from a [`BlockSource`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// Name in the restore point, without directories, unique in it.
    pub name: String,
    /// The device whose chain it is part of; none for state and memory files.
    pub device: Option<String>,
    /// How it is stored.
    pub format: FileFormat,
}

/// How a file is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFormat {
    /// As it is; runs of zeros become holes.
    Raw,
    /// As a disk, a delta if it has a parent: a monolithicSparse VMDK.
    Disk {
        /// Name of the file below this one, added earlier.
        parent: Option<String>,
        /// What the guest knows its disk by.
        properties: DiskProperties,
    },
}

/// What a guest knows its disk by, beside its bytes. It goes into the disk database of the stored VMDK.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskProperties {
    /// The controller the disk hangs on; none: the format's usual one.
    pub adapter: Option<String>,
    /// Cylinders, heads and sectors that were shown to the guest; none: computed from the size.
    pub geometry: Option<[u64; 3]>,
    /// The disk's own id.
    pub uuid: Option<String>,
    /// Entries of the back end that the disk comes from, which wants to have them back. Keys are printable ASCII
    /// without blanks, `=` and `"`, and values one line without `"`.
    pub back_end: BTreeMap<String, String>,
}

impl DiskProperties {
    /// The entries of the disk database, without the prefix `ddb.`.
    pub(crate) fn disk_database(&self) -> BTreeMap<String, String> {
        let mut entries = self.back_end.clone();
        let mut set = |key: &str, value: String| entries.insert(key.to_owned(), value);
        if let Some(adapter) = &self.adapter {
            set("adapterType", adapter.clone());
        }
        if let Some([cylinders, heads, sectors]) = self.geometry {
            set("geometry.cylinders", cylinders.to_string());
            set("geometry.heads", heads.to_string());
            set("geometry.sectors", sectors.to_string());
        }
        if let Some(uuid) = &self.uuid {
            set("uuid", uuid.clone());
        }
        entries
    }
}

impl FileSpec {
    /// The name under which progress is reported.
    pub(crate) fn label(&self) -> &str {
        self.device.as_deref().unwrap_or(&self.name)
    }

    pub(crate) fn is_delta(&self) -> bool {
        matches!(
            &self.format,
            FileFormat::Disk {
                parent: Some(_),
                ..
            }
        )
    }

    /// Makes a closure for `map_err`: reading the source failed at an offset.
    pub(crate) fn unreadable(
        &self,
        offset_bytes: u64,
    ) -> impl FnOnce(virtuozo_disk::DiskError) -> RepositoryError {
        let (name, device) = (self.name.clone(), self.device.clone());
        move |source| RepositoryError::Source {
            name,
            device,
            offset_bytes,
            source,
        }
    }
}

/// The sum of what is to be copied, found without reading data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyPlan {
    files: u64,
    read_bytes: u64,
    source_bytes: u64,
    stored_bytes: u64,
}

impl CopyPlan {
    /// Nothing to copy yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a small file of `len_bytes`. Returns `len_bytes`.
    pub fn add_small(&mut self, len_bytes: u64) -> u64 {
        self.files += 1;
        self.read_bytes += len_bytes;
        self.stored_bytes += len_bytes;
        len_bytes
    }

    /// Adds a file to be copied. Returns the bytes that will be read for it, the total that
    /// [`CopyObserver::progress`](crate::CopyObserver::progress) will name.
    ///
    /// # Errors
    /// [`RepositoryError::Source`] where the source's tables cannot be read.
    pub fn add_file(&mut self, spec: &FileSpec, source: &dyn BlockSource) -> Result<u64> {
        let read_bytes = read_bytes(spec, source)?;
        self.files += 1;
        self.read_bytes += read_bytes;
        if matches!(spec.format, FileFormat::Disk { .. }) {
            if !spec.is_delta() {
                self.source_bytes = self.source_bytes.saturating_add(source.size_bytes());
            }
            self.stored_bytes += virtuozo_disk::vmdk::estimate_bytes(
                source.size_bytes(),
                read_bytes.div_ceil(GRAIN_BYTES),
            );
        } else {
            self.stored_bytes += read_bytes;
        }
        Ok(read_bytes)
    }

    /// Bytes that will be read from the sources: without zero and absent ranges.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Sum of the disks' sizes.
    pub fn source_bytes(&self) -> u64 {
        self.source_bytes
    }

    /// Space the restore point may take, in bytes, its manifest and directory blocks included.
    pub fn needed_bytes(&self) -> u64 {
        // Per chunk of 4 MiB the manifest holds a line of about 80 bytes; per file some lines, and
        // the file system rounds up to a block.
        let manifest = self.stored_bytes / crate::hash::CHUNK_BYTES * 80 + (self.files + 1) * 8192;
        self.stored_bytes + manifest
    }
}

/// Bytes a copy of `source` reads.
pub(crate) fn read_bytes(spec: &FileSpec, source: &dyn BlockSource) -> Result<u64> {
    let mut sum = 0;
    let mut at = 0;
    for run in grains::runs(source) {
        let run = run.map_err(spec.unreadable(at))?;
        at = run.first_grain * GRAIN_BYTES;
        if run.kind != RunKind::Zero {
            sum += run.len_bytes(source.size_bytes());
        }
    }
    Ok(sum)
}
