//! Tells a trace back end what became of runs: the spans of runs, hosts, guests, attempts and steps, made
//! from the database by the scheduler that leads.
//!
//! Not by those who did the work: a worker that dies takes with it what it has not sent, and the spans below
//! would hang in the air. What the rows say is there whoever dies, and is told again until it has arrived.

mod spans;

use std::time::Duration;

use opentelemetry_sdk::trace::SpanData;
use shared::{StoreError, store::traces as store, telemetry::traces};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often it looks for what has ended.
const EVERY: Duration = Duration::from_secs(1);
/// The longest pause while nobody takes it.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// How long the last look may take when the process ends.
const LAST_LIMIT: Duration = Duration::from_secs(3);
/// Guest runs, or runs, that are told at once.
const AT_ONCE: i64 = 100;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Export(#[from] opentelemetry_sdk::error::OTelSdkError),
}

/// Tells what has ended while this scheduler leads, until `shutdown` and once more then.
pub(crate) async fn tell(pool: PgPool, leads: watch::Receiver<bool>, shutdown: CancellationToken) {
    if !traces::are_sent() {
        return;
    }
    let mut pause = EVERY;
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => {}
        }
        if !*leads.borrow() {
            continue;
        }
        let looking = look(&pool);
        let looked = if shutdown.is_cancelled() {
            let Ok(looked) = tokio::time::timeout(LAST_LIMIT, looking).await else {
                return;
            };
            looked
        } else {
            looking.await
        };
        pause = match looked {
            Ok(()) => EVERY,
            // That a database or a receiver is away is said where that is found.
            Err(error) => {
                tracing::debug!(%error, "what has ended is not told to the trace back end");
                (pause * 2).min(MAX_PAUSE)
            }
        };
    }
}

/// Guests first: a run is told when nothing of it is left.
async fn look(pool: &PgPool) -> Result<(), Failure> {
    loop {
        let guests = store::guests_to_tell(pool, AT_ONCE).await?;
        if guests.is_empty() {
            break;
        }
        let told: Vec<_> = guests.iter().filter(|g| spans::is_told(g)).collect();
        let ids: Vec<_> = told.iter().map(|g| g.id).collect();
        let steps = store::steps_of(pool, &ids).await?;
        send(
            told.iter()
                .flat_map(|guest| {
                    let own: Vec<_> = steps
                        .iter()
                        .filter(|step| step.guest_run_id == guest.id)
                        .collect();
                    spans::of_guest(guest, &own)
                })
                .collect(),
        )
        .await?;
        store::guests_told(pool, &guests).await?;
    }
    for run in store::runs_to_tell(pool, AT_ONCE).await? {
        if run.troubled || traces::is_wanted(run.trace_id) {
            let hosts = store::hosts_of(pool, run.id).await?;
            send(spans::of_run(&run, &hosts)).await?;
        }
        store::run_told(pool, &run).await?;
    }
    Ok(())
}

async fn send(spans: Vec<SpanData>) -> Result<(), Failure> {
    if spans.is_empty() {
        return Ok(());
    }
    Ok(traces::send(spans).await?)
}
