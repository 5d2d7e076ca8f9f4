//! How a process is told of new jobs: over one connection, for all of its queues. The server wakes each
//! connection that listens for each job of any queue, so that one for each queue costs as much for nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;

use virtuozo_postgres as db;
use virtuozo_runtime::outage;

/// Where apalis' trigger tells of each new job.
const CHANNEL: &str = "apalis::job::insert";
/// The pause after an error; meanwhile the queues are looked into from time to time.
const PAUSE: Duration = Duration::from_secs(1);

/// What a queue is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// This job is new.
    New(String),
    /// Something may have been missed.
    Look,
}

/// What apalis' trigger says.
#[derive(Deserialize)]
struct Inserted {
    job_type: String,
    id: String,
}

/// Tells the queues of a process of their new jobs.
#[derive(Debug, Default)]
pub struct Bell {
    queues: Mutex<HashMap<&'static str, UnboundedSender<Word>>>,
}

impl Bell {
    /// A bell that rings until `stop`.
    pub fn hang(pool: PgPool, stop: CancellationToken) -> Arc<Self> {
        let bell = Arc::<Self>::default();
        let ringing = Arc::clone(&bell);
        tokio::spawn(stop.run_until_cancelled_owned(async move { ringing.ring(&pool).await }));
        bell
    }

    /// What is said to a queue from now on; who heard it before hears no more.
    pub(super) fn hear(&self, queue: &'static str) -> UnboundedReceiver<Word> {
        let (told, heard) = mpsc::unbounded_channel();
        self.change(|queues| queues.insert(queue, told));
        heard
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut HashMap<&'static str, UnboundedSender<Word>>) -> T,
    ) -> T {
        // Nothing that holds the lock can leave the map half changed.
        change(&mut self.queues.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell_all(&self) {
        self.change(|queues| queues.retain(|_, told| told.send(Word::Look).is_ok()));
    }

    fn tell(&self, payload: &str) {
        let Ok(Inserted { job_type, id }) = serde_json::from_str(payload) else {
            return;
        };
        self.change(|queues| {
            if let Some(told) = queues.get(job_type.as_str()) {
                // A queue that starts afresh looks for itself.
                let _ = told.send(Word::New(id));
            }
        });
    }

    /// Starts afresh after every outage, since nothing tells that a connection which only listens is gone.
    async fn ring(&self, pool: &PgPool) {
        loop {
            let mut outage_over = outage::over();
            let own = db::single_connection(pool);
            let broken = tokio::select! {
                Err(error) = self.listen(&own) => Some(error),
                _ = outage_over.changed() => None,
            };
            // Closing waits for an answer, which may not come.
            drop(tokio::spawn(tokio::time::timeout(PAUSE, async move {
                own.close().await;
            })));
            if let Some(error) = broken {
                tracing::debug!(%error, "nobody tells of new jobs for a moment");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn listen(&self, own: &PgPool) -> Result<std::convert::Infallible, sqlx::Error> {
        let mut listener = PgListener::connect_with(own).await?;
        listener.listen(CHANNEL).await?;
        loop {
            self.tell_all();
            while let Some(said) = listener.try_recv().await? {
                self.tell(said.payload());
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
    use crate::{self as queue, GuestJob, Job, UndoJob};
    use virtuozo_postgres::testing::TestDb;

    async fn next(heard: &mut UnboundedReceiver<Word>) -> Word {
        let word = timeout(Duration::from_secs(30), heard.recv()).await;
        word.expect("nobody says anything")
            .expect("the bell is gone")
    }

    async fn push<J: Job>(db: &TestDb, job: J) -> String {
        let mut tx = db.pool.begin().await.unwrap();
        queue::push(&mut tx, &[job], 0).await.unwrap();
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
    async fn each_queue_is_told_of_its_own_jobs_also_after_the_connection_was_ended() {
        let db = TestDb::new().await;
        let bell = Bell::hang(db.pool.clone(), CancellationToken::new());
        let mut guests = bell.hear(GuestJob::QUEUE);
        let mut undos = bell.hear(UndoJob::QUEUE);
        assert_eq!(next(&mut guests).await, Word::Look);
        assert_eq!(next(&mut undos).await, Word::Look);
        let guest_id = Uuid::now_v7();
        let undo = push(&db, UndoJob { guest_id }).await;
        assert_eq!(next(&mut undos).await, Word::New(undo));

        let ended: i64 = sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
              WHERE datname = current_database() AND query LIKE 'LISTEN%'",
        )
        .fetch_one(&db.pool)
        .await
        .unwrap();
        assert_eq!(ended, 1, "one connection for all queues");
        assert_eq!(next(&mut undos).await, Word::Look);
        assert_eq!(next(&mut guests).await, Word::Look);
        let again = push(&db, UndoJob { guest_id }).await;
        assert_eq!(next(&mut undos).await, Word::New(again));
        assert!(guests.is_empty(), "nothing of another queue is told");
    }
}
