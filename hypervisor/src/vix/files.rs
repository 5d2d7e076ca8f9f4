//! Where the files of a host are, as another process of this machine can be told.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use virtuozo_disk::MachineRoots;

use super::{image::image, inspect::GuestFiles, locations::Locations};
use crate::{
    ErrorClass, ErrorKind, GuestImage, GuestRef, HostTarget, HypervisorError, Instant, Result,
};

/// What of a host is needed to find its files: no address and no password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HostFiles {
    name: String,
    kind: String,
    properties: BTreeMap<String, String>,
    datastores: BTreeMap<String, PathBuf>,
    allowed: MachineRoots,
}

impl HostFiles {
    pub(super) fn of(target: &HostTarget, allowed: &MachineRoots) -> Self {
        Self {
            name: target.name.clone(),
            kind: target.kind.clone(),
            properties: target.properties.clone(),
            datastores: target.datastores.clone(),
            allowed: allowed.clone(),
        }
    }

    /// The host as far as its files go.
    pub(super) fn target(&self) -> HostTarget {
        HostTarget {
            name: self.name.clone(),
            kind: self.kind.clone(),
            address: None,
            user: None,
            password: None,
            properties: self.properties.clone(),
            datastores: self.datastores.clone(),
        }
    }

    /// Reads where its files are. Blocks.
    pub(super) fn locations(&self) -> Locations {
        Locations::load(&self.target(), &self.allowed)
    }
}

/// By what the files of a guest's image are found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ImageFoundBy {
    pub(super) host: HostFiles,
    pub(super) guest: GuestRef,
    pub(super) at: Instant,
    pub(super) ignored_disks: Vec<String>,
}

/// Opens an image. Blocks.
pub(super) fn open_image(found_by: &Value) -> Result<GuestImage> {
    let found_by = ImageFoundBy::deserialize(found_by).map_err(|error| {
        HypervisorError::new(
            ErrorKind::Other,
            ErrorClass::Retry,
            format!("the process that opens an image is of another version: {error}"),
        )
    })?;
    let files = GuestFiles::load(found_by.host.locations(), &found_by.guest)?;
    image(files, &found_by.at, &found_by.ignored_disks)
}
