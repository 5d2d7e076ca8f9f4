//! What all parts of a worker share.

use std::sync::Arc;

use sqlx::PgPool;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::connections::Connections;

/// What all parts of a worker share.
pub(crate) struct Context {
    /// Connections to the database.
    pub(crate) pool: PgPool,
    /// Connections to hosts.
    pub(crate) connections: Arc<Connections>,
    /// This start of this worker; owner of its leases.
    pub(crate) incarnation: Uuid,
    /// The work in progress. It outlives the delivery of its job.
    pub(crate) work: TaskTracker,
    /// This worker stops: nothing new is begun, and what takes long is handed over.
    pub(crate) drain: CancellationToken,
}
