//! One link of a disk: its descriptor and the extents that hold its bytes.

use std::path::{Path, PathBuf};

use super::{
    descriptor::{Descriptor, ExtentAccess, ExtentLine},
    descriptor_file::{DescriptorPlace, read_descriptor},
    extent::Extent,
    files::{DiskFiles, Named, OwnFiles},
    header::MAX_CAPACITY_SECTORS,
    malformed,
    sparse_write::Below,
    unsupported,
};
use crate::{
    BlockRange, BlockSource, DiskError, FilePlace, OpenFile, SECTOR_BYTES,
    open_file::Access,
    source::{check_bounds, fingerprint_of},
};

/// How an error names this format.
const FORMAT: &str = "VMDK disk";
/// Sectors of a delta in flat extents and runs of zeros, 1 GiB. Zeros hide the parent, so that each grain of them is noted
/// in a backup: 300 bytes of text would name terabytes of them. The products make sparse deltas only.
const MAX_FLAT_DELTA_SECTORS: u64 = 1 << 21;
/// `createType`s whose extents are read here, in lower case.
const READ_TYPES: [&str; 11] = [
    "monolithicsparse",
    "monolithicflat",
    "twogbmaxextentsparse",
    "twogbmaxextentflat",
    "2gbmaxextentsparse",
    "2gbmaxextentflat",
    "vmfs",
    "vmfsthin",
    "vmfspreallocated",
    "vmfseagerzeroedthick",
    "custom",
];

/// One link of a disk, on its own: a base disk, or a delta without its parents.
///
/// What it does not store is [absent](crate::RangeKind::Absent), in a base as in a delta; what it
/// knows to be zeros (marked so, or a hole of a flat file) is [zero](crate::RangeKind::Zero).
#[derive(Debug)]
pub struct Layer {
    found: FilePlace,
    descriptor: Descriptor,
    place: DescriptorPlace,
    extents: Vec<PlacedExtent>,
    files: Vec<PathBuf>,
    size_bytes: u64,
}

/// An extent and the run of the disk it holds.
#[derive(Debug)]
struct PlacedExtent {
    start_bytes: u64,
    size_bytes: u64,
    /// The guest may write.
    is_writable: bool,
    extent: Extent,
}

impl PlacedExtent {
    fn end_bytes(&self) -> u64 {
        self.start_bytes + self.size_bytes
    }
}

/// The part of an access that one extent serves.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Place of the extent in the list.
    extent: usize,
    /// Where it begins, in bytes from the beginning of the extent.
    at: u64,
    len_bytes: u64,
}

