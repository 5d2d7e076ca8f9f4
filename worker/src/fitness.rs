//! What this worker's machine lacks for a host: a key, a mount, a library. Another machine may have it, so others are
//! asked first for some minutes, and nothing that they can do fails here.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;
use virtuozo_postgres::StoreError;
use virtuozo_store::{guest_runs::FailureClass, workers};

use crate::{context::Context, patience::patiently};

/// The hosts for which this process has ever lacked something. The database is asked about these only.
#[derive(Debug, Default)]
pub(crate) struct Fitness(Mutex<HashSet<Uuid>>);

impl Fitness {
    fn unfit(&self) -> MutexGuard<'_, HashSet<Uuid>> {
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
    class: FailureClass,
    message: &mut String,
) -> Result<bool, StoreError> {
    if class != FailureClass::Elsewhere {
        return Ok(false);
    }
    context.fitness.unfit().insert(host_id);
    let here = format!("worker {} on {}", context.name, workers::machine());
    *message = format!("{here}: {message}");
    let noted = patiently("what this machine lacks", || {
        workers::unfit(&context.pool, context.incarnation, host_id, run_id, message)
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
    if !context.fitness.unfit().contains(&host_id) {
        return Ok(false);
    }
    workers::leaves_to_others(&context.pool, context.incarnation, host_id).await
}
