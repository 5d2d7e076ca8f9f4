//! One extent of a disk, whatever its type: the run of the disk that one file holds.

use std::path::Path;

use super::{
    descriptor::ExtentLine, malformed, sparse::SparseExtent, sparse_write::Below, unsupported,
};
use crate::{
    BlockSource, DiskError, OpenFile, RangeKind, RawFile, SECTOR_BYTES, open_file::Access,
};

/// What holds the bytes of an extent. Offsets are in bytes from where the extent begins.
#[derive(Debug)]
pub(super) enum Extent {
    Flat {
        file: RawFile,
        start_bytes: u64,
    },
    Sparse(Box<SparseExtent>),
    /// Zeros, kept nowhere.
    Zero,
}

impl Extent {
    /// What `line` of the descriptor at `descriptor` describes; `open` opens the file that it names.
    pub(super) fn of(
        line: &ExtentLine,
        descriptor: &Path,
        access: Access,
        open: impl FnOnce() -> Result<OpenFile, DiskError>,
    ) -> Result<Self, DiskError> {
        match line.kind.as_str() {
            "ZERO" => Ok(Self::Zero),
            "SPARSE" => {
                let sparse = SparseExtent::open(open()?, line.sectors, access)?;
                Ok(Self::Sparse(Box::new(sparse)))
            }
            "FLAT" | "VMFS" => Self::flat(line, open()?),
            other => Err(unsupported(
                descriptor,
                format!("extents of type {other} are not read"),
            )),
        }
    }

    fn flat(line: &ExtentLine, opened: OpenFile) -> Result<Self, DiskError> {
        let path = opened.path().to_owned();
        let file = RawFile::from(opened);
        let start_bytes = line.offset_sectors.saturating_mul(SECTOR_BYTES);
        let size_bytes = line.sectors.saturating_mul(SECTOR_BYTES);
        let needed_bytes = start_bytes.saturating_add(size_bytes);
        if file.size_bytes() < needed_bytes {
            return Err(malformed(
                &path,
                "flat VMDK extent",
                format!(
                    "it is cut off: it has {} bytes, but its descriptor needs {needed_bytes}",
                    file.size_bytes()
                ),
            ));
        }
        Ok(Self::Flat { file, start_bytes })
    }

    /// Reads all tables that say where data lies.
    pub(super) fn check_tables(&self) -> Result<(), DiskError> {
        match self {
            Self::Sparse(sparse) => sparse.check_tables(),
            Self::Flat { .. } | Self::Zero => Ok(()),
        }
    }

    /// Kind and length in bytes of the range that begins at `at`; may reach past the extent.
    pub(super) fn range_at(&self, at: u64) -> Result<(RangeKind, u64), DiskError> {
        let range = match self {
            Self::Flat { file, start_bytes } => file.range_at(start_bytes + at)?,
            Self::Sparse(sparse) => sparse.range_at(at)?,
            Self::Zero => return Ok((RangeKind::Zero, u64::MAX)),
        };
        Ok((range.kind, range.len_bytes))
    }

    pub(super) fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        match self {
            Self::Flat { file, start_bytes } => file.read_at(start_bytes + at, buf),
            Self::Sparse(sparse) => sparse.read_at(at, buf),
            Self::Zero => {
                buf.fill(0);
                Ok(())
            }
        }
    }

    /// Writes whole sectors; `below` fills the rest of a grain that is new.
    pub(super) fn write_at(
        &mut self,
        at: u64,
        data: &[u8],
        below: &mut Below<'_>,
    ) -> Result<(), DiskError> {
        match self {
            Self::Flat { file, start_bytes } => file.write_at(*start_bytes + at, data),
            Self::Sparse(sparse) => sparse.write_at(at, data, below),
            Self::Zero => Ok(()),
        }
    }

    /// Makes whole sectors read as zeros.
    pub(super) fn write_zeros(
        &mut self,
        at: u64,
        len_bytes: u64,
        is_delta: bool,
        below: &mut Below<'_>,
    ) -> Result<(), DiskError> {
        match self {
            Self::Flat { file, start_bytes } => zero_flat(file, *start_bytes + at, len_bytes),
            Self::Sparse(sparse) => sparse.write_zeros(at, len_bytes, is_delta, below),
            Self::Zero => Ok(()),
        }
    }

    /// Returns once all writes are on stable storage.
    pub(super) fn sync(&self) -> Result<(), DiskError> {
        match self {
            Self::Flat { file, .. } => file.sync(),
            Self::Sparse(sparse) => sparse.sync(),
            Self::Zero => Ok(()),
        }
    }
}

/// Zeros what is not a hole already.
fn zero_flat(file: &RawFile, offset_bytes: u64, len_bytes: u64) -> Result<(), DiskError> {
    const PIECE_BYTES: u64 = 1024 * 1024;
    let end_bytes = offset_bytes + len_bytes;
    let zeros = vec![0; PIECE_BYTES.min(len_bytes) as usize];
    let mut at = offset_bytes;
    while at < end_bytes {
        let range = file.range_at(at)?;
        let len = range.len_bytes.min(end_bytes - at).min(PIECE_BYTES);
        if range.kind == RangeKind::Data
            && let Some(zeros) = zeros.get(..len as usize)
        {
            file.write_at(at, zeros)?;
        }
        at += len;
    }
    Ok(())
}
