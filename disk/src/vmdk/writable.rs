//! Reads and writes a disk as its guest does, and puts a delta's content into its parent.

use std::{
    hash::{BuildHasher, RandomState},
    path::Path,
    sync::Arc,
};

use super::{
    chain::{check_content_id, check_size, hint_of, open_parents, read_links, read_through},
    create::parent_hint,
    descriptor::NO_PARENT,
    files::{Named, OwnFiles, no_parent},
    layer::Layer,
};
use crate::{
    BlockSource, DiskError, RangeKind, SECTOR_BYTES, open_file::Access, source::check_bounds,
};

/// Bytes that a merge copies at once.
const MERGE_BYTES: u64 = 1024 * 1024;
/// How the parents are found.
const OWN_FILES: OwnFiles<'static> = OwnFiles {
    search_dirs: &[],
    access: Access::Read,
};

/// The newest link of a chain, open for writing, its parents for reading.
///
/// One process writes at a time; that is the caller's to hold. Others may read what the disk held
/// when they opened it.
#[derive(Debug)]
pub struct WritableDisk {
    top: Layer,
    parents: Vec<Arc<Layer>>,
    has_new_content_id: bool,
}

impl WritableDisk {
    /// Opens the newest link at `path` and its parents. As with VMware's products, the first write
    /// after opening gives the disk a new content id, so deltas that rest on it become invalid.
    ///
    /// # Errors
    /// Those of [`Chain::open`](super::Chain::open); [`DiskError::Malformed`] for damage that is
    /// made up for by redundant tables when only reading.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DiskError> {
        let top = Layer::open_with(path.as_ref(), Access::ReadWrite)?;
        let parents = open_parents(&top, &OWN_FILES)?;
        Ok(Self {
            top,
            parents,
            has_new_content_id: false,
        })
    }

    /// The size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.top.size_bytes()
    }

    /// Fills `buf` from `offset_bytes`.
    ///
    /// # Errors
    /// [`DiskError::OutOfRange`]; [`DiskError::Io`]; [`DiskError::Malformed`].
    pub fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        check_bounds(offset_bytes, buf.len() as u64, self.size_bytes())?;
        read_through(&self.top, &self.parents, offset_bytes, buf)
    }

    /// Writes whole sectors.
    ///
    /// # Errors
    /// [`DiskError::OutOfRange`]; [`DiskError::Refused`] for parts of sectors, read-only extents
    /// and files that would exceed 2 TiB; [`DiskError::Io`].
    pub fn write_at(&mut self, offset_bytes: u64, data: &[u8]) -> Result<(), DiskError> {
        if !self.has_new_content_id {
            self.top.check_writable(offset_bytes, data.len() as u64)?;
            self.top.set_content_id(random_content_id())?;
            self.has_new_content_id = true;
        }
        self.put(offset_bytes, data)
    }

    /// Returns once all writes are on stable storage.
    ///
    /// # Errors
    /// [`DiskError::Io`].
    pub fn sync(&mut self) -> Result<(), DiskError> {
        self.top.sync()
    }

    fn put(&mut self, offset_bytes: u64, data: &[u8]) -> Result<(), DiskError> {
        let parents = &self.parents;
        self.top.write_at(offset_bytes, data, &mut |at, buf| {
            read_links(parents, at, buf)
        })
    }

    fn put_zeros(&mut self, offset_bytes: u64, len_bytes: u64) -> Result<(), DiskError> {
        let parents = &self.parents;
        self.top
            .write_zeros(offset_bytes, len_bytes, &mut |at, buf| {
                read_links(parents, at, buf)
            })
    }
}

/// Copies all that the delta at `child_path` holds into its parent, which must have no other
/// children and no writer. The parent then has the delta's content and its content id, so that the
/// delta's own children fit it, once [`set_parent`] has re-pointed them.
///
/// May be repeated after a crash at any point. Deletes nothing.
///
/// # Errors
/// [`DiskError::ContentId`] where the parent was changed; [`DiskError::Refused`] for a disk that is
/// no delta; those of [`WritableDisk`].
pub fn merge_into_parent(child_path: impl AsRef<Path>) -> Result<(), DiskError> {
    let child = Layer::open(child_path)?;
    let Some(expected) = child.descriptor().parent_content_id() else {
        return Err(DiskError::Refused {
            path: child.path().to_owned(),
            reason: "it is not a delta, so it has no parent to be merged into".to_owned(),
        });
    };
    let parent = OWN_FILES.locate(Named::Parent, hint_of(&child)?, child.path());
    let mut parent = WritableDisk::open(parent).map_err(no_parent)?;
    let content_id = child.descriptor().content_id();
    // A merge that was interrupted at its very end has left the delta's own id.
    if parent.top.descriptor().content_id() != content_id {
        check_content_id(&child, &parent.top, expected)?;
    }
    check_size(&child, &parent.top)?;
    let mut buf = Vec::new();
    let mut at = 0;
    while at < child.size_bytes() {
        let range = child.range_at(at)?;
        let mut len = range.len_bytes;
        match range.kind {
            RangeKind::Absent => {}
            RangeKind::Zero => parent.put_zeros(at, len)?,
            RangeKind::Data => {
                len = len.min(MERGE_BYTES);
                buf.resize(len as usize, 0);
                child.read_at(at, &mut buf)?;
                parent.put(at, &buf)?;
            }
        }
        at += len;
    }
    // The id must not say that it is all there before it is.
    parent.sync()?;
    parent.top.set_content_id(content_id)?;
    parent.sync()
}

/// Makes the disk at `parent_path` the parent of the delta at `child_path`, whose content must be
/// what the delta was made for.
///
/// # Errors
/// [`DiskError::ContentId`] where it is not; [`DiskError::Refused`] for a disk that is no delta;
/// those of [`Layer::open`].
pub fn set_parent(
    child_path: impl AsRef<Path>,
    parent_path: impl AsRef<Path>,
) -> Result<(), DiskError> {
    let mut child = Layer::open(child_path)?;
    let parent = Layer::open(parent_path)?;
    let Some(expected) = child.descriptor().parent_content_id() else {
        return Err(DiskError::Refused {
            path: child.path().to_owned(),
            reason: "it is not a delta, so it can have no parent".to_owned(),
        });
    };
    check_content_id(&child, &parent, expected)?;
    check_size(&child, &parent)?;
    let hint = parent_hint(child.path(), parent.path())?;
    child.set_parent(expected, &hint)
}

/// A content id that nothing had before; never one with a meaning of its own.
fn random_content_id() -> u32 {
    // The standard library keys every hasher at random.
    let id = RandomState::new().hash_one(SECTOR_BYTES) as u32;
    if id >= NO_PARENT - 1 { id / 2 } else { id }
}
