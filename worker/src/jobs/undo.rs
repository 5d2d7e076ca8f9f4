//! Undo jobs: what a guest is owed by runs that no longer mind it.

use std::{sync::Arc, time::Duration};

use opentelemetry::trace::FutureExt;
use sqlx::PgPool;
use virtuozo_model::{Guest, Severity};
use virtuozo_postgres::StoreError;
use virtuozo_queue::{HandlerError, UndoJob};
use virtuozo_store::{
    events::{self, NewEvent},
    guests, notices,
    obligations::{self, Duty, Obligation, UndoClaim},
    settings,
};

use super::{HAND_BACK_SECS, delay_secs, outside, seat};
use crate::{
    connections::Seat,
    context::Context,
    error::StepError,
    fitness,
    lease::{Held, Lease, LeaseKeeper, Moment},
    patience::patiently,
    steps::secs,
    trace, undo,
};

/// The pause after the first failure, in seconds.
const FIRST_DELAY_SECS: i32 = 5;
/// From this many failures on, people are told, each time.
const LOUD_FROM: i32 = 3;

/// Claims what the guest is owed and starts the work.
pub(crate) async fn deliver(context: Arc<Context>, job: UndoJob) -> Result<(), HandlerError> {
    outside(
        &context,
        "the taking of an undo job",
        move |context, _| async move { begin(&context, job).await },
    );
    Ok(())
}

async fn begin(context: &Arc<Context>, job: UndoJob) -> Result<(), StoreError> {
    let pool = &context.pool;
    let Some(host_id) = obligations::host_of_owed(pool, job.guest_id).await? else {
        return Ok(());
    };
    let settings = settings::get(pool).await?;
    let Some(seat) = seat(context, host_id, &settings).await? else {
        return obligations::hand_back(pool, job.guest_id, HAND_BACK_SECS).await;
    };
    let taken_at = Moment::now();
    let Some(claim) = obligations::claim(pool, host_id, job.guest_id).await? else {
        return Ok(());
    };
    let keeper = LeaseKeeper::start(PgPool::clone(pool), Held::Undo(claim.clone()), taken_at);
    let context_of_work = Arc::clone(context);
    context.work.spawn(async move {
        let limit = secs(settings.snapshot_limit_secs);
        if let Err(error) = work(&context_of_work, &claim, &keeper.lease(), limit, &seat).await {
            tracing::warn!(guest = %claim.guest_id, %error, "an undo job did not come to its end");
        }
        drop(keeper);
        let released = patiently("the end of an undo job", || {
            obligations::release(&context_of_work.pool, &claim)
        });
        if let Err(error) = released.await {
            tracing::warn!(%error, "a claim could not be given up; it runs out");
        }
    });
    Ok(())
}

async fn work(
    context: &Context,
    claim: &UndoClaim,
    lease: &Lease,
    snapshot_limit: Duration,
    seat: &Seat,
) -> Result<(), StepError> {
    let pool = &context.pool;
    let (guest, owed) = patiently("what the guest is owed", || async {
        Ok((
            guests::by_id(pool, claim.guest_id).await?,
            obligations::of_guest(pool, claim.guest_id).await?,
        ))
    })
    .await?;
    for obligation in &owed {
        lease.held().await?;
        let met = async {
            let (host, opened) = seat.guest(&guest.vmx_path).await?;
            let met = undo::meet(opened.as_ref(), obligation, snapshot_limit).await;
            if met.as_ref().is_err_and(StepError::is_lost) {
                seat.discard(&host).await;
            }
            met
        };
        let (_unit, below) = trace::of_undo(obligation);
        match met.with_context(below).await {
            // The gate knows when it is time to try again, for all that its guests are owed.
            Err(error @ StepError::HostDown(_)) => return Err(error),
            Ok(()) => {
                tracing::info!(guest = guest.full_name(), duty = ?obligation.duty(), "obligation met");
                patiently("an obligation that is met", || async {
                    let mut tx = pool.begin().await?;
                    obligations::met(&mut *tx, obligation).await?;
                    if obligation.attempts >= LOUD_FROM {
                        events::record(
                            &mut *tx,
                            &about(
                                claim,
                                obligation,
                                Severity::Info,
                                met_at_last(&guest, obligation),
                            ),
                        )
                        .await?;
                    }
                    Ok(tx.commit().await?)
                })
                .await?;
            }
            Err(error) => {
                let mut why = error.to_string();
                fitness::note(context, claim.host_id, None, error.class(), &mut why).await?;
                patiently("an obligation that is not met", || {
                    failed(pool, claim, obligation, &guest, &why)
                })
                .await?;
            }
        }
    }
    Ok(())
}

async fn failed(
    pool: &sqlx::PgPool,
    claim: &UndoClaim,
    obligation: &Obligation,
    guest: &Guest,
    why: &str,
) -> Result<(), StoreError> {
    let mut tx = pool.begin().await?;
    let delay = delay_secs(FIRST_DELAY_SECS, obligation.attempts);
    let attempts = obligations::failed(&mut tx, obligation, why, delay).await?;
    if attempts >= LOUD_FROM {
        let name = guest.full_name();
        let message = match obligation.duty() {
            Duty::RemoveSnapshot(snapshot) => format!(
                "guest {name} still has the snapshot {snapshot} after {attempts} attempts to remove \
                 it: {why}; remove it by hand, or mend the cause and Virtuozo will"
            ),
            Duty::PowerOn => format!(
                "guest {name} is still off after {attempts} attempts to power it on again: {why}; \
                 power it on by hand, or mend the cause and Virtuozo will"
            ),
        };
        events::record(
            &mut *tx,
            &about(claim, obligation, Severity::Error, message),
        )
        .await?;
    }
    // Events go on; mail and webhook tell it once, and then the daily digest.
    if attempts == LOUD_FROM {
        notices::owed(&mut tx, obligation.guest_run_id).await?;
    }
    tx.commit().await?;
    Ok(())
}

fn met_at_last(guest: &Guest, obligation: &Obligation) -> String {
    let name = guest.full_name();
    match obligation.duty() {
        Duty::RemoveSnapshot(snapshot) => {
            format!("guest {name}: the snapshot {snapshot} is removed at last")
        }
        Duty::PowerOn => format!("guest {name}: runs again at last"),
    }
}

fn about(
    claim: &UndoClaim,
    obligation: &Obligation,
    severity: Severity,
    message: String,
) -> NewEvent {
    NewEvent::user(severity, message)
        .host(claim.host_id)
        .guest(claim.guest_id)
        .guest_run(obligation.guest_run_id)
}
