//! What somebody asks of a host and waits to hear: some worker that can reach it does it, and answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::text_enum::text_enum;

text_enum! {
    /// What is asked.
    pub enum RequestKind {
        /// Try the connection, and change nothing.
        HostTest = "host_test",
        /// Hold the stored configuration against the live one.
        HostCheck = "host_check",
        /// Look where the datastores are on the machine of the worker.
        DatastorePropose = "datastore_propose",
    }
}

text_enum! {
    /// Where a request stands.
    pub enum RequestState {
        /// No worker has taken it, or the one that had gave it up.
        Waiting = "waiting",
        /// A worker does it.
        Running = "running",
        /// It has its answer.
        Succeeded = "succeeded",
        /// It was not done, for a reason that is written down.
        Failed = "failed",
        /// Nobody waits for the answer any more.
        Cancelled = "cancelled",
    }
}

/// What a host has answered to a test of its connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostTested {
    /// What the machine that asked has of the back end: a library and where it lies, say.
    pub back_end: String,
    /// How many guests are in its inventory.
    pub guests: usize,
    /// Its datastores: name and directory on the host.
    pub datastores: BTreeMap<String, String>,
    /// What is odd about its configuration.
    pub warnings: Vec<String>,
}

/// What a check of a host has come to. What it found out about the guests is noted with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostChecked {
    /// How many guests are stored for it now.
    pub guests: usize,
}
