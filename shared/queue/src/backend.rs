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
            .bind(self.capabilities.now())
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
mod tests {
    use tokio::sync::mpsc;
    use uuid::Uuid;

    use super::*;
    use crate::{self as queue, GuestJob, Job, UndoJob};
    use virtuozo_postgres::{ConnectionHealth, testing::TestDb};
    use virtuozo_runtime::Availability;

    async fn claimer<J: Job>(
        db: &TestDb,
        name: &str,
        capabilities: Capabilities,
    ) -> (Claims, WorkerContext) {
        let (_, notifications) = mpsc::unbounded_channel();
        let config = Config::default().queue(J::QUEUE);
        let pool = Pool::isolated(&db.pool, &ConnectionHealth::new(&Availability::default()));
        let poll_every = Duration::from_secs(60);
        let backend =
            QueueBackend::<J>::new(&pool, notifications, config, poll_every, capabilities);
        let (mut claims, worker) = (Claims::clone(&backend.claims), WorkerContext::new(name));
        claims.register(&worker).await.unwrap();
        (claims, worker)
    }

    #[tokio::test]
    async fn a_claim_takes_as_many_jobs_as_were_notified_up_to_a_limit_and_what_it_puts_back_goes_to_others()
     {
        let db = TestDb::new().await;
        let jobs: Vec<UndoJob> = (0..CLAIM_LIMIT + 2)
            .map(|_| UndoJob {
                guest_id: Uuid::now_v7(),
            })
            .collect();
        let mut tx = db.pool.begin().await.unwrap();
        queue::push(&mut tx, &jobs, 0).await.unwrap();
        tx.commit().await.unwrap();
        let all: Vec<String> = sqlx::query_scalar("SELECT id FROM apalis.jobs")
            .fetch_all(&db.pool)
            .await
            .unwrap();
        let (mut one, first) = claimer::<UndoJob>(&db, "one", Capabilities::none()).await;
        let (mut two, second) = claimer::<UndoJob>(&db, "two", Capabilities::none()).await;

        let unnotified = one.fetch_next(&first).await.unwrap();
        assert_eq!(unnotified.len(), 1, "no more were notified");
        assert!(one.is_wanted(), "there may be more");

        one.notified().extend(all.iter().cloned());
        let claimed = one.fetch_next(&first).await.unwrap();
        assert_eq!(claimed.len(), CLAIM_LIMIT);
        assert!(one.is_wanted(), "one notified job is left");
        assert_eq!(one.reenqueue_abandoned(claimed, &first).await.unwrap(), 4);

        two.notified().extend(all.iter().cloned());
        let others = two.fetch_next(&second).await.unwrap();
        assert_eq!(others.len(), CLAIM_LIMIT);
        let last = one.fetch_next(&first).await.unwrap();
        assert_eq!(last.len(), 1);
        assert!(!one.is_wanted(), "all notified jobs are gone");
        assert_eq!(
            one.reenqueue_abandoned(others, &first).await.unwrap(),
            0,
            "the jobs of another are not put back"
        );
    }

    /// A guest of each kind of host with a guest run that has a slot; ids are made from the kinds.
    const KINDS: &str = "
        INSERT INTO virtuozo_core.runs (id, requested_by) VALUES (md5('run')::uuid, 'test');
        INSERT INTO virtuozo_core.hosts (id, name, kind) SELECT md5(k)::uuid, k, k FROM unnest('{one,two,three}'::text[]) k;
        INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, state, ended_at)
        SELECT id, md5('run')::uuid, id, 'succeeded', now() FROM virtuozo_core.hosts;
        INSERT INTO virtuozo_core.guests (id, host_id, locator, name) SELECT id, id, name, name FROM virtuozo_core.hosts;
        INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, state, admitted_at)
        SELECT id, md5('run')::uuid, id, id, id, 'admitted', now() FROM virtuozo_core.hosts";

    #[tokio::test]
    async fn a_job_is_claimed_only_by_who_serves_the_kind_of_its_host_and_waits_for_one_until_then()
    {
        let db = TestDb::new().await;
        sqlx::raw_sql(KINDS).execute(&db.pool).await.unwrap();
        // Twice, so that each is offered what it must leave before and after what it may take.
        let push = "SELECT virtuozo_core.push_jobs('virtuozo-guest', array_agg(id ORDER BY name DESC), 0),
                           virtuozo_core.push_jobs('virtuozo-guest', array_agg(id ORDER BY name), 0) FROM virtuozo_core.hosts";
        sqlx::raw_sql(push).execute(&db.pool).await.unwrap();
        let kind = |kind: &str| tokio::sync::watch::channel(vec![kind.to_owned()]);
        let (serves_one, kinds) = kind("one");
        let (mut one, first) = claimer::<GuestJob>(&db, "1", Capabilities::of_kinds(kinds)).await;
        let (_serves_two, kinds) = kind("two");
        let (mut two, second) = claimer::<GuestJob>(&db, "2", Capabilities::of_kinds(kinds)).await;
        let (mut none, third) = claimer::<GuestJob>(&db, "3", Capabilities::none()).await;
        for _ in 0..6 {
            one.fetch_next(&first).await.unwrap();
            two.fetch_next(&second).await.unwrap();
            none.fetch_next(&third).await.unwrap();
        }
        let claimed =
            "SELECT string_agg(format('%s of %s', lock_by, needs_kind), ', ' ORDER BY needs_kind)
                         FROM apalis.jobs WHERE status = 'Done'";
        let claimed = async || -> String {
            let claimed = sqlx::query_scalar(claimed).fetch_one(&db.pool).await;
            claimed.unwrap()
        };
        assert_eq!(claimed().await, "1 of one, 1 of one, 2 of two, 2 of two");
        let waiting =
            "SELECT DISTINCT waiting_reason FROM virtuozo.jobs WHERE needs_kind = 'three'";
        sqlx::raw_sql(
            "INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version)
             VALUES (md5('worker')::uuid, 'worker', 'w', 'm', 1, '1');
             INSERT INTO virtuozo_core.worker_kinds (worker_id, kind, is_served, found)
             VALUES (md5('worker')::uuid, 'three', false, 'its library is missing')",
        )
        .execute(&db.pool)
        .await
        .unwrap();
        let waiting: String = sqlx::query_scalar(waiting)
            .fetch_one(&db.pool)
            .await
            .unwrap();
        assert!(waiting.contains("of the kind three"), "{waiting}");

        // A library that is installed meanwhile.
        serves_one.send_replace(vec!["one".to_owned(), "three".to_owned()]);
        for _ in 0..2 {
            one.fetch_next(&first).await.unwrap();
        }
        assert_eq!(
            claimed().await,
            "1 of one, 1 of one, 1 of three, 1 of three, 2 of two, 2 of two"
        );
    }
}
