//! What operators do in SQL, and what workers leave to the schedulers, takes effect at once: they notify,
//! schedulers listen.

use std::time::Duration;

use sqlx::{PgPool, postgres::PgListener};
use tokio::time::{Instant, sleep_until, timeout_at};

/// The channel that the functions of the schema `virtuozo` notify, and admission under caps.
const CHANNEL: &str = "virtuozo::look";
/// The channel that each change of a request's state notifies.
const REQUESTS: &str = "virtuozo::request";

/// A pause that a notification ends. Without a connection it is a mere pause: what is missed is found at
/// its end.
#[derive(Debug)]
pub struct WakeupListener {
    pool: PgPool,
    channel: &'static str,
    listener: Option<PgListener>,
}

impl WakeupListener {
    /// Listens from the first pause on, over a connection that it takes from the pool and keeps.
    pub fn new(pool: PgPool) -> Self {
        Self::of(CHANNEL, pool)
    }

    /// The same for those who wait for requests to be done.
    pub fn by_requests(pool: PgPool) -> Self {
        Self::of(REQUESTS, pool)
    }

    fn of(channel: &'static str, pool: PgPool) -> Self {
        Self {
            pool,
            channel,
            listener: None,
        }
    }

    /// Returns true when somebody has asked for a look since the last pause, or false after `limit`. However many
    /// have asked: one look serves them all.
    pub async fn pause(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        if self.listener.is_none() {
            self.listener = match timeout_at(end, listen(&self.pool, self.channel)).await {
                Ok(Ok(listener)) => Some(listener),
                _ => None,
            };
        }
        if let Some(listener) = &mut self.listener {
            match timeout_at(end, listener.recv()).await {
                Ok(Ok(_)) => {
                    while listener.next_buffered().is_some() {}
                    return true;
                }
                Ok(Err(_)) => self.listener = None,
                Err(_) => return false,
            }
        }
        sleep_until(end).await;
        false
    }
}

async fn listen(pool: &PgPool, channel: &str) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(channel).await?;
    Ok(listener)
}
