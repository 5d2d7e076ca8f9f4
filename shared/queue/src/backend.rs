//! A backend for apalis: its loop, states and tables, with a claim only where there may be a job.
//!
//! apalis' own backend claims whenever its task is woken, and every process is woken for the jobs of every
//! queue: with W workers a job costs 3 W claims. This one claims when its own queue was notified of jobs, at most
//! [`CLAIM_LIMIT`] of them, so that of many jobs at once each worker gets its share; when there may be a job
//! without a notification; and every poll interval.

use std::{
    collections::HashSet,
    marker::PhantomData,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use apalis::prelude::{Backend, Status, TaskBuilder, TaskId, WorkerContext};
use apalis_codec::json::JsonCodec;
use apalis_core::backend::{
    BackendConfig, WireFormatBackend,
    finalize::Durable,
    persistence::{Persisted, Persistence, State, TaskEvent, TaskPersistLayer},
};
use apalis_postgres::{Config, Error, PgTask, queries};
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant, Sleep},
};

use super::{Capabilities, listener::Notification};
use virtuozo_postgres::Pool;

/// Jobs that one claim takes at most.
const CLAIM_LIMIT: usize = 4;

/// The jobs of one queue.
pub(super) struct QueueBackend<J> {
    claims: Persisted<Claims>,
    /// Notifications of new jobs in this queue.
    notifications: UnboundedReceiver<Notification>,
    /// Ends when the queue is polled next: for jobs with a delay, and for notifications that were lost.
    next_poll: Pin<Box<Sleep>>,
    /// The mean pause between two polls. Each one varies: in step with another process, the same one of them would
    /// get each job that is handed back.
    poll_every: Duration,
    codec: JsonCodec,
    job: PhantomData<fn() -> J>,
}

impl<J> QueueBackend<J> {
    /// Jobs out of the queue that `config` names, which is polled every `poll_every` at least.
    pub(super) fn new(
        pool: &Pool,
        notifications: UnboundedReceiver<Notification>,
        config: Config,
        poll_every: Duration,
        capabilities: Capabilities,
    ) -> Self {
        Self {
            notifications,
            claims: Persisted::new(Claims {
                pool: pool.clone(),
                config,
                capabilities,
                wanted: Arc::default(),
                notified: Arc::default(),
            }),
            next_poll: Box::pin(tokio::time::sleep(Duration::ZERO)),
            poll_every,
            codec: JsonCodec::default(),
            job: PhantomData,
        }
    }
}

impl<J> Backend for QueueBackend<J> {
    type Task = PgTask;
    type Error = Error;

