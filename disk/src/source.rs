//! The one trait through which a disk is read, whatever its format and wherever it lies.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::DiskError;

/// What a range of a disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RangeKind {
    /// Stored bytes; they may still all be zero.
    Data,
    /// Known to be zero without reading. In a delta it hides the parent.
    Zero,
    /// Not stored in this layer: the parent's bytes show through, or zeros where there is no parent.
    Absent,
}

/// A run of bytes of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRange {
    /// Where it begins, in bytes from the start of the disk.
    pub offset_bytes: u64,
    /// Its length in bytes, never 0.
    pub len_bytes: u64,
    /// What it holds.
    pub kind: RangeKind,
}

impl BlockRange {
    /// The first byte after the range.
    pub fn end_bytes(&self) -> u64 {
        self.offset_bytes + self.len_bytes
    }
}

/// A disk, one layer of a disk, or any other run of bytes with holes, read at offsets.
///
/// Reading takes `&self`: several threads may read one source at the same time.
pub trait BlockSource: Send + Sync {
    /// The size in bytes.
    fn size_bytes(&self) -> u64;

    /// The range that begins exactly at `offset_bytes` (which is below the size), found without
    /// reading data. The next range may be of the same kind.
    ///
    /// # Errors
    /// [`DiskError::OutOfRange`], or what the tables of the format say.
    fn range_at(&self, offset_bytes: u64) -> Result<BlockRange, DiskError>;

    /// Fills `buf` from `offset_bytes`. Zero and absent ranges read as zeros.
    ///
    /// # Errors
    /// [`DiskError::OutOfRange`] past the end; a truncated file is an error, never a short read.
    fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), DiskError>;
}

/// All ranges of a source in order, neighbours of one kind joined.
pub fn ranges(
    source: &dyn BlockSource,
) -> impl Iterator<Item = Result<BlockRange, DiskError>> + '_ {
    let mut at = 0;
    let mut held: Option<BlockRange> = None;
    let mut failed = false;
    std::iter::from_fn(move || {
        loop {
            if failed || at >= source.size_bytes() {
                return held.take().map(Ok);
            }
            let next = match source.range_at(at) {
                Ok(range) => range,
                Err(error) => {
                    failed = true;
                    held = None;
                    return Some(Err(error));
                }
            };
            at = next.end_bytes();
            match &mut held {
                Some(range) if range.kind == next.kind => range.len_bytes += next.len_bytes,
                _ => {
                    if let Some(done) = held.replace(next) {
                        return Some(Ok(done));
                    }
                }
            }
        }
    })
}

/// Any file as it is, its holes found by the file system: a flat extent, a memory image, a state file.
#[derive(Debug)]
pub struct RawFile {
    file: File,
    path: PathBuf,
    size_bytes: u64,
}

impl RawFile {
    /// Opens a file for reading; its size is fixed from now on.
    ///
    /// # Errors
    /// [`DiskError::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DiskError> {
        let path = path.as_ref().to_owned();
        let file = File::open(&path).map_err(DiskError::io("open", &path))?;
        let size_bytes = file
            .metadata()
            .map_err(DiskError::io("read the size of", &path))?
            .len();
        Ok(Self {
            file,
            path,
            size_bytes,
        })
    }
}

impl BlockSource for RawFile {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn range_at(&self, offset_bytes: u64) -> Result<BlockRange, DiskError> {
        check_bounds(offset_bytes, 1, self.size_bytes)?;
        // Replaced by a search for holes (SEEK_DATA/SEEK_HOLE).
        Ok(BlockRange {
            offset_bytes,
            len_bytes: self.size_bytes - offset_bytes,
            kind: RangeKind::Data,
        })
    }

    fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        check_bounds(offset_bytes, buf.len() as u64, self.size_bytes)?;
        self.file
            .read_exact_at(buf, offset_bytes)
            .map_err(DiskError::io("read", &self.path))
    }
}

/// Refuses an access that does not lie wholly inside a disk of `size_bytes`.
pub(crate) fn check_bounds(
    offset_bytes: u64,
    len_bytes: u64,
    size_bytes: u64,
) -> Result<(), DiskError> {
    match offset_bytes.checked_add(len_bytes) {
        Some(end) if end <= size_bytes => Ok(()),
        _ => Err(DiskError::OutOfRange {
            offset_bytes,
            len_bytes,
            size_bytes,
        }),
    }
}
