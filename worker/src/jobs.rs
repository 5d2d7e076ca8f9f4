//! Jobs: what a worker does when the queue brings it an id. All kinds begin in the same way, and one function decides
//! what becomes of what did not succeed.

mod decide;
mod guest;
mod host;
mod request;
mod undo;

use std::{future::Future, sync::Arc, time::Duration};

use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_model::Settings;
use virtuozo_postgres::StoreError;
use virtuozo_queue::HandlerError;
use virtuozo_store::leases::{BootInstant, LeaseHandle, LeaseKeeper, Leased};

use crate::{connections::ConnectionPermit, context::Context};

/// After how long another worker is offered a job that this one has no room for, in seconds.
const HAND_BACK_SECS: u32 = 1;
/// How long one attempt to take a lease may take: not longer than the shortest useful lease holds.
const BEGIN_LIMIT: Duration = Duration::from_secs(8);

/// One kind of job: how its lease is taken, and what is done under it.
pub(crate) trait Job: Copy + Send + Sync + 'static {
    /// The right to do it.
    type Lease: Leased + Clone;
    /// What has to be known before it is begun.
    type Assignment: Send + Sync;

    /// The taking of its lease, for those who read that it waits.
    const TAKING: &'static str;

    /// The run that this process must not work on twice. None: leases of this kind tell themselves from each other,
    /// and one that is lost does no harm to the next.
    fn run_id(self) -> Option<Uuid>;

    /// Gives up a lease of this process that it does not know of, because the answer to its taking was lost.
    fn put_back(self, context: &Context) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What has to be known; none if there is nothing to do.
    fn assignment(
        self,
        context: &Context,
    ) -> impl Future<Output = Result<Option<Self::Assignment>, StoreError>> + Send;

    /// The host that it is done on, and the site's settings.
    fn on_host(assignment: &Self::Assignment) -> (Uuid, &Settings);

    /// Takes the lease. None: somebody else was faster, or there is nothing to do any more.
    fn take(
        self,
        context: &Context,
        assignment: &Self::Assignment,
    ) -> impl Future<Output = Result<Option<Self::Lease>, StoreError>> + Send;

    /// Gives the job back to the queue, for a worker with room.
    fn hand_back(self, context: &Context) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Does it, from the lease on to its end.
    fn work(work: Work<Self>) -> impl Future<Output = ()> + Send;

    /// Gives up what the end of the work has left of the lease.
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

/// Takes the lease that a job is about, and starts the work. From then on the lease, not the job, sees to it that it
/// comes to its end. It is done outside of the delivery, which the queue drops when the database is away. What is lost
/// nevertheless, with this process, the scheduler delivers again.
///
/// # Errors
/// None: what hinders the taking is waited for, or logged.
pub(crate) async fn deliver<J: Job>(context: Arc<Context>, job: J) -> Result<(), HandlerError> {
    let first_delivery = job.run_id().map(|id| context.runs_in_work.begin(id));
    // None: this process works on it already, under a lease that it lost perhaps.
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
                let begun = tokio::time::timeout(BEGIN_LIMIT, begun).await;
                begun.unwrap_or(Err(StoreError::Silent { limit: BEGIN_LIMIT }))
            }
        };
        let begun = of_work.while_unavailable(J::TAKING, beginning);
        if let Err(error) = begun.await {
            tracing::warn!(%error, "{} was refused", J::TAKING);
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
        // An earlier attempt may have been carried out, and its answer lost.
        job.put_back(context).await?;
    }
    let Some(assignment) = job.assignment(context).await? else {
        return Ok(());
    };
    let Some(in_work) = in_work else {
        return job.hand_back(context).await;
    };
    let (host_id, settings) = J::on_host(&assignment);
    let Some(permit) = connection_permit(context, host_id, settings).await? else {
        return job.hand_back(context).await;
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
        // A panic ends this task and with it the keeper: the lease runs out, and the sweep counts a crash.
        J::work(work).await;
        drop((keeper, in_work));
        let release = || J::release(&context_of_work, &row);
        let released = context_of_work.while_unavailable("the release of a lease", release);
        if let Err(error) = released.await {
            tracing::warn!(%error, "a lease could not be given up; it runs out");
        }
    });
    Ok(())
}

/// The right to use the host's connection; none if this worker is full, stops, or leaves the host to others.
async fn connection_permit(
    context: &Context,
    host_id: Uuid,
    settings: &Settings,
) -> Result<Option<ConnectionPermit>, StoreError> {
    if context.drain.is_cancelled()
        || context
            .missing_capabilities
            .leaves_to_others(host_id)
            .await?
    {
        return Ok(None);
    }
    let max_hosts = usize::try_from(settings.host_threads).unwrap_or(1);
    Ok(context.connections.reserve(host_id, max_hosts))
}

/// What has to be known of what is done on a host, and not for a guest run.
pub(crate) struct OnHost {
    host_id: Uuid,
    settings: Settings,
}