    fn poll_ready(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Result<(), Error>> {
        let every = self.claims.config.heartbeat_interval;
        self.claims.poll_ready(cx, worker, every)
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Option<Result<PgTask, Error>>> {
        while let Poll::Ready(Some(notification)) = self.notifications.poll_recv(cx) {
            if let Notification::NewJob(id) = notification {
                self.claims.notified().insert(id);
            }
            self.claims.wanted.store(true, SeqCst);
        }
        while self.next_poll.as_mut().poll(cx).is_ready() {
            self.claims.wanted.store(true, SeqCst);
            let pause = self.poll_every.mul_f64(rand::random_range(0.75..1.25));
            self.next_poll.as_mut().reset(Instant::now() + pause);
        }
        // Nothing is claimed, nor on its way.
        if matches!(self.claims.state(), State::Ready) && !self.claims.is_wanted() {
            return Poll::Pending;
        }
        let claimed = self.claims.poll_next(cx, worker);
        // A notification came while the claim that found nothing was under way.
        if claimed.is_pending()
            && matches!(self.claims.state(), State::Ready)
            && self.claims.is_wanted()
        {
            cx.waker().wake_by_ref();
        }
        claimed
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Result<(), Error>> {
        self.claims.poll_close(cx, worker)
    }
}

impl<J> BackendConfig for QueueBackend<J> {
    type Args = J;
    type Id = String;
    type Kind = Durable;
    type Config = Config;
    type Layer = TaskPersistLayer<JsonCodec<Value>, Value>;

    fn config(&self) -> &Config {
        &self.claims.config
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Self::Layer {
        self.claims
            .layer(JsonCodec::default(), CLAIM_LIMIT)
            .persist_results(true)
    }
}

impl<J> WireFormatBackend for QueueBackend<J> {
    type Codec = JsonCodec;
    type Compact = Vec<u8>;

    fn codec(&self) -> &JsonCodec {
        &self.codec
    }
}

/// Claims jobs. A job is done with its claim, unless its handler refuses it.
#[derive(Debug, Clone)]
struct Claims {
    pool: Pool,
    config: Config,
    /// Jobs that need anything else are left to others.
    capabilities: Capabilities,
    /// A claim is to be made: there may be a job.
    wanted: Arc<AtomicBool>,
    /// Ids of jobs that were notified and not claimed since.
    notified: Arc<Mutex<HashSet<String>>>,
}

impl Claims {
    fn notified(&self) -> MutexGuard<'_, HashSet<String>> {
        self.notified.lock()
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(SeqCst)
    }

    fn queue(&self) -> &str {
        self.config.queue.as_ref()
    }

    fn silent_secs(&self) -> u64 {
        self.config.orphaned_duration().as_secs()
    }
}

impl Persistence for Claims {
    type Compact = Vec<u8>;
    type Response = Value;
    type Error = Error;

    async fn register(&mut self, worker: &WorkerContext) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        queries::reenqueue_orphaned(&mut *tx, self.queue(), self.silent_secs()).await?;
        let now: i64 = sqlx::query_scalar(include_str!("now.sql"))
            .fetch_one(&mut *tx)
            .await?;
        queries::register_worker(&mut *tx, self.queue(), worker, &now.into(), "virtuozo").await?;
        tx.commit().await?;
        Ok(())
    }

    async fn heartbeat(&mut self, worker: &WorkerContext) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        queries::keep_alive(&mut *tx, self.queue(), worker).await?;
        queries::reenqueue_orphaned(&mut *tx, self.queue(), self.silent_secs()).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn fetch_next(&mut self, worker: &WorkerContext) -> Result<Vec<PgTask>, Error> {
        self.wanted.store(false, SeqCst);
        let mut notified = mem::take(&mut *self.notified());
        let limit = notified.len().clamp(1, CLAIM_LIMIT);
        let claimed: Vec<(String, Vec<u8>, i32)> = sqlx::query_as(include_str!("claim.sql"))
            .bind(worker.name())
            .bind(self.queue())
            .bind(i64::try_from(limit).unwrap_or(1))
            .bind(self.capabilities.kinds())
            .bind(self.capabilities.worker())
            .fetch_all(&self.pool)
            .await?;
        let known = claimed
            .iter()
            .filter(|(id, ..)| notified.remove(id))
            .count();
        // Fewer than the limit: there are no more, or others have them. As many as the limit, one of them not
        // notified: there may be more.
        if claimed.len() == limit && (known < limit || !notified.is_empty()) {
            self.notified().extend(notified);
            self.wanted.store(true, SeqCst);
        }
        let task = |(id, job, attempts): (String, Vec<u8>, i32)| {
            TaskBuilder::new(job)
                .task_id(TaskId::from_string(id))
                .queue(self.config.queue.clone())
                .attempt(usize::try_from(attempts).unwrap_or_default())
                .build()
        };
        Ok(claimed.into_iter().map(task).collect())
    }

    async fn handle_events(
        &mut self,
        events: Vec<TaskEvent<Value>>,
        worker: &WorkerContext,
    ) -> Result<(), Error> {
        for event in &events {
            let TaskEvent::Complete(result) = event else {
                continue;
            };
            // The claim has said so already.
            if *result.status() == Status::Done {
                continue;
            }
            let answer = serde_json::to_value(result).map_err(Error::JsonError)?;
            sqlx::query(include_str!("refuse.sql"))
                .bind(worker.name())
                .bind(answer)
                .execute(&self.pool)
                .await?;
        }
        Ok(())
    }

    async fn reenqueue_abandoned(
        &mut self,
        tasks: Vec<PgTask>,
        worker: &WorkerContext,
    ) -> Result<u64, Error> {
        let ids: Vec<String> = tasks
            .iter()
            .filter_map(|task| task.task_id().map(ToString::to_string))
            .collect();
        let put_back = sqlx::query(include_str!("put_back.sql"))
            .bind(worker.name())
            .bind(ids)
            .execute(&self.pool)
            .await?;
        Ok(put_back.rows_affected())
    }

    async fn push_tasks(&mut self, tasks: Vec<PgTask>) -> Result<(), Error> {
        let mut conn = self.pool.acquire().await?;
        queries::push_tasks(&mut *conn, self.queue(), tasks).await
    }
}

#[cfg(test)]
mod tests;
