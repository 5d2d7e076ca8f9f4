//! Host jobs: validate one host and its guests, and make a guest run for each that is to be backed up.

use std::sync::Arc;

use opentelemetry::trace::FutureExt;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tracing::Instrument as _;
use virtuozo_hypervisor::Host;
use virtuozo_model::{self as model, Severity};
use virtuozo_postgres::StoreError;
use virtuozo_queue::{HandlerError, HostJob};
use virtuozo_store::{
    events::{self, NewEvent},
    guest_runs::FailureClass,
    host_runs::{self, GuestRunStart, HostLease, NewGuestRun},
    hosts,
    leases::Fence,
    settings,
};
use virtuozo_telemetry::{
    metrics::{self, Outcome},
    tree,
};

use super::{HAND_BACK_SECS, delay_secs, outside, seat};
use crate::{
    connections::Seat,
    context::{Context, Hand},
    error::{StepError, Stop},
    fitness, inspection,
    lease::{Held, Lease, LeaseKeeper, Moment},
    patience::patiently,
    steps::check,
    trace::HostTrace,
};

/// Guests of one host that are looked at at the same time.
const LOOK_AT_ONCE: usize = 4;

/// Takes the host run's lease and starts the work.
pub(crate) async fn deliver(context: Arc<Context>, job: HostJob) -> Result<(), HandlerError> {
    let hand = context.in_hand.take(job.host_run_id).map(Arc::new);
    outside(
        &context,
        "the taking of a host run",
        move |context, again| {
            let hand = hand.clone();
            async move { begin(&context, job, hand, again).await }
        },
    );
    Ok(())
}

async fn begin(
    context: &Arc<Context>,
    job: HostJob,
    hand: Option<Arc<Hand>>,
    again: bool,
) -> Result<(), StoreError> {
    let pool = &context.pool;
    if again && hand.is_some() {
        // An earlier attempt may have been carried out, and its answer lost.
        host_runs::put_back(pool, job.host_run_id, context.incarnation).await?;
    }
    let Some(host_id) = host_runs::host_of_queued(pool, job.host_run_id).await? else {
        return Ok(());
    };
    let Some(hand) = hand else {
        // Work of this process on it, under a lease that it lost, has not ended yet.
        return host_runs::hand_back(pool, job.host_run_id, HAND_BACK_SECS).await;
    };
    let settings = settings::get(pool).await?;
    let Some(seat) = seat(context, host_id, &settings).await? else {
        return host_runs::hand_back(pool, job.host_run_id, HAND_BACK_SECS).await;
    };
    let taken_at = Moment::now();
    let Some(row) = host_runs::take(pool, job.host_run_id, context.incarnation).await? else {
        return Ok(());
    };
    let keeper = LeaseKeeper::start(PgPool::clone(pool), Held::Host(row.clone()), taken_at);
    let context_of_work = Arc::clone(context);
    context.work.spawn(async move {
        // A panic ends this task and with it the keeper: the lease runs out, and the sweep counts a crash.
        let span = tracing::info_span!("host_run", trace_id = tree::hex(row.trace_id));
        work(&context_of_work, &row, &keeper.lease(), settings, &seat)
            .instrument(span)
            .await;
        drop((keeper, hand));
    });
    Ok(())
}

async fn work(
    context: &Context,
    row: &HostLease,
    lease: &Lease,
    settings: model::Settings,
    seat: &Seat,
) {
    let found = patiently("the host's configuration", || {
        hosts::by_id(&context.pool, row.host_id)
    });
    let host = match found.await {
        Ok(found) => found,
        // The host was removed, and its runs with it.
        Err(error) => {
            tracing::warn!(host_run = %row.host_run_id, %error, "the host run is gone");
            return;
        }
    };
    let work = HostRun {
        context,
        row,
        lease,
        seat,
        settings,
        host,
    };
    tracing::info!(host = work.host.name, "host run begins");
    let trace = HostTrace::begin(row);
    let outcome = match work.validate().with_context(trace.inspection()).await {
        Ok(found) => work.succeed(&found).await,
        Err(error) => {
            if !matches!(error, StepError::Stop(_) | StepError::HostDown(_)) {
                trace.went_wrong();
            }
            work.conclude(&error).await
        }
    };
    if let Err(error) = outcome {
        tracing::warn!(host = work.host.name, %error, "a host run could not be concluded");
    }
}

