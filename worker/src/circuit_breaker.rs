//! The circuit breaker of a host. While a host does not answer, or refuses the login, the breaker is open; after each
//! pause it is half-open, and one worker tries to connect for all.

use std::{future::Future, sync::Arc};

use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_hypervisor::{ErrorClass, ErrorKind, Host, HypervisorError};
use virtuozo_store::{
    circuit_breakers::{self, BreakerState, Probe},
    leases::{self, BootInstant, LeaseKeeper},
    settings,
};
use virtuozo_telemetry::Telemetry;

use crate::{
    error::StepError,
    retry::{delay_secs, while_unavailable},
};

/// Connects to a host if its circuit breaker is closed or lets this worker probe, and records the outcome.
///
/// # Errors
/// [`StepError::HostDown`] if the host does not answer or refuses the login, now or when it was probed last; the
/// connector's error if the attempt fails otherwise; or the database refuses a statement.
pub(crate) async fn connect<Fut>(
    pool: &PgPool,
    telemetry: &Telemetry,
    host_id: Uuid,
    attempt: impl FnOnce() -> Fut,
) -> Result<Arc<dyn Host>, StepError>
where
    Fut: Future<Output = Result<Arc<dyn Host>, HypervisorError>>,
{
    let owner_id = Uuid::now_v7();
    let asked_at = BootInstant::now();
    let passage = while_unavailable(
        &telemetry.health.availability,
        "the host's circuit breaker",
        || circuit_breakers::ask(pool, host_id, owner_id),
    )
    .await?;
    let probe = match passage {
        BreakerState::Closed => None,
        BreakerState::HalfOpen(probe) => Some(probe),
        BreakerState::Open(down) => return Err(StepError::HostDown(down)),
    };
    let keeper = probe
        .clone()
        .map(|probe| LeaseKeeper::start(pool.clone(), telemetry, probe, asked_at));
    let connected = attempt().await;
    drop(keeper);
    match (connected, probe) {
        (Ok(host), None) => Ok(host),
        (Ok(host), Some(_)) => {
            while_unavailable(
                &telemetry.health.availability,
                "a host that answers again",
                || circuit_breakers::close(pool, host_id),
            )
            .await?;
            Ok(host)
        }
        (Err(error), probe) if opens(&error) => {
            Err(open(pool, telemetry, host_id, probe.as_ref(), error).await)
        }
        (Err(error), None) => Err(error.into()),
        (Err(error), Some(probe)) => {
            let _fence = while_unavailable(
                &telemetry.health.availability,
                "a probe that showed nothing",
                || leases::release(pool, &probe),
            )
            .await?;
            Err(error.into())
        }
    }
}

/// Whether a failed connection opens the breaker: for errors that may pass with time, and for a refused login, since
/// each further one brings the account closer to being locked.
fn opens(error: &HypervisorError) -> bool {
    match error.kind {
        ErrorKind::Login => true,
        // This is about the worker's machine, not about the host.
        ErrorKind::LibraryMissing => false,
        _ => error.class == ErrorClass::Retry,
    }
}

async fn open(
    pool: &PgPool,
    telemetry: &Telemetry,
    host_id: Uuid,
    probe: Option<&Probe>,
    error: HypervisorError,
) -> StepError {
    let failed_before = probe.map_or(0, |probe| probe.failed_probes);
    let login_refused = error.kind == ErrorKind::Login;
    let down = while_unavailable(
        &telemetry.health.availability,
        "a host that nobody gets into",
        || async {
            let settings = settings::get(pool).await?;
            let delay = delay_secs(settings.retry_delay_secs, failed_before);
            let error = &error.message;
            circuit_breakers::open(
                pool,
                &telemetry.metrics,
                host_id,
                probe,
                error,
                login_refused,
                delay,
            )
            .await
        },
    );
    match down.await {
        Ok(Some(down)) => StepError::HostDown(down),
        // Another worker has connected meanwhile, perhaps with a new password.
        Ok(None) => HypervisorError {
            class: ErrorClass::Retry,
            ..error
        }
        .into(),
        Err(refused) => refused.into(),
    }
}
