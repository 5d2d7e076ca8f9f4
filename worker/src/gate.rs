//! The way to a host: through its gate, so that one that does not answer is tried by one worker at a time and
//! once in each pause, whoever needs it.

use std::{future::Future, sync::Arc};

use hypervisor::{ErrorClass, ErrorKind, Host, HypervisorError};
use shared::store::{
    gates::{self, Passage, Probe},
    settings,
};
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    error::StepError,
    jobs::delay_secs,
    lease::{Held, LeaseKeeper},
    patience::patiently,
};

/// Connects to a host if its gate permits that, and tells the gate what came of it.
///
/// # Errors
/// [`StepError::HostDown`] if the host does not answer, or others found so; or what else is wrong.
pub(crate) async fn pass<Fut>(
    pool: &PgPool,
    host_id: Uuid,
    connect: impl FnOnce() -> Fut,
) -> Result<Arc<dyn Host>, StepError>
where
    Fut: Future<Output = Result<Arc<dyn Host>, HypervisorError>>,
{
    let probe_id = Uuid::now_v7();
    let asked_at = Instant::now();
    let passage = patiently("the host's gate", || gates::ask(pool, host_id, probe_id)).await?;
    let probe = match passage {
        Passage::Open => None,
        Passage::Probe(probe) => Some(probe),
        Passage::Shut(down) => return Err(StepError::HostDown(down)),
    };
    let keeper = probe
        .clone()
        .map(|probe| LeaseKeeper::start(pool.clone(), Held::Probe(probe), asked_at));
    let connected = connect().await;
    drop(keeper);
    match (connected, probe) {
        (Ok(host), None) => Ok(host),
        (Ok(host), Some(_)) => {
            patiently("a host that answers again", || gates::open(pool, host_id)).await?;
            Ok(host)
        }
        // What this machine lacks tells nothing about the host.
        (Err(error), probe)
            if error.class == ErrorClass::Retry && error.kind != ErrorKind::LibraryMissing =>
        {
            Err(shut(pool, host_id, probe.as_ref(), error).await)
        }
        (Err(error), None) => Err(error.into()),
        (Err(error), Some(probe)) => {
            patiently("a probe that told nothing", || async {
                match error.kind {
                    // It answers, although it refuses.
                    ErrorKind::Login => gates::open(pool, host_id).await,
                    _ => gates::release(pool, &probe).await,
                }
            })
            .await?;
            Err(error.into())
        }
    }
}

async fn shut(
    pool: &PgPool,
    host_id: Uuid,
    probe: Option<&Probe>,
    error: HypervisorError,
) -> StepError {
    let failed_before = probe.map_or(0, |probe| probe.failed_probes);
    let down = patiently("a host that does not answer", || async {
        let settings = settings::get(pool).await?;
        let delay = delay_secs(settings.retry_delay_secs, failed_before);
        gates::shut(pool, host_id, probe, &error.message, delay).await
    });
    match down.await {
        Ok(Some(down)) => StepError::HostDown(down),
        // Somebody else reached it meanwhile.
        Ok(None) => error.into(),
        Err(refused) => refused.into(),
    }
}
