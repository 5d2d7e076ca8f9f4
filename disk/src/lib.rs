//! Disk formats behind one trait, and the text files in which VMware names disks.
//!
//! Nothing here is asynchronous and nothing knows of a database: a caller that must not block runs
//! it on a thread of its own.

mod beneath;
mod error;
mod machine_roots;
mod open_file;
mod source;
pub mod vmdk;
pub mod vmware;

pub use beneath::{FileId, Roots};
pub use error::DiskError;
pub use machine_roots::{MachineRoots, RestorePoints};
pub use open_file::{FilePlace, OpenFile};
pub use source::{BlockRange, BlockSource, RangeKind, RawFile, ranges};

/// Bytes in one sector, the unit of all VMDK addresses.
pub const SECTOR_BYTES: u64 = 512;
