//! The one trait through which a disk is read, whatever its format and wherever it lies.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};

use crate::{DiskError, OpenFile};

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

    /// Identifies this state of the source: it stays the same, in all processes,
    /// for as long as nobody writes. None where it cannot be determined.
    fn fingerprint(&self) -> Option<String> {
        None
    }
}

/// Sizes and times of change of the files that hold a source.
pub(crate) fn fingerprint_of(files: &[PathBuf]) -> Option<String> {
    let mut all = Vec::with_capacity(files.len());
    for path in files {
        let metadata = fs::metadata(path).ok()?;
        all.push(format!(
            "{}:{}.{:09}",
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec()
        ));
    }
    Some(all.join(" "))
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

impl<T: BlockSource + ?Sized> BlockSource for Arc<T> {
    fn size_bytes(&self) -> u64 {
        (**self).size_bytes()
    }

    fn range_at(&self, offset_bytes: u64) -> Result<BlockRange, DiskError> {
        (**self).range_at(offset_bytes)
    }

    fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        (**self).read_at(offset_bytes, buf)
    }

    fn fingerprint(&self) -> Option<String> {
        (**self).fingerprint()
    }
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
    /// [`DiskError::Io`], or [`DiskError::Unsupported`] for a directory, a device or a pipe.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DiskError> {
        Ok(OpenFile::at(path.as_ref())?.into())
    }

    /// Writes inside the size; the file never grows.
    pub(crate) fn write_at(&self, offset_bytes: u64, data: &[u8]) -> Result<(), DiskError> {
        check_bounds(offset_bytes, data.len() as u64, self.size_bytes)?;
        self.file
            .write_all_at(data, offset_bytes)
            .map_err(DiskError::io("write", &self.path))
    }

    /// Returns once all writes are on stable storage.
    pub(crate) fn sync(&self) -> Result<(), DiskError> {
        self.file
            .sync_data()
            .map_err(DiskError::io("sync", &self.path))
    }

    /// The end of the hole that begins at `offset_bytes`, or none where data begins.
    fn hole_end(&self, offset_bytes: u64) -> Result<Option<u64>, DiskError> {
        let data_bytes = match seek(&self.file, SeekFrom::Data(offset_bytes)) {
            Ok(at) => at.min(self.size_bytes),
            Err(Errno::NXIO) => self.size_bytes,
            // Only some file systems know their holes; without that everything is data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => {
                return Err(DiskError::io("find holes of", &self.path)(error.into()));
            }
        };
        if data_bytes <= offset_bytes {
            return Ok(None);
        }
        // A file cut off since it was opened has no data there either, but is no run of zeros.
        let now_bytes = self
            .file
            .metadata()
            .map_err(DiskError::io("read the size of", &self.path))?
            .len();
        if now_bytes < self.size_bytes {
            return Err(DiskError::Io {
                action: "read",
                path: self.path.clone(),
                source: io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!(
                        "it shrank from {} to {now_bytes} bytes while in use",
                        self.size_bytes
                    ),
                ),
            });
        }
        Ok(Some(data_bytes))
    }
}

impl From<OpenFile> for RawFile {
    fn from(opened: OpenFile) -> Self {
        Self {
            path: opened.path().to_owned(),
            size_bytes: opened.size_bytes(),
            file: opened.into_file(),
        }
    }
}

impl BlockSource for RawFile {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn range_at(&self, offset_bytes: u64) -> Result<BlockRange, DiskError> {
        check_bounds(offset_bytes, 1, self.size_bytes)?;
        let (kind, end_bytes) = match self.hole_end(offset_bytes)? {
            Some(end_bytes) => (RangeKind::Zero, end_bytes),
            None => match seek(&self.file, SeekFrom::Hole(offset_bytes)) {
                Ok(at) if at > offset_bytes => (RangeKind::Data, at.min(self.size_bytes)),
                _ => (RangeKind::Data, self.size_bytes),
            },
        };
        Ok(BlockRange {
            offset_bytes,
            len_bytes: end_bytes - offset_bytes,
            kind,
        })
    }

    fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        check_bounds(offset_bytes, buf.len() as u64, self.size_bytes)?;
        self.file
            .read_exact_at(buf, offset_bytes)
            .map_err(DiskError::io("read", &self.path))
    }

    fn fingerprint(&self) -> Option<String> {
        fingerprint_of(std::slice::from_ref(&self.path))
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
