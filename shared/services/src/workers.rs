//! Workers: those of the site, and taking one out of service.

use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_model::{ProcessKind, Worker};
use virtuozo_store::workers;

pub use virtuozo_store::workers::{KindUnserved, LackingWorker};

use crate::error::ServiceError;

/// Workers that were asked to drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// Those that hear it: they take nothing more, and end when their work is finished or handed over.
    pub running: Vec<Uuid>,
    /// Those that were not heard of lately.
    pub silent: Vec<Uuid>,
}

/// Workers of the last day, running ones first.
pub async fn list(pool: &PgPool) -> Result<Vec<Worker>, ServiceError> {
    let mut all = workers::list(pool).await?;
    all.retain(|one| one.kind == ProcessKind::Worker);
    Ok(all)
}

/// The kinds of host of which the site has some, and that no running worker serves.
pub async fn unserved_kinds(pool: &PgPool) -> Result<Vec<KindUnserved>, ServiceError> {
    Ok(workers::unserved(pool).await?)
}

/// What the machines of running workers were found to lack lately.
pub async fn lacking(pool: &PgPool) -> Result<Vec<LackingWorker>, ServiceError> {
    Ok(workers::lacking(pool).await?)
}

/// Has all workers of a name, or the one with an id, take nothing more and end.
///
/// # Errors
/// [`virtuozo_postgres::StoreError::NotFound`] if no such worker runs.
pub async fn drain(pool: &PgPool, name_or_id: &str) -> Result<Drained, ServiceError> {
    let asked = workers::drain(pool, name_or_id).await?;
    let (running, silent): (Vec<_>, Vec<_>) = asked.into_iter().partition(|(_, alive)| *alive);
    let ids = |of: Vec<(Uuid, bool)>| of.into_iter().map(|(id, _)| id).collect();
    Ok(Drained {
        running: ids(running),
        silent: ids(silent),
    })
}
