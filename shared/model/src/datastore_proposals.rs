//! Where a machine would read the datastores of a host, by what it finds of their guests there.

use serde::{Deserialize, Serialize};

use crate::text_enum::text_enum;

text_enum! {
    /// What a search for a datastore has come to.
    pub enum ProposalOutcome {
        /// It is read where all its guests are: in the directory that it is mapped to, or at the host's own path.
        InPlace = "in_place",
        /// One other directory holds all its guests: it is proposed.
        Found = "found",
        /// Several do.
        Ambiguous = "ambiguous",
        /// Directories hold some of its guests, and none all.
        Incomplete = "incomplete",
        /// No guest is registered in it, so that no directory can be told from another.
        NoGuests = "no_guests",
        /// No directory holds any of its guests.
        NotFound = "not_found",
    }
}

text_enum! {
    /// Why a directory may be a datastore.
    pub enum CandidateReason {
        /// The datastore is mapped to it.
        Mapped = "mapped",
        /// The host has it at the same path.
        SamePath = "same_path",
        /// The share is mounted there that the host names.
        SameShare = "same_share",
        /// Something is mounted there, and it has the name of the datastore, or of its directory on the host.
        MountOfName = "mount_of_name",
        /// It lies beside the directory of another datastore, by that name.
        BesideMapped = "beside_mapped",
        /// It lies below a mount, /mnt, /media or /srv, by that name, or in a directory with the name of the host.
        BelowMount = "below_mount",
    }
}

/// A directory that may be a datastore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatastoreCandidate {
    /// The directory on the machine that has looked.
    pub directory: String,
    /// Why it was looked at.
    pub why: CandidateReason,
    /// How many of the guests that are registered in the datastore it holds.
    pub guests_found: usize,
}

/// What a search for one datastore has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatastoreProposal {
    /// Its name on the host.
    pub name: String,
    /// Its place as the host writes it; none where the host does not say.
    pub host_path: Option<String>,
    /// The directory that it is mapped to.
    pub local_path: Option<String>,
    /// How many guests are registered in it, as far as they were looked for.
    pub guests: usize,
    /// What it has come to.
    pub outcome: ProposalOutcome,
    /// The directory that holds all its guests, where it is one.
    pub directory: Option<String>,
    /// All directories that exist and may be it.
    pub candidates: Vec<DatastoreCandidate>,
}

/// What a search for the datastores of a host has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatastoresProposed {
    /// By datastore.
    pub datastores: Vec<DatastoreProposal>,
    /// Datastores that were not looked for: more than a host may have, or without a name.
    pub left_out: usize,
    /// Mounts of the machine that did not answer: nothing was looked for there.
    pub silent_mounts: Vec<String>,
}
