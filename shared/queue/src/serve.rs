//! Receives the jobs of one queue for as long as the process runs.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Instant};

use apalis::prelude::{BoxDynError, WorkerBuilder, WorkerBuilderExt, WorkerContext, WorkerError};
use apalis_postgres::Config;
use sqlx::{Connection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Capabilities, Job, JobListener, backend::QueueBackend};
use virtuozo_postgres::{ConnectionHealth, Pool};
use virtuozo_runtime::{Availability, Backoff, LIMITS};

/// Why a job has to be delivered again. The reason stands in the job's row.
#[derive(Debug)]
pub struct HandlerError(pub String);

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HandlerError {}

/// Claims the jobs of `J`'s queue that need nothing beyond `capabilities` one by one, and gives them to `handler`, until
/// `stop`.
///
/// A handler starts the work in a task of its own and returns: what it must not lose it may not hold,
/// since every error of apalis ends its loop and drops all handlers in flight. The loop then starts
/// again, under a new name each time, because the name of a claimer that died without saying so keeps
/// its jobs locked. It has connections of its own: on one that fell silent it would wait for ever, so
/// that is watched, and after every outage it starts afresh. `listener` notifies of new jobs.
pub async fn serve<J, H, F>(
    pool: PgPool,
    listener: Arc<JobListener>,
    incarnation: Uuid,
    capabilities: Capabilities,
    handler: H,
    stop: CancellationToken,
) where
    J: Job,
    H: Fn(J) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    let availability = listener.availability();
    let mut backoff = Backoff::new(LIMITS.queue.restarts);
    let mut starts = 0_u64;
    while !stop.is_cancelled() {
        starts += 1;
        let name = format!("{incarnation}/{}/{starts}", J::QUEUE);
        let context = WorkerContext::new(&name);
        let config = Config::default()
            .queue(J::QUEUE)
            .heartbeat_interval(LIMITS.process.heartbeat_every)
            .missed_heartbeats(LIMITS.queue.missed_heartbeats);
        let health = ConnectionHealth::new(availability);
        let own = Pool::isolated(&pool, &health);
        let backend = QueueBackend::<J>::new(
            &own,
            listener.subscribe(J::QUEUE),
            config,
            LIMITS.queue.poll_every,
            capabilities.clone(),
        );
        let handler = handler.clone();
        let worker = WorkerBuilder::new(&context)
            .backend(backend)
            .catch_panic()
            .build(move |job: J| {
                let work = handler(job);
                async move { work.await.map_err(BoxDynError::from) }
            });
        let mut outage_over = availability.outages_over();
        let began = Instant::now();
        // Boxed with its type written out: the compiler cannot tell that the bare future may be sent.
        let mut running: Pin<Box<dyn Future<Output = Result<(), WorkerError>> + Send>> =
            Box::pin(worker.run());
        let ended = tokio::select! {
            ended = &mut running => Some(match ended {
                Ok(()) => "it ended by itself".to_owned(),
                Err(error) => error.to_string(),
            }),
            () = health.until_silent_for(LIMITS.queue.silence) => Some("nothing is answered".to_owned()),
            _ = outage_over.changed() => None,
            () = stop.cancelled() => {
                // An error means that it has not started: then nothing is claimed either.
                if context.stop().is_ok() {
                    let _ = tokio::time::timeout(LIMITS.queue.stop, running).await;
                }
                return;
            }
        };
        drop(running);
        // Closing waits for those who use a connection, and they may hang.
        drop(tokio::spawn(tokio::time::timeout(
            LIMITS.queue.stop,
            async move {
                own.close().await;
            },
        )));
        let Some(error) = ended else {
            tracing::debug!(queue = J::QUEUE, "starts afresh after an outage");
            continue;
        };
        tokio::select! {
            () = until_answered(&pool, availability, J::QUEUE, &error) => {}
            () = stop.cancelled() => return,
        }
        if began.elapsed() > LIMITS.queue.restarts.longest {
            backoff.reset();
        }
        tracing::debug!(
            queue = J::QUEUE,
            error,
            "the queue's loop ended, starting it again"
        );
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Waits until the database answers. If it does at once, `error` has another reason, and is told.
async fn until_answered(pool: &PgPool, availability: &Availability, queue: &str, error: &str) {
    let began = Instant::now();
    loop {
        let asked_at = Instant::now();
        let ping = tokio::time::timeout(LIMITS.queue.answer, async {
            pool.acquire().await?.ping().await
        });
        let why = match ping.await {
            Ok(Ok(())) => {
                availability.answered(asked_at);
                break;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it is silent".to_owned(),
        };
        availability.no_answer("the queues", asked_at, &why);
        tokio::time::sleep(LIMITS.queue.restarts.first).await;
    }
    if began.elapsed() < LIMITS.database.prompt_answer {
        tracing::warn!(queue, error, "a queue's loop ended, starting it again");
    }
}
