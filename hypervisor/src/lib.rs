//! The port to hypervisors: what Virtuozo asks of any of them, and one folder per back end.
//!
//! Callers ask for a capability, never for a kind of hypervisor. A guest's disks are handed out as
//! [`virtuozo_disk::BlockSource`]s and its small files as bytes.

#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod port;
pub mod snapshot_name;
#[cfg(feature = "testing")]
pub mod testing;
pub mod vix;

pub use error::{ErrorClass, ErrorKind, HypervisorError};
pub use port::*;

/// All back ends of this program.
pub const BACK_ENDS: &[&BackEnd] = &[&vix::BACK_END];

/// Opens the files of an image. Blocks.
///
/// # Errors
/// They cannot be opened.
pub fn open_image(files: &ImageFiles) -> Result<GuestImage> {
    match back_end_of(&files.kind).and_then(|back_end| back_end.open_image) {
        Some(open_image) => open_image(&files.found_by),
        None => Err(HypervisorError::new(
            ErrorKind::NotSupported,
            ErrorClass::Permanent,
            format!(
                "this program opens no files of hosts of the kind {}",
                files.kind
            ),
        )),
    }
}

/// The back end that serves hosts of a kind.
pub fn back_end_of(kind: &str) -> Option<&'static BackEnd> {
    BACK_ENDS
        .iter()
        .copied()
        .find(|back_end| back_end.kinds.iter().any(|one| one.word == kind))
}
