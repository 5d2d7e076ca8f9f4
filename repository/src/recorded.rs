//! What a catalogue has recorded of a restore point, held against the manifest that lies in its directory.

use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ReadManifest, Result, manifest::damaged};

/// What a catalogue knows of a restore point, to be held against its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Identity of the restore point.
    pub point_id: Uuid,
    /// Where it comes from; none: only its identity is known yet.
    pub source: Option<RecordedSource>,
    /// BLAKE3 of the text of its manifest, as hexadecimal digits; none: not known.
    pub manifest_blake3: Option<String>,
}

/// Where a restore point comes from, as a catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedSource {
    /// Name of the host.
    pub host: String,
    /// Name of the guest.
    pub guest: String,
    /// The instant its disks hold, to the microsecond.
    pub taken_at: DateTime<Utc>,
}

impl ReadManifest {
    /// Whether this is the restore point that a catalogue has recorded.
    ///
    /// # Errors
    /// [`crate::RepositoryError::Damaged`] with what is different.
    pub fn check_recorded(&self, recorded: &Recorded, path: &Path) -> Result<()> {
        match self.difference(recorded) {
            None => Ok(()),
            Some(reason) => Err(damaged(path, reason)),
        }
    }

    /// How this differs from what a catalogue has recorded, as a sentence; none: it does not.
    pub fn difference(&self, recorded: &Recorded) -> Option<String> {
        let point = &self.manifest.point;
        let is = format!(
            "it is the restore point {} of {}/{} of {}",
            point.point_id, point.host, point.guest, point.taken_at
        );
        if point.point_id != recorded.point_id {
            return Some(format!(
                "another restore point is in its directory: {is}, and {} is recorded there",
                recorded.point_id
            ));
        }
        if let Some(source) = &recorded.source
            && ((&source.host, &source.guest) != (&point.host, &point.guest)
                || source.taken_at.timestamp_micros() != point.taken_at.timestamp_micros())
        {
            return Some(format!(
                "its manifest is not the one that is recorded: {is}, and that of {}/{} of {} is recorded",
                source.host, source.guest, source.taken_at
            ));
        }
        match &recorded.manifest_blake3 {
            Some(blake3) if *blake3 != self.blake3.to_string() => Some(format!(
                "its manifest was changed: its hash is {}, and {blake3} is recorded",
                self.blake3
            )),
            _ => None,
        }
    }
}
