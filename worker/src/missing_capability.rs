//! What this worker's machine lacks for a host: a key, a mount, a library. Another machine may have it, so others are
//! asked first for some minutes, and nothing that they can do fails here.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;
use virtuozo_model::ErrorClass;
use virtuozo_postgres::StoreError;
use virtuozo_store::workers;

use crate::context::Context;

/// The hosts for which this process has ever lacked something. The database is asked about these only.
#[derive(Debug, Default)]
pub(crate) struct MissingCapabilities(Mutex<HashSet<Uuid>>);

impl MissingCapabilities {
    fn hosts(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes an error that is about this machine, and says in its message where that is, and where else it was tried.
/// Returns whether another worker runs that may be able to do it.
///
/// # Errors
/// What the database says.
pub(crate) async fn note(
    context: &Context,
    host_id: Uuid,
    run_id: Option<Uuid>,
    class: ErrorClass,
    message: &mut String,
) -> Result<bool, StoreError> {
    if class != ErrorClass::Elsewhere {
        return Ok(false);
    }
    context.missing_capabilities.hosts().insert(host_id);
    let here = format!("worker {} on {}", context.name, workers::machine());
    *message = format!("{here}: {message}");
    let noted = context
        .while_unavailable("what this machine lacks", || {
            workers::record_missing_capability(
                &context.pool,
                context.incarnation,
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

/// Whether this worker leaves what there is to do for a host to others.
///
/// # Errors
/// What the database says.
pub(crate) async fn leaves_to_others(context: &Context, host_id: Uuid) -> Result<bool, StoreError> {
    if !context.served.lacks_any() && !context.missing_capabilities.hosts().contains(&host_id) {
        return Ok(false);
    }
    workers::leaves_to_others(&context.pool, context.incarnation, host_id).await
}
