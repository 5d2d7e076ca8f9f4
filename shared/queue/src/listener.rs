//! Listens for new jobs over one connection and passes them on to the queues of this process, and for what an operator
//! asks workers to do. The server wakes
//! each connection that listens for each job of any queue, so one connection for each queue would cost as much
//! again for nothing.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use parking_lot::Mutex;
use serde::Deserialize;
use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::{
    Notify,
    mpsc::{self, UnboundedReceiver, UnboundedSender},
};
use tokio_util::sync::CancellationToken;
use virtuozo_postgres::single_connection;
use virtuozo_runtime::{Availability, LIMITS};

/// The channel on which apalis' trigger notifies of each new job.
const CHANNEL: &str = "apalis::job::insert";
/// The channel that is notified of each worker that is to drain.
const DRAINS: &str = "virtuozo::drain";

/// What a queue is notified of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notification {
    /// The job with this id is new.
    NewJob(String),
    /// Notifications may have been missed: the queue has to be polled.
    MayHaveMissed,
}

/// The payload of apalis' trigger.
#[derive(Deserialize)]
struct Inserted {
    job_type: String,
    id: String,
}

/// Notifies the queues of a process of their new jobs.
#[derive(Debug)]
pub struct JobListener {
    availability: Availability,
    queues: Mutex<HashMap<&'static str, UnboundedSender<Notification>>>,
    drains: Notify,
}

impl JobListener {
    /// Listens until `stop`.
    pub fn start(pool: PgPool, availability: Availability, stop: CancellationToken) -> Arc<Self> {
        let listener = Arc::new(Self {
            availability,
            queues: Mutex::default(),
            drains: Notify::new(),
        });
        let running = Arc::clone(&listener);
        tokio::spawn(stop.run_until_cancelled_owned(async move { running.run(&pool).await }));
        listener
    }

    /// Completes when some worker was asked to drain since it was called last: perhaps the one of this process, as its
    /// next sign of life tells.
    pub async fn drain_requested(&self) {
        self.drains.notified().await;
    }

    /// That of the database it listens to.
    pub(super) fn availability(&self) -> &Availability {
        &self.availability
    }

    /// The notifications for a queue from now on. An earlier subscriber of the queue gets no more.
    pub(super) fn subscribe(&self, queue: &'static str) -> UnboundedReceiver<Notification> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.change(|queues| queues.insert(queue, sender));
        receiver
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut HashMap<&'static str, UnboundedSender<Notification>>) -> T,
    ) -> T {
        change(&mut self.queues.lock())
    }

    fn notify_all(&self) {
        self.change(|queues| {
            queues.retain(|_, sender| sender.send(Notification::MayHaveMissed).is_ok());
        });
    }

    fn notify(&self, payload: &str) {
        let Ok(Inserted { job_type, id }) = serde_json::from_str(payload) else {
            return;
        };
        self.change(|queues| {
            if let Some(sender) = queues.get(job_type.as_str()) {
                // A queue whose loop starts again polls anyway.
                let _ = sender.send(Notification::NewJob(id));
            }
        });
    }

    /// Connects again after each outage: a connection that only listens does not notice that it is gone.
    async fn run(&self, pool: &PgPool) {
        loop {
            let mut outage_over = self.availability.outages_over();
            let own = single_connection(pool, &self.availability);
            let broken = tokio::select! {
                Err(error) = self.listen(&own) => Some(error),
                _ = outage_over.changed() => None,
            };
            // Closing waits for an answer, which may not come.
            drop(tokio::spawn(tokio::time::timeout(
                LIMITS.queue.listener_pause,
                async move {
                    own.close().await;
                },
            )));
            if let Some(error) = broken {
                tracing::debug!(%error, "the listener for new jobs lost its connection, the queues are polled meanwhile");
                tokio::time::sleep(LIMITS.queue.listener_pause).await;
            }
        }
    }

    async fn listen(&self, own: &PgPool) -> Result<Infallible, sqlx::Error> {
        let mut listener = PgListener::connect_with(own).await?;
        listener.listen_all([CHANNEL, DRAINS]).await?;
        loop {
            self.notify_all();
            while let Some(notification) = listener.try_recv().await? {
                match notification.channel() {
                    DRAINS => self.drains.notify_one(),
                    _ => self.notify(notification.payload()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;
    use uuid::Uuid;

    use super::*;
    use crate::{GuestJob, Job, UndoJob};
    use virtuozo_postgres::testing::TestDb;

    async fn next(notifications: &mut UnboundedReceiver<Notification>) -> Notification {
        let next = timeout(Duration::from_secs(30), notifications.recv()).await;
        next.expect("nothing is notified")
            .expect("the listener is gone")
    }

    async fn push<J: Job>(db: &TestDb, job: J) -> String {
        let mut tx = db.pool.begin().await.unwrap();
        crate::push(&mut tx, &[job], 0).await.unwrap();
        tx.commit().await.unwrap();
        sqlx::query_scalar(
            "SELECT id FROM apalis.jobs WHERE job_type = $1 ORDER BY run_at DESC, id DESC",
        )
        .bind(J::QUEUE)
        .fetch_one(&db.pool)
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn a_worker_that_is_to_drain_is_notified() {
        let db = TestDb::new().await;
        let listener = JobListener::start(
            db.pool.clone(),
            Availability::default(),
            CancellationToken::new(),
        );
        let mut jobs = listener.subscribe(UndoJob::QUEUE);
        assert_eq!(next(&mut jobs).await, Notification::MayHaveMissed);
        sqlx::query("SELECT pg_notify($1, '')")
            .bind(DRAINS)
            .execute(&db.pool)
            .await
            .unwrap();
        timeout(Duration::from_secs(30), listener.drain_requested())
            .await
            .expect("nothing is notified");
    }

    #[tokio::test]
    async fn each_queue_is_notified_of_its_own_jobs_also_after_the_connection_was_ended() {
        let db = TestDb::new().await;
        let listener = JobListener::start(
            db.pool.clone(),
            Availability::default(),
            CancellationToken::new(),
        );
        let mut guests = listener.subscribe(GuestJob::QUEUE);
        let mut undos = listener.subscribe(UndoJob::QUEUE);
        assert_eq!(next(&mut guests).await, Notification::MayHaveMissed);
        assert_eq!(next(&mut undos).await, Notification::MayHaveMissed);
        let guest_id = Uuid::now_v7();
        let undo = push(&db, UndoJob { guest_id }).await;
        assert_eq!(next(&mut undos).await, Notification::NewJob(undo));

        let ended: i64 = sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
              WHERE datname = current_database() AND query LIKE 'LISTEN%'",
        )
        .fetch_one(&db.pool)
        .await
        .unwrap();
        assert_eq!(ended, 1, "one connection for all queues");
        assert_eq!(next(&mut undos).await, Notification::MayHaveMissed);
        assert_eq!(next(&mut guests).await, Notification::MayHaveMissed);
        let again = push(&db, UndoJob { guest_id }).await;
        assert_eq!(next(&mut undos).await, Notification::NewJob(again));
        assert!(
            guests.is_empty(),
            "a queue is notified of its own jobs only"
        );
    }
}
