//! Hosted VMDK disks: single links, chains of deltas, and the files that hold them.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{BlockRange, BlockSource, DiskError};

/// Bytes in one grain of the images written here.
pub const GRAIN_BYTES: u64 = 65536;

/// What the text part of a disk says.
#[derive(Debug, Clone)]
pub struct Descriptor {
    ddb: BTreeMap<String, String>,
}

impl Descriptor {
    /// The content id (`CID`).
    pub fn content_id(&self) -> u32 {
        0
    }
    /// The content id the parent must have; none for a base disk.
    pub fn parent_content_id(&self) -> Option<u32> {
        None
    }
    /// Where the parent is, as written (`parentFileNameHint`).
    pub fn parent_hint(&self) -> Option<&str> {
        None
    }
    /// `createType`, as written.
    pub fn create_type(&self) -> &str {
        ""
    }
    /// `ddb.adapterType`, as written.
    pub fn adapter_type(&self) -> Option<&str> {
        None
    }
    /// `ddb.virtualHWVersion`.
    pub fn hardware_version(&self) -> Option<u32> {
        None
    }
    /// All `ddb.` entries, keys in lower case without `ddb.`.
    pub fn ddb(&self) -> &BTreeMap<String, String> {
        &self.ddb
    }
}

/// One link of a disk, read-only.
#[derive(Debug)]
pub struct Layer {
    path: PathBuf,
    descriptor: Descriptor,
}

impl Layer {
    /// Opens one link.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DiskError> {
        Err(unfinished(path.as_ref()))
    }
    /// The descriptor.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Whether it is a delta.
    pub fn is_delta(&self) -> bool {
        false
    }
    /// All files that belong to it, the descriptor first.
    pub fn files(&self) -> &[PathBuf] {
        &[]
    }
}

impl BlockSource for Layer {
    fn size_bytes(&self) -> u64 {
        0
    }
    fn range_at(&self, _offset_bytes: u64) -> Result<BlockRange, DiskError> {
        Err(unfinished(&self.path))
    }
    fn read_at(&self, _offset_bytes: u64, _buf: &mut [u8]) -> Result<(), DiskError> {
        Err(unfinished(&self.path))
    }
}

/// A link and all its parents, read as the guest sees them.
#[derive(Debug)]
pub struct Chain {
    layers: Vec<Arc<Layer>>,
}

impl Chain {
    /// Opens the newest link at `path` and all its parents.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(path: impl AsRef<Path>, _search_dirs: &[PathBuf]) -> Result<Self, DiskError> {
        Err(unfinished(path.as_ref()))
    }
    /// The links, newest first.
    pub fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }
}

impl BlockSource for Chain {
    fn size_bytes(&self) -> u64 {
        0
    }
    fn range_at(&self, _offset_bytes: u64) -> Result<BlockRange, DiskError> {
        Err(unfinished(Path::new("")))
    }
    fn read_at(&self, _offset_bytes: u64, _buf: &mut [u8]) -> Result<(), DiskError> {
        Err(unfinished(Path::new("")))
    }
}

/// Where a writer puts its bytes.
pub trait WriteAt {
    /// Writes all of `buf` at `offset_bytes`.
    ///
    /// # Errors
    /// What the system says.
    fn write_at(&mut self, offset_bytes: u64, buf: &[u8]) -> io::Result<()>;
}

impl WriteAt for File {
    fn write_at(&mut self, offset_bytes: u64, buf: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, buf, offset_bytes)
    }
}

/// The parent of a delta that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentLink {
    /// Content id of the parent.
    pub content_id: u32,
    /// Name of the parent's descriptor, as it is to be written.
    pub hint: String,
}

/// What a new sparse disk of one file is to be.
#[derive(Debug, Clone, Default)]
pub struct SparseOptions {
    /// Name of the file, for the extent line.
    pub file_name: String,
    /// Size of the disk in bytes, whole sectors.
    pub capacity_bytes: u64,
    /// Content id.
    pub content_id: u32,
    /// The parent, for a delta.
    pub parent: Option<ParentLink>,
    /// `ddb.adapterType`.
    pub adapter_type: String,
    /// `ddb.virtualHWVersion`.
    pub hardware_version: u32,
    /// Further `ddb.` entries (keys without `ddb.`), for example `uuid`; they win over computed ones.
    pub ddb: BTreeMap<String, String>,
}

