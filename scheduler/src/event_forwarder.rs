//! The event forwarder: every event of the fleet also reaches the log of the machine whose scheduler leads.
//!
//! A log that does not take them holds up nothing else, and nothing is lost, as the watermark from which it goes on is
//! in the database. It is written down after each batch, so what a scheduler has forwarded and not written down when
//! it dies is forwarded again by the next.

mod machine_log;

use std::{
    io,
    time::{Duration, Instant},
};

use sqlx::PgPool;
use virtuozo_postgres::StoreError;
use virtuozo_runtime::LIMITS;
use virtuozo_store::events::{Filter, forwarder::ForwarderPosition};

pub use machine_log::EventLog;

use crate::leader::{LeaderTask, Next, TaskError};

/// Events that are forwarded before the watermark is written down.
const AT_ONCE: i64 = 200;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] io::Error),
}

/// What was logged last about the log of the machine, so that it is logged once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Logged {
    Nothing,
    NoLog,
    Unavailable,
}

/// Forwards events.
pub(crate) struct EventForwarder {
    pool: PgPool,
    log: EventLog,
    position: Option<ForwarderPosition>,
    socket: Option<machine_log::Socket>,
    logged: Logged,
}

impl EventForwarder {
    pub(crate) fn new(pool: PgPool, log: EventLog) -> Self {
        Self {
            pool,
            log,
            position: None,
            socket: None,
            logged: Logged::Nothing,
        }
    }

    /// Finds the log of the machine. False: there is none.
    fn find_log(&mut self) -> io::Result<bool> {
        if self.socket.is_none() {
            let Some(found) = self.log.find()? else {
                if self.logged != Logged::NoLog {
                    tracing::info!(
                        "this machine has neither journald nor syslog: events stand in the database only"
                    );
                    self.logged = Logged::NoLog;
                }
                return Ok(false);
            };
            tracing::info!(log = %found, "events also go to the log of this machine");
            self.socket = Some(found);
        }
        Ok(true)
    }

    /// Forwards the next batch of events.
    async fn forward(&mut self) -> Result<Next, Failure> {
        if !self.find_log()? {
            return Ok(Next::Later);
        }
        let Some(socket) = &self.socket else {
            return Ok(Next::Later);
        };
        let position = match self.position.take() {
            Some(position) => position,
            None => ForwarderPosition::read(&self.pool).await?,
        };
        let filter = Filter::default();
        let next = position.watermark().next(&self.pool, &filter, AT_ONCE);
        let Some(batch) = next.await? else {
            self.restored().await?;
            return Ok(Next::AtOnce);
        };
        let began = Instant::now();
        let mut forwarded = 0;
        let mut sent = Ok(());
        for event in batch.events() {
            sent = socket.send(event).await;
            if sent.is_err() {
                break;
            }
            forwarded += 1;
            if began.elapsed() > LIMITS.leader.events_batch {
                break;
            }
        }
        let watermark = position.watermark().after(&batch, forwarded);
        let is_last = batch.is_last() && forwarded == batch.events().count();
        let next = match forwarded {
            0 => Some(position.at(watermark)),
            _ => match position.replace(&self.pool, watermark.clone()).await {
                Ok(next) => next,
                Err(error) => {
                    // Perhaps it is not written down; but it is forwarded.
                    self.position = Some(position.at(watermark));
                    return Err(error.into());
                }
            },
        };
        if let Err(error) = sent {
            self.position = next;
            return Err(error.into());
        }
        if forwarded > 0 && self.logged == Logged::Unavailable {
            tracing::info!(log = %socket, "the log of this machine takes events again");
            self.logged = Logged::Nothing;
        }
        let Some(next) = next else {
            // Another scheduler forwards them, and leads: this one will hear of that soon.
            return Ok(Next::Later);
        };
        self.position = Some(next);
        Ok(if is_last { Next::Later } else { Next::AtOnce })
    }

    /// The position is of another server, or of the database before it was restored; the stored one tells.
    async fn restored(&self) -> Result<(), StoreError> {
        let position = ForwarderPosition::read(&self.pool).await?;
        let filter = Filter::default();
        let next = position.watermark().next(&self.pool, &filter, AT_ONCE);
        if next.await?.is_none() {
            tracing::info!(
                "the database was restored: events are told from where they had been told to"
            );
            position.restored(&self.pool).await?;
        }
        Ok(())
    }
}

impl LeaderTask for EventForwarder {
    const NAME: &'static str = "the event forwarder";
    const EVERY: Duration = LIMITS.leader.events_every;
    const HAS_LAST: bool = true;

    async fn activate(&mut self) -> Result<Next, TaskError> {
        match self.forward().await {
            Ok(next) => Ok(next),
            Err(Failure::Store(error)) => Err(error.into()),
            Err(Failure::Log(error)) => {
                if self.logged != Logged::Unavailable {
                    tracing::warn!(
                        log = %self.log, %error,
                        "the log of this machine does not take events: they wait, and are told when it does"
                    );
                    self.logged = Logged::Unavailable;
                }
                Err(TaskError::Logged(error.to_string()))
            }
        }
    }

    fn lost_leadership(&mut self) {
        // Who leads in between moves the watermark on.
        self.position = None;
    }
}
