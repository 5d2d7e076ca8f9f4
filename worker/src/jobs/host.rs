//! Host jobs: validate one host and its guests, and make a guest run for each that is to be backed up.

use std::sync::Arc;

use opentelemetry::trace::FutureExt;
use tracing::Instrument as _;
use uuid::Uuid;
use virtuozo_hypervisor::Host;
use virtuozo_model::{ErrorClass, GuestState, Severity, terminal};
use virtuozo_postgres::StoreError;
use virtuozo_queue::HostJob;
use virtuozo_store::{
    events::{self, NewEvent},
    guest_runs::Ending,
    host_runs::{self, GuestRunStart, HostLease, NewGuestRun},
    hosts,
    leases::{self, Fence, LeaseEnd, LeaseHandle},
    settings,
};
use virtuozo_telemetry::{metrics::Outcome, tree};

use super::{
    Job, OnHost, Work,
    decide::{Attempt, Subject, decide},
};
use crate::{
    connections::ConnectionPermit,
    context::Context,
    error::{StepError, Stop, check},
    guest_looks::{Connecting, Looks},
    inspection,
    retry::delay_secs,
    trace::HostTrace,
};

/// Guests of one host that are looked at at the same time.
const LOOK_AT_ONCE: usize = 4;

impl Job for HostJob {
    type Lease = HostLease;
    type Assignment = OnHost;

    const TAKING: &'static str = "the taking of a host run";

    fn run_id(self) -> Option<Uuid> {
        Some(self.host_run_id)
    }

    async fn put_back(self, context: &Context) -> Result<(), StoreError> {
        leases::put_back::<HostLease>(&*context.pool, self.host_run_id, context.incarnation).await
    }

    async fn assignment(self, context: &Context) -> Result<Option<OnHost>, StoreError> {
        let pool = &context.pool;
        let Some(host_id) = host_runs::host_of_queued(pool, self.host_run_id).await? else {
            return Ok(None);
        };
        let settings = settings::get(pool).await?;
        Ok(Some(OnHost { host_id, settings }))
    }

    fn on_host(assignment: &OnHost) -> (Uuid, &virtuozo_model::Settings) {
        (assignment.host_id, &assignment.settings)
    }

    async fn take(self, context: &Context, _: &OnHost) -> Result<Option<HostLease>, StoreError> {
        leases::take::<HostLease>(&*context.pool, self.host_run_id, context.incarnation).await
    }

    async fn work(work: Work<Self>) {
        let span = tracing::info_span!("host_run", trace_id = tree::hex(work.row.trace_id));
        look_at_host(work).instrument(span).await;
    }
}

async fn look_at_host(work: Work<HostJob>) {
    let Work {
        context,
        row,
        lease,
        assignment,
        permit,
    } = work;
    let found = context.while_unavailable("the host's configuration", || {
        hosts::by_id(&context.pool, row.host_id)
    });
    let host = match found.await {
        Ok(found) => found,
        // The host was removed, and its runs with it.
        Err(error) => {
            tracing::warn!(host_run = %row.host_run_id, %error, "host run does not exist any more");
            return;
        }
    };
    tracing::info!(host = host.name, "host run begins");
    let trace = HostTrace::begin(&context.telemetry.traces, &row);
    let run = HostRun {
        context: &context,
        row,
        lease,
        permit,
        settings: assignment.settings,
        host,
    };
    let outcome = match run.validate().with_context(trace.inspection()).await {
        Ok(found) => run.succeed(&found).await,
        Err(error) => {
            if !matches!(error, StepError::Stop(_) | StepError::HostDown(_)) {
                trace.failed();
            }
            run.conclude(&error).await
        }
    };
    if let Err(error) = outcome {
        tracing::warn!(host = run.host.name, %error, "end of the host run could not be recorded");
    }
}

struct HostRun<'a> {
    context: &'a Context,
    row: HostLease,
    lease: LeaseHandle,
    permit: ConnectionPermit,
    settings: virtuozo_model::Settings,
    host: virtuozo_model::Host,
}

/// What becomes of one guest.
struct Found {
    guest: virtuozo_model::Guest,
    start: GuestRunStart,
}