/// Writes a monolithicSparse disk.
#[derive(Debug)]
pub struct SparseWriter<W> {
    sink: W,
}

impl<W: WriteAt> SparseWriter<W> {
    /// Begins a disk in `sink`, which must be empty.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn new(
        _sink: W,
        path_for_errors: impl Into<PathBuf>,
        _options: &SparseOptions,
    ) -> Result<Self, DiskError> {
        Err(unfinished(&path_for_errors.into()))
    }
    /// Appends a grain.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn write_grain(&mut self, _grain_index: u64, _data: &[u8]) -> Result<(), DiskError> {
        Ok(())
    }
    /// Marks a grain as zeros.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn zero_grain(&mut self, _grain_index: u64) -> Result<(), DiskError> {
        Ok(())
    }
    /// Where the first grain is written: all metadata lies before it.
    pub fn data_start_bytes(&self) -> u64 {
        0
    }
    /// Writes all metadata.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn finish(self) -> Result<W, DiskError> {
        Ok(self.sink)
    }
}

/// The size in bytes of the file a [`SparseWriter`] makes.
pub fn estimate_bytes(_capacity_bytes: u64, data_grains: u64) -> u64 {
    data_grains * GRAIN_BYTES
}

/// The kinds of disk that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskKind {
    /// One growing file.
    MonolithicSparse,
    /// A descriptor and one file of full size.
    MonolithicFlat,
    /// A descriptor and growing parts.
    TwoGbMaxExtentSparse,
    /// A descriptor and parts of full size.
    TwoGbMaxExtentFlat,
}

/// What a new disk is to be.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// Kind.
    pub kind: DiskKind,
    /// Size in bytes, whole sectors.
    pub capacity_bytes: u64,
    /// `ddb.adapterType`.
    pub adapter_type: String,
    /// `ddb.virtualHWVersion`.
    pub hardware_version: u32,
    /// Content id.
    pub content_id: u32,
    /// Sectors in one part of a split disk; none for the usual 2047 MiB.
    pub max_extent_sectors: Option<u64>,
}

/// Makes an empty disk; refuses to replace files.
///
/// # Errors
/// [`DiskError`].
pub fn create(path: impl AsRef<Path>, _options: &CreateOptions) -> Result<(), DiskError> {
    Err(unfinished(path.as_ref()))
}

/// Makes an empty delta at `child_path` on top of `parent_path`.
///
/// # Errors
/// [`DiskError`].
pub fn create_delta(
    child_path: impl AsRef<Path>,
    _parent_path: impl AsRef<Path>,
) -> Result<(), DiskError> {
    Err(unfinished(child_path.as_ref()))
}

/// Copies what a delta holds into its parent; can be repeated after a crash. The parent then has the
/// delta's content id, so that the delta's own children fit it once [`set_parent`] has re-pointed
/// them. Deletes nothing.
///
/// # Errors
/// [`DiskError`].
pub fn merge_into_parent(child_path: impl AsRef<Path>) -> Result<(), DiskError> {
    Err(unfinished(child_path.as_ref()))
}

/// Makes `parent_path` the parent of the delta at `child_path`; their content ids must fit.
///
/// # Errors
/// [`DiskError`].
pub fn set_parent(
    child_path: impl AsRef<Path>,
    _parent_path: impl AsRef<Path>,
) -> Result<(), DiskError> {
    Err(unfinished(child_path.as_ref()))
}

/// The newest link of a chain, read and written as the guest does.
#[derive(Debug)]
pub struct WritableDisk {
    path: PathBuf,
}

impl WritableDisk {
    /// Opens the newest link for writing and its parents for reading. The first write gives the
    /// disk a new content id.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DiskError> {
        Err(unfinished(path.as_ref()))
    }
    /// Size in bytes.
    pub fn size_bytes(&self) -> u64 {
        0
    }
    /// Fills `buf` from `offset_bytes`.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn read_at(&self, _offset_bytes: u64, _buf: &mut [u8]) -> Result<(), DiskError> {
        Err(unfinished(&self.path))
    }
    /// Writes whole sectors.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn write_at(&mut self, _offset_bytes: u64, _data: &[u8]) -> Result<(), DiskError> {
        Err(unfinished(&self.path))
    }
    /// Returns once all writes are on stable storage.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn sync(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

fn unfinished(path: &Path) -> DiskError {
    DiskError::Unsupported {
        path: path.to_owned(),
        reason: "this part is being written".into(),
    }
}
