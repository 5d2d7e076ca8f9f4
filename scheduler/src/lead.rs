//! The lead: taken when nobody has it, and kept by the keeper of leases for as long as the scheduler runs.

use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virtuozo_postgres::ask;
use virtuozo_runtime::{Backoff, BackoffPolicy, LIMITS};
use virtuozo_store::{
    leadership,
    leases::{BootInstant, LeaseHandle, LeaseKeeper},
};
use virtuozo_telemetry::Telemetry;

use crate::leader::Term;

/// Takes the lead when it is free and keeps it, until `stop`. `term` tells whether this scheduler leads.
pub(crate) async fn hold(
    pool: PgPool,
    id: Uuid,
    telemetry: Telemetry,
    term: watch::Sender<Term>,
    stop: CancellationToken,
) {
    let health = &telemetry.health;
    let turns = health
        .liveness
        .watch("attempts to lead", 6 * LIMITS.scheduler.lead);
    let mut backoff = Backoff::new(BackoffPolicy::doubling(
        LIMITS.scheduler.lead_every,
        LIMITS.scheduler.lead_pause,
    ));
    let mut terms = 0;
    while !stop.is_cancelled() {
        turns.turned();
        let taken_at = BootInstant::now();
        let taking = leadership::take(&pool, id);
        let taken = tokio::select! {
            taken = ask(&health.availability, "the lead", LIMITS.scheduler.lead, taking) => taken,
            () = stop.cancelled() => break,
        };
        let pause = match taken {
            Ok(None) => {
                backoff.reset();
                LIMITS.scheduler.lead_every
            }
            Ok(Some(lead)) => {
                backoff.reset();
                terms += 1;
                tracing::info!("this scheduler leads");
                let keeper = LeaseKeeper::start(pool.clone(), &telemetry, lead, taken_at);
                let is_lost = keep(&keeper.handle(), terms, &term, &stop, || turns.turned()).await;
                term.send_replace(None);
                if is_lost {
                    tracing::info!("another scheduler leads");
                }
                LIMITS.scheduler.lead_every
            }
            Err(error) => {
                if !error.is_unavailable() && !backoff.has_failed() {
                    tracing::warn!(%error, "the lead cannot be taken; trying again");
                }
                backoff.next()
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Tells whether the lead is certain, until it is lost (true) or `stop`.
async fn keep(
    lease: &LeaseHandle,
    number: u64,
    term: &watch::Sender<Term>,
    stop: &CancellationToken,
    turned: impl Fn(),
) -> bool {
    loop {
        turned();
        let now = match lease.now() {
            Some(Ok(())) => Some(number),
            Some(Err(_)) => return true,
            None => None,
        };
        term.send_if_modified(|before| std::mem::replace(before, now) != now);
        tokio::select! {
            () = tokio::time::sleep(LIMITS.scheduler.lead_look_every) => {}
            _ = lease.ended() => return true,
            () = stop.cancelled() => return false,
        }
    }
}
