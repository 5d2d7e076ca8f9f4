//! Restore points at rest: copy engine, layout, manifest, verify, retention, restore.
//!
//! A restore point is a directory of plain files that a hypervisor opens at once, with a manifest
//! beside them; `docs/concepts/storage-format.md` describes it. It is written under a temporary name, synced,
//! and published by renaming, so at every instant it is complete or absent.
//!
//! Everything here blocks: asynchronous callers run it on a thread of its own.

mod access;
mod copy;
mod durable;
mod error;
mod grains;
mod hash;
mod journal;
mod keys;
mod manifest;
mod marker;
mod names;
mod observe;
mod places;
mod plan;
mod point;
mod read_back;
mod recorded;
mod repo;
mod restore;

pub mod retention;
mod scan;
mod sink;
mod stored;
mod verify;

pub use access::Access;
pub use durable::{Space, space, sync_dir};
pub use error::{ErrorClass, RepositoryError, Result, Stopped};
pub use hash::{CHUNK_BYTES, Digest};
pub use keys::{Authenticity, ManifestKey, ManifestKeys};
pub use manifest::{
    FORMAT_VERSION, FileEntry, Manifest, NewPoint, PointMode, ReadManifest, StoredFormat,
};
pub use marker::MARKER_NAME;
pub use names::{MANIFEST_NAME, POINT_FILES};
pub use observe::{CopyObserver, Unobserved};
pub use plan::{CopyPlan, DiskProperties, FileFormat, FileSpec};
pub use point::{PointWriter, PublishedPoint, SealedPoint};
pub use read_back::ReadBack;
pub use recorded::{Recorded, RecordedSource};
pub use repo::{ListedPoint, PointSummary, Repository};
pub use restore::{RestoreOptions, RestoreReport, restore};
pub use scan::{Found, FoundWhat, Unfinished};
pub use verify::{Problem, VerifyReport};
