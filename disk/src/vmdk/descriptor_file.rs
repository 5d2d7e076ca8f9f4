//! Where a descriptor is stored: in a file of its own, or inside a sparse extent.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{
    descriptor::{Descriptor, MAX_DESCRIPTOR_BYTES},
    header::{MAGIC, SparseHeader},
    malformed,
    sparse::read_header,
    unsupported,
};
use crate::{DiskError, OpenFile, SECTOR_BYTES, open_file::Access};

/// How an error names this format.
const FORMAT: &str = "VMDK disk";
/// First bytes of a vmfsSparse extent.
const MAGIC_COWD: [u8; 4] = *b"COWD";
/// First bytes of a seSparse extent.
const MAGIC_SE: [u8; 4] = 0xcafe_babe_u32.to_le_bytes();

/// Where the descriptor is stored.
#[derive(Debug, Clone, Copy)]
pub(super) enum DescriptorPlace {
    OwnFile,
    /// In the sparse file itself.
    Embedded {
        offset_bytes: u64,
        len_bytes: u64,
    },
}

impl DescriptorPlace {
    /// Stores a changed descriptor at `path`; syncing an embedded one is the caller's.
    pub(super) fn store(self, path: &Path, text: &[u8]) -> Result<(), DiskError> {
        let Self::Embedded {
            offset_bytes,
            len_bytes,
        } = self
        else {
            return replace_file(path, text);
        };
        if text.len() as u64 > len_bytes {
            return Err(DiskError::Refused {
                path: path.to_owned(),
                reason: format!("its descriptor has room for {len_bytes} bytes only"),
            });
        }
        let mut region = text.to_vec();
        region.resize(len_bytes as usize, 0);
        let opened = OpenFile::at_with(path, Access::ReadWrite)?;
        let file = opened.file();
        file.write_all_at(&region, offset_bytes)
            .map_err(DiskError::io("write the descriptor of", path))
    }
}

/// Reads the descriptor in a file; also gives the header if the file is a sparse extent.
pub(super) fn read_descriptor(
    opened: &OpenFile,
) -> Result<(Descriptor, DescriptorPlace, Option<SparseHeader>), DiskError> {
    let (file, path, file_bytes) = (opened.file(), opened.path(), opened.size_bytes());
    let mut magic = [0; 4];
    if file_bytes < 4 {
        return Err(malformed(path, FORMAT, "it is empty"));
    }
    file.read_exact_at(&mut magic, 0)
        .map_err(DiskError::io("read", path))?;
    if magic == MAGIC_COWD || magic == MAGIC_SE {
        return Err(unsupported(
            path,
            "it is the data file of an ESX delta (vmfsSparse or seSparse), which is not read; \
             have the host consolidate the guest's snapshots"
                .to_owned(),
        ));
    }
    if magic != MAGIC {
        if file_bytes > MAX_DESCRIPTOR_BYTES {
            return Err(malformed(
                path,
                FORMAT,
                "it is neither a descriptor nor a sparse extent; open a flat disk by its descriptor",
            ));
        }
        let text = read_text(file, path, 0, file_bytes)?;
        let descriptor = Descriptor::parse(path, &text)?;
        return Ok((descriptor, DescriptorPlace::OwnFile, None));
    }
    let header = read_header(file, path, file_bytes)?;
    if header.descriptor == 0 || header.descriptor_len == 0 {
        return Err(unsupported(
            path,
            "it is one part of a split disk; open the disk by its descriptor".to_owned(),
        ));
    }
    let offset_bytes = header.descriptor.saturating_mul(SECTOR_BYTES);
    let len_bytes = header.descriptor_len.saturating_mul(SECTOR_BYTES);
    if len_bytes > MAX_DESCRIPTOR_BYTES || offset_bytes.saturating_add(len_bytes) > file_bytes {
        return Err(malformed(
            path,
            FORMAT,
            "its embedded descriptor is outside the file",
        ));
    }
    let text = read_text(file, path, offset_bytes, len_bytes)?;
    let place = DescriptorPlace::Embedded {
        offset_bytes,
        len_bytes,
    };
    Ok((Descriptor::parse(path, &text)?, place, Some(header)))
}

fn read_text(
    file: &File,
    path: &Path,
    offset_bytes: u64,
    len_bytes: u64,
) -> Result<Vec<u8>, DiskError> {
    let mut text = vec![0; len_bytes as usize];
    file.read_exact_at(&mut text, offset_bytes)
        .map_err(DiskError::io("read the descriptor of", path))?;
    Ok(text)
}

/// Replaces a small file so that a crash leaves the old or the new one.
fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let mut new_path = path.as_os_str().to_owned();
    new_path.push(".new");
    let new_path = PathBuf::from(new_path);
    let write = || {
        let mut file = File::create(&new_path)?;
        file.set_permissions(fs::metadata(path)?.permissions())?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new_path, path)
    };
    write().map_err(DiskError::io("replace", path))
}