struct HostRun<'a> {
    context: &'a Context,
    row: &'a HostLease,
    lease: &'a Lease,
    seat: &'a Seat,
    settings: model::Settings,
    host: model::Host,
}

/// What becomes of one guest.
struct Found {
    guest: model::Guest,
    start: GuestRunStart,
}

impl HostRun<'_> {
    fn is_cancelled(&self) -> bool {
        self.lease.now() == Some(Err(Stop::Cancelled))
    }

    /// Holds what is stored against the host as it is now.
    async fn validate(&self) -> Result<Vec<Found>, StepError> {
        self.lease.allowed().await?;
        let host = self.seat.fresh_host().await?;
        let found = self.look_at(&host).await;
        if found.as_ref().is_err_and(StepError::is_lost) {
            self.seat.discard(&host).await;
        }
        found
    }

    async fn look_at(&self, host: &Arc<dyn Host>) -> Result<Vec<Found>, StepError> {
        let pool = &self.context.pool;
        let (guests, inventory) =
            inspection::take_stock(pool, host.as_ref(), self.row.host_id).await?;

        let mut found = Vec::new();
        let mut to_look_at = Vec::new();
        for guest in guests {
            match self.before_looking(&guest, inventory.contains(&guest.vmx_path)) {
                None => {}
                Some(GuestRunStart::Waiting) => to_look_at.push(guest),
                Some(start) => found.push(Found { guest, start }),
            }
        }
        let mut looking = JoinSet::new();
        let mut rest = to_look_at.into_iter();
        loop {
            while looking.len() < LOOK_AT_ONCE
                && let Some(guest) = rest.next()
            {
                self.lease.allowed().await?;
                if self.context.drain.is_cancelled() {
                    return Err(Stop::Draining.into());
                }
                let host = Arc::clone(host);
                let look = async move {
                    let facts = inspection::look(host.as_ref(), &guest.vmx_path).await;
                    (guest, facts)
                };
                looking.spawn(look.with_current_context());
            }
            let Some(looked) = looking.join_next().await else {
                break;
            };
            let (guest, facts) = looked
                .map_err(|e| StepError::retry(format!("a guest could not be looked at: {e}")))?;
            let start = inspection::judge(pool, &self.settings, &guest, facts).await?;
            found.push(Found { guest, start });
        }
        found.sort_by(|a, b| a.guest.name.cmp(&b.guest.name));
        Ok(found)
    }

    /// What can be said about a guest without looking at it. None: it is not part of this run. Waiting:
    /// look at it.
    fn before_looking(&self, guest: &model::Guest, in_inventory: bool) -> Option<GuestRunStart> {
        let asked_for = self
            .row
            .guest_ids
            .as_ref()
            .map(|ids| ids.contains(&guest.id));
        match asked_for {
            Some(false) => return None,
            Some(true) if guest.ignored => {
                return Some(GuestRunStart::Skipped(
                    "it is left out of every run (ignored)".to_owned(),
                ));
            }
            None if guest.ignored || !guest.configured => return None,
            Some(true) | None => {}
        }
        Some(if in_inventory {
            GuestRunStart::Waiting
        } else {
            GuestRunStart::Failed(
                format!(
                    "its host does not know {}: register it there, or forget it with `virtuozo guest remove`",
                    guest.vmx_path
                ),
                FailureClass::Operator,
            )
        })
    }

    async fn succeed(&self, found: &[Found]) -> Result<(), StepError> {
        let guests: Vec<NewGuestRun> = found
            .iter()
            .map(|f| NewGuestRun {
                guest_id: f.guest.id,
                start: f.start.clone(),
            })
            .collect();
        let fence = patiently("the guest runs", || async {
            let mut tx = self.context.pool.begin().await?;
            let fence = host_runs::succeed(&mut tx, self.row, &guests).await?;
            if fence == Fence::Held {
                for one in found {
                    if let Some(event) = self.event_about(one) {
                        events::record(&mut *tx, &event).await?;
                    }
                }
                tx.commit().await?;
            }
            Ok(fence)
        });
        check(fence.await?)?;
        for one in found {
            match one.start {
                GuestRunStart::Waiting => {}
                GuestRunStart::Failed(..) => metrics::attempt_ended(Outcome::Failed),
                GuestRunStart::Skipped(_) => metrics::attempt_ended(Outcome::Skipped),
            }
        }
        Ok(())
    }

    fn event_about(&self, found: &Found) -> Option<NewEvent> {
        let name = found.guest.full_name();
        let event = match &found.start {
            GuestRunStart::Waiting => return None,
            GuestRunStart::Failed(why, _) => NewEvent::user(
                Severity::Error,
                format!("guest {name}: cannot be backed up: {why}"),
            ),
            GuestRunStart::Skipped(why) => {
                NewEvent::user(Severity::Info, format!("guest {name}: left out: {why}"))
            }
        };
        Some(
            event
                .run(self.row.run_id)
                .host(self.row.host_id)
                .guest(found.guest.id),
        )
    }

    /// Lets another worker do what this one's machine cannot.
    async fn leave(&self, why: &str) -> Result<(), StepError> {
        let pool = &self.context.pool;
        let handing = || host_runs::hand_over(pool, self.row);
        check(patiently("handing a host run over", handing).await?)?;
        let name = &self.host.name;
        let event = NewEvent::user(
            Severity::Warning,
            format!("host {name}: another worker takes over: {why}"),
        );
        let event = event.run(self.row.run_id).host(self.row.host_id);
        let telling = || events::record(pool, &event);
        Ok(patiently("what a worker leaves to others", telling).await?)
    }

    async fn conclude(&self, error: &StepError) -> Result<(), StepError> {
        let pool = &self.context.pool;
        let name = &self.host.name;
        match error {
            StepError::Stop(Stop::Fenced) => return Err(Stop::Fenced.into()),
            StepError::Stop(Stop::Draining) => {
                let fence = patiently("handing a host run over", || {
                    host_runs::hand_over(pool, self.row)
                });
                return Ok(check(fence.await?)?);
            }
            StepError::HostDown(down) if !down.is_given_up() && !self.is_cancelled() => {
                let why = error.to_string();
                let fence = patiently("a host run that waits", || {
                    host_runs::wait_for_host(pool, self.row, (&why, error.class()))
                });
                return Ok(check(fence.await?)?);
            }
            _ => {}
        }
        let mut message = error.to_string();
        let class = error.class();
        let (host_id, run_id) = (self.row.host_id, Some(self.row.run_id));
        if fitness::note(self.context, host_id, run_id, class, &mut message).await? {
            return self.leave(&message).await;
        }
        let is_down = matches!(error, StepError::HostDown(_));
        let cancelled = matches!(error, StepError::Stop(_)) || (is_down && self.is_cancelled());
        let attempt = self.row.attempts + 1;
        let delay = (!cancelled
            && !is_down
            && matches!(class, FailureClass::Retry | FailureClass::Elsewhere)
            && attempt < self.settings.max_attempts)
            .then(|| delay_secs(self.settings.retry_delay_secs, self.row.attempts));
        let event = match delay {
            _ if cancelled => NewEvent::user(Severity::Warning, format!("host {name}: cancelled")),
            Some(delay) => NewEvent::user(
                Severity::Warning,
                format!(
                    "host {name}: attempt {attempt} of {} failed, the next begins in about {delay:.0} s: {message}",
                    self.settings.max_attempts
                ),
            ),
            None => NewEvent::user(
                Severity::Error,
                format!("host {name}: cannot be backed up: {message}"),
            ),
        };
        let event = event.run(self.row.run_id).host(self.row.host_id);
        let fence = patiently("the end of a host run", || async {
            let mut tx = pool.begin().await?;
            let fence = match delay {
                Some(delay) => {
                    host_runs::retry(&mut tx, self.row, delay, (&message, class)).await?
                }
                None => {
                    let failure = (!cancelled).then_some((message.as_str(), class));
                    host_runs::end(&mut tx, self.row, failure).await?
                }
            };
            if fence == Fence::Held {
                if !cancelled {
                    inspection::note_host(&mut *tx, host_id, class, &message).await?;
                }
                events::record(&mut *tx, &event).await?;
                tx.commit().await?;
            }
            Ok(fence)
        });
        Ok(check(fence.await?)?)
    }
}
