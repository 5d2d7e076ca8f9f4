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
mod files;
mod header;
mod layer;
mod sparse;
mod sparse_write;
mod template;
mod writable;
mod writer;

use std::path::Path;

pub use chain::Chain;
pub use create::{CreateOptions, DiskKind, create, create_delta};
pub use descriptor::Descriptor;
pub use files::{DiskFiles, Named, no_parent};
pub use layer::Layer;
pub use template::ParentLink;
pub use writable::{WritableDisk, merge_into_parent, set_parent};
pub use writer::{SparseOptions, SparseWriter, WriteAt, estimate_bytes};

use crate::DiskError;

/// Bytes in one grain of the images written here; VMware's products use the same.
pub const GRAIN_BYTES: u64 = 65536;

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
