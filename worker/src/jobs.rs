//! The handlers of jobs. All kinds begin in the same way, and one function decides what follows from a failure.

mod decide;
mod guest;
mod host;
mod request;
mod undo;

use std::{future::Future, sync::Arc};

use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_model::Settings;
use virtuozo_postgres::StoreError;
use virtuozo_queue::HandlerError;
use virtuozo_runtime::LIMITS;
use virtuozo_store::leases::{BootInstant, LeaseHandle, LeaseKeeper, Leased};

use crate::{connections::ConnectionPermit, context::Context};

/// Delay, in seconds, of a job that is handed back to the queue because this worker has no free connection.
const HAND_BACK_SECS: u32 = 1;

/// One kind of job: how its lease is taken, and what is done under it.
pub(crate) trait Job: virtuozo_queue::Job + Copy {
    /// The lease on the work.
    type Lease: Leased + Clone;
    /// The facts that are needed before it begins.
    type Assignment: Send + Sync;

    /// How log messages name the taking of its lease.
    const TAKING: &'static str;

    /// The run that this process must not work on twice. `None` where each lease has an owner id of its own, so that a
    /// lost lease does not affect the next.
    fn run_id(self) -> Option<Uuid>;

    /// Releases a lease of this process that it does not know of, because the answer to its taking was lost.
    fn put_back(self, context: &Context) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads the facts; `None` if there is nothing to do.
    fn assignment(
        self,
        context: &Context,
    ) -> impl Future<Output = Result<Option<Self::Assignment>, StoreError>> + Send;

    /// The host of the work, and the site's settings.
    fn on_host(assignment: &Self::Assignment) -> (Uuid, &Settings);

    /// Takes the lease; `None` if another worker has it, or there is nothing to do any more.
    fn take(
        self,
        context: &Context,
        assignment: &Self::Assignment,
    ) -> impl Future<Output = Result<Option<Self::Lease>, StoreError>> + Send;

    /// Does the work under the lease, to its end.
    fn work(work: Work<Self>) -> impl Future<Output = ()> + Send;

    /// Releases the lease if the end of the work has not.
    fn release(
        _context: &Context,
        _lease: &Self::Lease,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        async { Ok(()) }
    }
}

/// A job that has begun.
pub(crate) struct Work<J: Job> {
    context: Arc<Context>,
    row: J::Lease,
    lease: LeaseHandle,
    assignment: J::Assignment,
    permit: ConnectionPermit,
}

/// Takes the lease of a job's work, and starts the work in a task of its own. From then on the lease guards the work, not
/// the delivery, which the queue drops when the database is unreachable. If this process dies, the scheduler pushes the
/// job again.
///
/// # Errors
/// Never: an unreachable database is waited for, other errors are logged.
pub(crate) async fn deliver<J: Job>(context: Arc<Context>, job: J) -> Result<(), HandlerError> {
    let first_delivery = job.run_id().map(|id| context.runs_in_work.begin(id));
    // `None`: this process works on it already, perhaps under a lease that it has lost.
    let in_work = match first_delivery {
        Some(None) => None,
        Some(Some(run)) => Some(Arc::new(Some(run))),
        None => Some(Arc::new(None)),
    };
    let of_work = Arc::clone(&context);
    context.work.spawn(async move {
        let mut again = false;
        let beginning = || {
            let is_repeated = std::mem::replace(&mut again, true);
            let (context, in_work) = (Arc::clone(&of_work), in_work.clone());
            async move {
                let begun = begin(&context, job, in_work, is_repeated);
                let begun = tokio::time::timeout(LIMITS.worker.begin, begun).await;
                begun.unwrap_or(Err(StoreError::Silent {
                    limit: LIMITS.worker.begin,
                }))
            }
        };
        let begun = of_work.while_unavailable(J::TAKING, beginning);
        if let Err(error) = begun.await {
            tracing::warn!(%error, what = J::TAKING, "lease could not be taken");
        }
    });
    Ok(())
}

async fn begin<J: Job, InWork: Send + Sync + 'static>(
    context: &Arc<Context>,
    job: J,
    in_work: Option<Arc<InWork>>,
    is_repeated: bool,
) -> Result<(), StoreError> {
    if is_repeated && in_work.is_some() {
        // An earlier attempt may have taken the lease although its answer was lost.
        job.put_back(context).await?;
    }
    let Some(assignment) = job.assignment(context).await? else {
        return Ok(());
    };
    let Some(in_work) = in_work else {
        return hand_back(context, job).await;
    };
    let (host_id, settings) = J::on_host(&assignment);
    let Some(permit) = connection_permit(context, host_id, settings) else {
        return hand_back(context, job).await;
    };
    let taken_at = BootInstant::now();
    let Some(row) = job.take(context, &assignment).await? else {
        return Ok(());
    };
    let keeper = LeaseKeeper::start(
        PgPool::clone(&context.pool),
        &context.telemetry,
        row.clone(),
        taken_at,
    );
    let work = Work {
        context: Arc::clone(context),
        row: row.clone(),
        lease: keeper.handle(),
        assignment,
        permit,
    };
    let context_of_work = Arc::clone(context);
    context.work.spawn(async move {
        // A panic ends this task and the keeper of the lease: the lease expires, and the sweep counts a crash.
        J::work(work).await;
        drop((keeper, in_work));
        let release = || J::release(&context_of_work, &row);
        let released = context_of_work.while_unavailable("the release of a lease", release);
        if let Err(error) = released.await {
            tracing::warn!(%error, "lease could not be released; it expires");
        }
    });
    Ok(())
}

/// Hands a job back to the queue, for a worker with a free connection.
async fn hand_back(context: &Context, job: impl Job) -> Result<(), StoreError> {
    let mut connection = context.pool.acquire().await?;
    virtuozo_queue::push(&mut connection, &[job], HAND_BACK_SECS).await
}

/// The right to use the host's connection; `None` if this worker has no free connection, or drains.
fn connection_permit(
    context: &Context,
    host_id: Uuid,
    settings: &Settings,
) -> Option<ConnectionPermit> {
    if context.drain.is_cancelled() {
        return None;
    }
    let max_hosts = usize::try_from(settings.host_threads).unwrap_or(1);
    context.connections.reserve(host_id, max_hosts)
}

/// The facts of work on a host that belongs to no guest run.
pub(crate) struct OnHost {
    host_id: Uuid,
    settings: Settings,
}
