//! Events: what happened, in order, and what happens from now on.

use sqlx::PgPool;
use tokio::time::{sleep, timeout};
use virtuozo_model::Event;
use virtuozo_postgres::StoreError;
use virtuozo_runtime::LIMITS;
use virtuozo_store::events::{self, Filter, follow::Watermark};

use crate::{
    error::ServiceError,
    names::{self, guest_id, host_id},
};

/// Events that are read at once.
const AT_ONCE: i64 = 500;

/// Which events somebody wants to read, by names; none: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only those for users: done, failed.
    pub only_for_users: bool,
    /// Of this run, by its id, a beginning or end of it, or `latest`.
    pub run: Option<String>,
    /// Of this host.
    pub host: Option<String>,
    /// Of this guest, as HOST/GUEST.
    pub guest: Option<String>,
}

impl Wanted {
    async fn filter(&self, pool: &PgPool) -> Result<Filter, ServiceError> {
        let mut filter = Filter::default();
        if self.only_for_users {
            filter.min_code = events::USER;
        }
        if let Some(run) = &self.run {
            filter.run_id = Some(names::run(pool, run).await?);
        }
        filter.host_id = host_id(pool, self.host.as_deref()).await?;
        filter.guest_id = guest_id(pool, self.guest.as_deref()).await?;
        Ok(filter)
    }
}

/// The latest `limit` events, oldest first.
///
/// # Errors
/// [`ServiceError::Refused`] or [`StoreError::NotFound`] for an unknown run, host or guest.
pub async fn list(pool: &PgPool, wanted: &Wanted, limit: u32) -> Result<Vec<Event>, ServiceError> {
    let filter = wanted.filter(pool).await?;
    Ok(events::list(pool, &filter, i64::from(limit)).await?)
}

/// What a [`Follower`] has to say.
#[derive(Debug)]
pub enum News {
    /// These have happened; at least one.
    Events(Vec<Event>),
    /// The database does not answer, for this reason. It is waited for.
    Away(String),
    /// The database answers again.
    AnswersAgain,
    /// The database is another server's, or of a dump, and lacks the latest of what was there: events of that time may
    /// never be read.
    Restored,
}

/// Reads events as they happen, each once, whatever becomes of the database meanwhile.
#[derive(Debug)]
pub struct Follower {
    pool: PgPool,
    filter: Filter,
    place: Watermark,
    /// The database did not answer the last look.
    is_away: bool,
    /// A pause comes before the next look.
    rests: bool,
}

/// Follows events from now on. The latest `limit` come with it, oldest first.
///
/// # Errors
/// As [`list`].
pub async fn follow(
    pool: &PgPool,
    wanted: &Wanted,
    limit: u32,
) -> Result<(Follower, Vec<Event>), ServiceError> {
    let filter = wanted.filter(pool).await?;
    let (place, latest) = Watermark::after_latest(pool, &filter, i64::from(limit)).await?;
    let follower = Follower {
        pool: pool.clone(),
        filter,
        place,
        is_away: false,
        rests: false,
    };
    Ok((follower, latest))
}

impl Follower {
    /// Waits for the next news. Whoever stops waiting may ask again: nothing is lost.
    ///
    /// # Errors
    /// The database says something else than that it does not answer.
    pub async fn next(&mut self) -> Result<News, ServiceError> {
        loop {
            if self.rests {
                sleep(LIMITS.services.events_every).await;
                self.rests = false;
            }
            if let Some(news) = self.look().await? {
                return Ok(news);
            }
        }
    }

    async fn look(&mut self) -> Result<Option<News>, ServiceError> {
        let looking = self.place.next(&self.pool, &self.filter, AT_ONCE);
        let batch = match timeout(LIMITS.services.events, looking).await {
            Ok(Ok(batch)) => batch,
            Ok(Err(error)) if !error.is_unavailable() => return Err(error.into()),
            Ok(Err(error)) => return Ok(self.lost(error)),
            Err(_) => return Ok(self.lost(StoreError::Unavailable(sqlx::Error::PoolTimedOut))),
        };
        if std::mem::take(&mut self.is_away) {
            return Ok(Some(News::AnswersAgain));
        }
        let Some(batch) = batch else {
            self.rests = true;
            // A database that is away just now is found so by the next look.
            let Ok(now) = Watermark::now(&self.pool).await else {
                return Ok(None);
            };
            self.place = now;
            return Ok(Some(News::Restored));
        };
        let events: Vec<Event> = batch.events().cloned().collect();
        self.place = self.place.after(&batch, usize::MAX);
        self.rests = batch.is_last();
        Ok((!events.is_empty()).then_some(News::Events(events)))
    }

    fn lost(&mut self, error: StoreError) -> Option<News> {
        self.rests = true;
        let is_known = std::mem::replace(&mut self.is_away, true);
        (!is_known).then(|| News::Away(error.to_string()))
    }
}
