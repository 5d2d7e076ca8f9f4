//! Reads the tables all the time and notes where a limit is passed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use sqlx::{PgConnection, PgPool};
use tokio::task::JoinHandle;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Sentences that are kept; more of them say nothing new.
const MOST_SENTENCES: usize = 20;

/// What was seen in all looks together.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// How many looks.
    pub(super) samples: u64,
    /// How often something was over its limit.
    pub(super) over: u64,
    /// The first of these, as sentences.
    pub(super) sentences: Vec<String>,
    /// The most that was used, by kind of limit.
    pub(super) most: BTreeMap<String, i64>,
    /// How often a limit was reached exactly, by kind.
    pub(super) reached: BTreeMap<String, u64>,
}

/// A task that looks.
pub(super) struct Sampler {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<Seen>>,
}

impl Sampler {
    pub(super) fn start(pool: PgPool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut seen = Seen::default();
            let mut connection = pool.acquire().await?;
            // Without statistics the server would compile this statement, for seconds, each time.
            sqlx::query("SET jit = off")
                .execute(&mut *connection)
                .await?;
            while !asked.load(Ordering::Relaxed) {
                seen.look(&mut connection).await?;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(seen)
        });
        Self { stop, task }
    }

    /// What it has seen up to now.
    ///
    /// # Errors
    /// A look failed: then nothing is proven.
    pub(super) async fn end(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?.context("the tables could not be sampled")
    }
}

impl Seen {
    async fn look(&mut self, connection: &mut PgConnection) -> Result<()> {
        let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(include_str!("sample.sql"))
            .fetch_all(connection)
            .await?;
        self.samples += 1;
        for (kind, name, used, most) in rows {
            if used > most {
                self.over += 1;
                if self.sentences.len() < MOST_SENTENCES {
                    self.sentences
                        .push(format!("{kind} {name}: {used} of at most {most}"));
                }
            }
            if used == most {
                *self.reached.entry(kind.clone()).or_default() += 1;
            }
            let highest = self.most.entry(kind).or_default();
            *highest = used.max(*highest);
        }
        Ok(())
    }
}
