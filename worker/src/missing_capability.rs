//! What this worker's machine lacks for a host: a key, a mount, a library. For some minutes the work for that host is
//! left to workers on other machines, which may have it.

use std::collections::HashSet;

use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;
use virtuozo_model::ErrorClass;
use virtuozo_postgres::{Pool, StoreError};
use virtuozo_runtime::Availability;
use virtuozo_store::workers;

use crate::retry::while_unavailable;

/// What this worker's machine was found to lack.
pub(crate) struct MissingCapabilities {
    pool: Pool,
    availability: Availability,
    /// The worker's name, for messages.
    name: String,
    /// The worker's id.
    incarnation: Uuid,
    /// The hosts for which the machine has lacked something since the worker's start. The database is asked about these
    /// only.
    hosts: Mutex<HashSet<Uuid>>,
}

impl MissingCapabilities {
    pub(crate) fn new(
        pool: Pool,
        availability: Availability,
        name: String,
        incarnation: Uuid,
    ) -> Self {
        Self {
            pool,
            availability,
            name,
            incarnation,
            hosts: Mutex::default(),
        }
    }

    fn hosts(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.hosts.lock()
    }

    /// Records an error of the class [`ErrorClass::Elsewhere`], and adds to its message the machine, and the others where
    /// it was tried. Returns whether another worker runs that may be able to do the work. Other errors are left as they
    /// are.
    ///
    /// # Errors
    /// The database refuses the record.
    pub(crate) async fn note(
        &self,
        host_id: Uuid,
        run_id: Option<Uuid>,
        class: ErrorClass,
        message: &mut String,
    ) -> Result<bool, StoreError> {
        if class != ErrorClass::Elsewhere {
            return Ok(false);
        }
        self.hosts().insert(host_id);
        let here = format!("worker {} on {}", self.name, workers::machine());
        *message = format!("{here}: {message}");
        let noted = while_unavailable(&self.availability, "what this machine lacks", || {
            workers::record_missing_capability(
                &self.pool,
                self.incarnation,
                host_id,
                run_id,
                message,
            )
        })
        .await?;
        if !noted.leaves_to_others {
            let advice = format!(
                "; no worker is left that can do it (tried: {}): run `virtuozo doctor` on these machines, or start a \
                 worker on another one",
                noted.tried
            );
            message.push_str(&advice);
        }
        Ok(noted.leaves_to_others)
    }

    /// Whether this worker leaves the work for a host to other workers.
    ///
    /// # Errors
    /// The database refuses the query.
    pub(crate) async fn leaves_to_others(&self, host_id: Uuid) -> Result<bool, StoreError> {
        if !self.hosts().contains(&host_id) {
            return Ok(false);
        }
        workers::leaves_to_others(&self.pool, self.incarnation, host_id).await
    }
}
