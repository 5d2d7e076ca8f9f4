//! Instants of a guest: how one is frozen, and what changed between two.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::ChangeId;

/// Device → the change id of an earlier instant of its disk.
pub type ChangeIds = BTreeMap<String, ChangeId>;

/// How to freeze a running guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeRequest {
    /// The name of the instant.
    pub name: String,
    /// A sentence for people who find it on the host.
    pub description: String,
    /// The instants with which this one will be compared; empty: with none. See
    /// [`Guest::image`](super::Guest::image).
    pub since: ChangeIds,
    /// How long it may take.
    pub limit: Duration,
}

/// Which instant of a guest to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Instant {
    /// The state that [`Guest::freeze`](super::Guest::freeze) froze under this exact name.
    Frozen(String),
    /// The state of a guest that is off.
    PoweredOff,
}

/// A part of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ByteRange {
    /// Where it begins.
    pub offset_bytes: u64,
    /// How long it is, at least one byte.
    pub len_bytes: u64,
}

/// What has changed on a disk since an earlier instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangedRanges {
    /// These ranges of the disk as the guest sees it, in order and apart from each other. Everything else is as
    /// it was; what is in them may be too.
    Known(Vec<ByteRange>),
    /// Not known: the whole disk has to be read.
    Unknown {
        /// Why, as a sentence.
        because: String,
    },
}

/// A disk's instant among others of the same disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskChanges {
    /// The mark of this instant, for a later backup; none where the back end makes none.
    pub change_id: Option<ChangeId>,
    /// What has changed since the instant that was asked about.
    pub since: ChangedRanges,
}

impl DiskChanges {
    /// Of a back end, or a guest, whose changes nobody follows.
    pub fn unknown(because: impl Into<String>) -> Self {
        Self {
            change_id: None,
            since: ChangedRanges::Unknown {
                because: because.into(),
            },
        }
    }
}