impl HostRun<'_> {
    /// Holds what is stored against the host as it is now.
    async fn validate(&self) -> Result<Vec<Found>, StepError> {
        self.lease.allowed().await?;
        let mut host = self.permit.fresh_host().await?;
        let found = tokio::select! {
            biased;
            found = self.look_at(&mut host) => found,
            // Whatever the host or its files wait for.
            end = self.lease.ended() => Err(end.into()),
            () = self.context.drain.cancelled() => Err(Stop::Draining.into()),
        };
        if found.as_ref().is_err_and(StepError::is_lost) {
            self.permit.discard(&host).await;
        }
        found
    }

    async fn look_at(&self, host: &mut Arc<dyn Host>) -> Result<Vec<Found>, StepError> {
        let Context {
            pool, telemetry, ..
        } = self.context;
        let availability = &telemetry.health.availability;
        let connecting = Connecting::Shared(&self.permit);
        let (guests, inventory) =
            inspection::take_stock(pool, availability, connecting, host, self.row.host_id).await?;

        let mut found = Vec::new();
        let mut to_look_at = Vec::new();
        for guest in guests {
            match self.before_looking(&guest, inventory.contains(&guest.locator)) {
                None => {}
                Some(GuestRunStart::Waiting) if !self.has_looked_at(&guest) => {
                    to_look_at.push(guest);
                }
                Some(start) => found.push(Found { guest, start }),
            }
        }
        let mut looks = Looks::new(connecting, host, to_look_at, LOOK_AT_ONCE);
        loop {
            self.lease.allowed().await?;
            if self.context.drain.is_cancelled() {
                return Err(Stop::Draining.into());
            }
            let Some((guest, looked)) = looks.next().await? else {
                break;
            };
            let start =
                inspection::judge(pool, availability, &self.settings, &guest, looked).await?;
            found.push(Found { guest, start });
        }
        *host = looks.into_host();
        found.sort_by(|a, b| a.guest.name.cmp(&b.guest.name));
        Ok(found)
    }

    /// Whether this host run, under a lease that ended before all guests were looked at, found that the guest can be backed
    /// up. So a host of many guests is done in the end, however often its workers end.
    fn has_looked_at(&self, guest: &virtuozo_model::Guest) -> bool {
        guest.state == GuestState::Ok
            && guest
                .checked_at
                .is_some_and(|at| at >= self.row.looks_count_since)
    }

    /// What can be said about a guest without looking at it. None: it is not part of this run. Waiting:
    /// look at it, unless this run has.
    fn before_looking(
        &self,
        guest: &virtuozo_model::Guest,
        in_inventory: bool,
    ) -> Option<GuestRunStart> {
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
                    "its host does not know {}: register it there, or forget it with `{}`",
                    guest.locator,
                    terminal::command("guest remove", &[guest.full_name()])
                ),
                ErrorClass::Operator,
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
        let fence = self.context.while_unavailable("the guest runs", || async {
            let mut tx = self.context.pool.begin().await?;
            let fence =
                host_runs::succeed(&mut tx, &self.context.telemetry.metrics, &self.row, &guests)
                    .await?;
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
        let metrics = &self.context.telemetry.metrics;
        for one in found {
            match one.start {
                GuestRunStart::Waiting => {}
                GuestRunStart::Failed(..) => metrics.attempt_ended(Outcome::Failed),
                GuestRunStart::Skipped(_) => metrics.attempt_ended(Outcome::Skipped),
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

    /// Records what becomes of the host run after an attempt that did not succeed.
    async fn conclude(&self, error: &StepError) -> Result<(), StepError> {
        if let StepError::Stop(Stop::Fenced) = error {
            return Err(Stop::Fenced.into());
        }
        let (host_id, run_id) = (self.row.host_id, self.row.run_id);
        let mut message = error.to_string();
        let class = error.class();
        let job = HostJob {
            host_run_id: self.row.host_run_id,
        };
        let leaves_to_others = self
            .context
            .missing_capabilities
            .note(job, Some(run_id), error, &mut message)
            .await?;
        let attempt = Attempt {
            subject: Subject::Host(&self.host.name),
            step: None,
            number: self.row.attempts + 1,
            limit: self.settings.max_attempts,
            keeps_steps: false,
            is_cancelled: self.lease.now() == Some(Err(LeaseEnd::Cancelled)),
            leaves_to_others,
            bad_copies_before: 0,
            delay_secs: delay_secs(self.settings.retry_delay_secs, self.row.attempts),
            message: &message,
        };
        let decision = decide(error, &attempt);
        let says_something_about_host = matches!(
            decision.ending,
            Ending::Retry { .. } | Ending::Failed | Ending::HostGivenUp
        );
        let pool = &self.context.pool;
        let fence = self
            .context
            .while_unavailable("the end of a host run", || async {
                let mut tx = pool.begin().await?;
                let failure = decision.failure.map(|class| (message.as_str(), class));
                let fence = host_runs::end(
                    &mut tx,
                    &self.context.telemetry.metrics,
                    &self.row,
                    &decision.ending,
                    failure,
                )
                .await?;
                if fence == Fence::Held {
                    if says_something_about_host {
                        inspection::note_host(&mut *tx, host_id, class, &message).await?;
                    }
                    if let Some(event) = &decision.event {
                        let event = event.clone().run(run_id).host(host_id);
                        events::record(&mut *tx, &event).await?;
                    }
                    tx.commit().await?;
                }
                Ok(fence)
            });
        check(fence.await?)?;
        decision.log(&attempt);
        Ok(())
    }
}
