//! Hosted VMDK disks: single links, chains of deltas, and the files that hold them.
//!
//! [`Layer`] reads one link, [`Chain`] a link with all its parents. [`SparseWriter`] writes a link
//! from front to back, for backups; [`create`], [`create_delta`] and [`WritableDisk`] make disks and
//! use them as a guest does. Not read: streamOptimized, and the deltas of ESX (vmfsSparse, seSparse).

mod chain;
mod create;
mod descriptor;
mod descriptor_file;
mod directory;
mod extent;
mod header;
mod layer;
mod sparse;
mod sparse_write;
mod template;
mod writable;
mod writer;

use std::path::{Path, PathBuf};

pub use chain::Chain;
pub use create::{CreateOptions, DiskKind, create, create_delta};
pub use descriptor::Descriptor;
pub use layer::Layer;
pub use template::ParentLink;
pub use writable::{WritableDisk, merge_into_parent, set_parent};
pub use writer::{SparseOptions, SparseWriter, WriteAt, estimate_bytes};

use crate::{
    DiskError,
    vmware::host_path::{base_name, to_slashes},
};

/// Bytes in one grain of the images written here; VMware's products use the same.
pub const GRAIN_BYTES: u64 = 65536;

/// Finds the file that a descriptor names: where it says (relative names against its directory, then
/// against `search_dirs`), else by base name in the same places. Where there is none, the place
/// where it should be.
fn locate(name: &str, descriptor: &Path, search_dirs: &[PathBuf]) -> PathBuf {
    let own_dir = descriptor.parent().unwrap_or(Path::new(""));
    let dirs = || std::iter::once(own_dir).chain(search_dirs.iter().map(PathBuf::as_path));
    let spellings = [
        name.to_owned(),
        to_slashes(name),
        base_name(name).to_owned(),
    ];
    spellings
        .iter()
        .flat_map(|name| dirs().map(move |dir| dir.join(name)))
        .find(|path| path.is_file())
        .unwrap_or_else(|| own_dir.join(name))
}

fn malformed(path: &Path, format: &'static str, reason: impl Into<String>) -> DiskError {
    DiskError::Malformed {
        path: path.to_owned(),
        format,
        reason: reason.into(),
    }
}

fn unsupported(path: &Path, reason: String) -> DiskError {
    DiskError::Unsupported {
        path: path.to_owned(),
        reason,
    }
}