impl Layer {
    /// Opens one link, read-only, by its descriptor or by the file in which that is embedded. Nobody else may
    /// have chosen the names in it: see [`open_in`](Self::open_in).
    ///
    /// # Errors
    /// [`DiskError::Io`]; [`DiskError::Malformed`]; [`DiskError::Unsupported`] for kinds that are
    /// not read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DiskError> {
        Self::open_with(path.as_ref(), Access::Read)
    }

    pub(super) fn open_with(path: &Path, access: Access) -> Result<Self, DiskError> {
        let files = OwnFiles {
            search_dirs: &[],
            access,
        };
        Self::of(OpenFile::at_with(path, access)?, &files, access)
    }

    /// As [`open`](Self::open), with the files that `files` finds.
    ///
    /// # Errors
    /// As [`open`](Self::open), and what `files` says.
    pub fn open_in(opened: OpenFile, files: &dyn DiskFiles) -> Result<Self, DiskError> {
        Self::of(opened, files, Access::Read)
    }

    fn of(opened: OpenFile, files: &dyn DiskFiles, access: Access) -> Result<Self, DiskError> {
        let (descriptor, place, own_header) = read_descriptor(&opened)?;
        let path = opened.path().to_owned();
        let kind = descriptor.create_type();
        if !READ_TYPES.contains(&kind.to_ascii_lowercase().as_str()) {
            return Err(unsupported(
                &path,
                format!("disks of type {kind} are not read; convert it to a hosted type"),
            ));
        }
        let lines = descriptor.extents().to_vec();
        let other_sectors = descriptor
            .extents()
            .iter()
            .filter(|line| line.kind != "SPARSE")
            .fold(0, |sum: u64, line| sum.saturating_add(line.sectors));
        if descriptor.parent_content_id().is_some() && other_sectors > MAX_FLAT_DELTA_SECTORS {
            let reason = format!(
                "it is a delta with {other_sectors} sectors in extents that are not sparse, and \
                 {MAX_FLAT_DELTA_SECTORS} are the most; no product makes such deltas"
            );
            return Err(unsupported(&path, reason));
        }
        if lines.is_empty() {
            return Err(malformed(&path, FORMAT, "its descriptor names no extents"));
        }
        // In a file with its descriptor the name in the extent line may be stale: the file itself
        // is meant.
        let own_extent = own_header.is_some_and(|header| header.capacity != 0);
        if own_extent && (lines.len() != 1 || lines.iter().any(|line| line.kind != "SPARSE")) {
            return Err(unsupported(
                &path,
                "its embedded descriptor names other extents than the file itself".to_owned(),
            ));
        }
        let mut layer = Self {
            found: opened.place().clone(),
            place,
            extents: Vec::new(),
            files: vec![path],
            size_bytes: 0,
            descriptor,
        };
        let mut own_file = own_extent.then_some(opened);
        for line in lines {
            layer.add_extent(&line, own_file.take(), files, access)?;
        }
        Ok(layer)
    }

    /// What the text part says.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        self.found.path()
    }

    /// Reads all tables that say where its data lies. The data itself is not looked at.
    ///
    /// # Errors
    /// The first damage in them.
    pub fn check_tables(&self) -> Result<(), DiskError> {
        self.extents
            .iter()
            .try_for_each(|placed| placed.extent.check_tables())
    }

    /// Where its descriptor was found.
    pub fn found(&self) -> &FilePlace {
        &self.found
    }

    /// Whether it rests on a parent.
    pub fn is_delta(&self) -> bool {
        self.descriptor.parent_content_id().is_some()
    }

    /// All files that belong to it, the one it was opened by first.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Sizes of the extents, in sectors.
    pub(super) fn extent_sectors(&self) -> impl Iterator<Item = u64> + '_ {
        self.extents
            .iter()
            .map(|placed| placed.size_bytes / SECTOR_BYTES)
    }

    /// Adds the extent of a line, which lies in `own_file` where that is given.
    fn add_extent(
        &mut self,
        line: &ExtentLine,
        own_file: Option<OpenFile>,
        files: &dyn DiskFiles,
        access: Access,
    ) -> Result<(), DiskError> {
        let size_bytes = line
            .sectors
            .checked_mul(SECTOR_BYTES)
            .filter(|size| {
                self.size_bytes
                    .checked_add(*size)
                    .is_some_and(|total| total <= MAX_CAPACITY_SECTORS * SECTOR_BYTES)
            })
            .ok_or_else(|| {
                malformed(self.path(), FORMAT, "its extents are larger than any disk")
            })?;
        if line.access == ExtentAccess::None {
            return Err(unsupported(
                self.path(),
                "it has an extent that nobody may access (NOACCESS)".to_owned(),
            ));
        }
        let descriptor = self.path().to_owned();
        let extent = Extent::of(line, &descriptor, access, || match own_file {
            Some(own_file) => Ok(own_file),
            None => self.open_extent(line, files),
        })?;
        self.extents.push(PlacedExtent {
            start_bytes: self.size_bytes,
            size_bytes,
            is_writable: line.access == ExtentAccess::ReadWrite && line.kind != "ZERO",
            extent,
        });
        self.size_bytes += size_bytes;
        Ok(())
    }

    /// Opens the file of an extent and notes it.
    fn open_extent(
        &mut self,
        line: &ExtentLine,
        files: &dyn DiskFiles,
    ) -> Result<OpenFile, DiskError> {
        let name = line
            .file_name
            .as_deref()
            .filter(|name| !name.is_empty())
            .ok_or_else(|| {
                malformed(
                    self.path(),
                    FORMAT,
                    format!("a {} extent names no file", line.kind),
                )
            })?;
        let opened = files.open(Named::Extent, name, &self.found)?;
        let path = opened.path();
        if !self.files.iter().any(|file| file == path) {
            self.files.push(path.to_owned());
        }
        Ok(opened)
    }

    /// The place of the extent that holds a byte.
    fn extent_at(&self, offset_bytes: u64) -> usize {
        self.extents
            .partition_point(|extent| extent.end_bytes() <= offset_bytes)
    }

    /// Cuts an access at the borders of extents.
    fn pieces(&self, offset_bytes: u64, len_bytes: u64) -> Vec<Piece> {
        let end_bytes = offset_bytes + len_bytes;
        (self.extent_at(offset_bytes)..)
            .map_while(|place| {
                let extent = self.extents.get(place)?;
                let from = offset_bytes.max(extent.start_bytes);
                let to = end_bytes.min(extent.end_bytes());
                (from < to).then(|| Piece {
                    extent: place,
                    at: from - extent.start_bytes,
                    len_bytes: to - from,
                })
            })
            .collect()
    }

    /// Writes whole sectors; `below` gives what the parents hold, for the rest of new grains.
    pub(super) fn write_at(
        &mut self,
        offset_bytes: u64,
        data: &[u8],
        below: &mut Below<'_>,
    ) -> Result<(), DiskError> {
        self.check_writable(offset_bytes, data.len() as u64)?;
        let mut rest = data;
        for piece in self.pieces(offset_bytes, data.len() as u64) {
            let (now, tail) = rest.split_at(piece.len_bytes as usize);
            rest = tail;
            if let Some(placed) = self.extents.get_mut(piece.extent) {
                let start_bytes = placed.start_bytes;
                placed
                    .extent
                    .write_at(piece.at, now, &mut |at, buf| below(start_bytes + at, buf))?;
            }
        }
        Ok(())
    }

    /// Makes whole sectors read as zeros.
    pub(super) fn write_zeros(
        &mut self,
        offset_bytes: u64,
        len_bytes: u64,
        below: &mut Below<'_>,
    ) -> Result<(), DiskError> {
        self.check_writable(offset_bytes, len_bytes)?;
        let is_delta = self.is_delta();
        for piece in self.pieces(offset_bytes, len_bytes) {
            if let Some(placed) = self.extents.get_mut(piece.extent) {
                let start_bytes = placed.start_bytes;
                placed.extent.write_zeros(
                    piece.at,
                    piece.len_bytes,
                    is_delta,
                    &mut |at, buf| below(start_bytes + at, buf),
                )?;
            }
        }
        Ok(())
    }

    /// Returns once all writes are on stable storage.
    pub(super) fn sync(&self) -> Result<(), DiskError> {
        self.extents
            .iter()
            .try_for_each(|placed| placed.extent.sync())
    }

    /// Refuses parts of sectors and read-only extents.
    pub(super) fn check_writable(
        &self,
        offset_bytes: u64,
        len_bytes: u64,
    ) -> Result<(), DiskError> {
        check_bounds(offset_bytes, len_bytes, self.size_bytes)?;
        let refused = |reason: &str| DiskError::Refused {
            path: self.path().to_owned(),
            reason: reason.to_owned(),
        };
        if !offset_bytes.is_multiple_of(SECTOR_BYTES) || !len_bytes.is_multiple_of(SECTOR_BYTES) {
            return Err(refused("disks are written in whole sectors of 512 bytes"));
        }
        let all_writable = self
            .pieces(offset_bytes, len_bytes)
            .iter()
            .filter_map(|piece| self.extents.get(piece.extent))
            .all(|placed| placed.is_writable);
        if all_writable {
            Ok(())
        } else {
            Err(refused("this part of the disk is read-only"))
        }
    }

    pub(super) fn set_content_id(&mut self, content_id: u32) -> Result<(), DiskError> {
        let new = self.descriptor.with_content_id(self.path(), content_id)?;
        self.store_descriptor(new)
    }

    pub(super) fn set_parent(&mut self, content_id: u32, hint: &str) -> Result<(), DiskError> {
        let new = self.descriptor.with_parent(self.path(), content_id, hint)?;
        self.store_descriptor(new)
    }

    fn store_descriptor(&mut self, new: Descriptor) -> Result<(), DiskError> {
        self.place.store(self.found.path(), new.bytes())?;
        self.descriptor = new;
        Ok(())
    }
}

impl BlockSource for Layer {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn range_at(&self, offset_bytes: u64) -> Result<BlockRange, DiskError> {
        check_bounds(offset_bytes, 1, self.size_bytes)?;
        let Some(placed) = self.extents.get(self.extent_at(offset_bytes)) else {
            return Err(malformed(self.path(), FORMAT, "its extents do not join"));
        };
        let at = offset_bytes - placed.start_bytes;
        let (kind, len_bytes) = placed.extent.range_at(at)?;
        Ok(BlockRange {
            offset_bytes,
            len_bytes: len_bytes.min(placed.size_bytes - at),
            kind,
        })
    }

    fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        check_bounds(offset_bytes, buf.len() as u64, self.size_bytes)?;
        let mut rest = buf;
        for piece in self.pieces(offset_bytes, rest.len() as u64) {
            let (now, tail) = rest.split_at_mut(piece.len_bytes as usize);
            rest = tail;
            if let Some(placed) = self.extents.get(piece.extent) {
                placed.extent.read_at(piece.at, now)?;
            }
        }
        Ok(())
    }

    fn fingerprint(&self) -> Option<String> {
        fingerprint_of(&self.files)
    }
}
