//! Every event of the fleet also reaches the log of the machine, told there by the scheduler that leads.
//!
//! Beside its other work: a log that does not take them holds up nothing, and nothing is lost, as the watermark
//! where it goes on is in the database. It is written down after each batch, so what a scheduler has told and not
//! written down when it dies is told again by the next.

mod machine_log;

use std::{io, time::Duration};

use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use virtuozo_postgres::{StoreError, count_error};
use virtuozo_runtime::Availability;
use virtuozo_store::events::{Filter, forwarder::ForwarderPosition};

pub use machine_log::EventLog;

/// How often it looks for new events.
const EVERY: Duration = Duration::from_secs(1);
/// The longest pause while the log does not take them.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// How long the last look may take when the process ends.
const LAST_LIMIT: Duration = Duration::from_secs(3);
/// Events that are told before the watermark is written down.
const AT_ONCE: i64 = 200;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] io::Error),
}

/// Tells what happens while this scheduler leads, until `shutdown` and once more then.
pub(crate) async fn run(
    pool: PgPool,
    availability: Availability,
    log: EventLog,
    leads: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    if log == EventLog::Off {
        return;
    }
    let mut forwarder = EventForwarder {
        pool,
        log,
        leads,
        kept: None,
        into: None,
        said: Said::Nothing,
    };
    let mut pause = EVERY;
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => {}
        }
        if !*forwarder.leads.borrow() {
            // Who leads in between moves the watermark on.
            forwarder.kept = None;
            continue;
        }
        let looked = if shutdown.is_cancelled() {
            let Ok(looked) = tokio::time::timeout(LAST_LIMIT, forwarder.look()).await else {
                return;
            };
            looked
        } else {
            forwarder.look().await
        };
        pause = match looked {
            Ok(()) => EVERY,
            Err(error) => {
                if let Failure::Store(error) = &error {
                    count_error(&availability, error);
                }
                forwarder.failed(&error);
                (pause * 2).min(MAX_PAUSE)
            }
        };
    }
}

/// What was said last about the log, so that it is said once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    NoLog,
    Away,
}

struct EventForwarder {
    pool: PgPool,
    log: EventLog,
    leads: watch::Receiver<bool>,
    kept: Option<ForwarderPosition>,
    into: Option<machine_log::Socket>,
    said: Said,
}

impl EventForwarder {
    /// Tells all that is new.
    async fn look(&mut self) -> Result<(), Failure> {
        if self.into.is_none() {
            let Some(found) = self.log.find()? else {
                if self.said != Said::NoLog {
                    tracing::info!(
                        "this machine has neither journald nor syslog: events stand in the database only"
                    );
                    self.said = Said::NoLog;
                }
                return Ok(());
            };
            tracing::info!(log = %found, "events also go to the log of this machine");
            self.into = Some(found);
        }
        let Some(into) = &self.into else {
            return Ok(());
        };
        while *self.leads.borrow() {
            let kept = match self.kept.take() {
                Some(kept) => kept,
                None => ForwarderPosition::read(&self.pool).await?,
            };
            let Some(batch) = kept
                .watermark()
                .next(&self.pool, &Filter::default(), AT_ONCE)
                .await?
            else {
                // Of another server, or of the database before it was restored; what is kept knows.
                let kept = ForwarderPosition::read(&self.pool).await?;
                if kept
                    .watermark()
                    .next(&self.pool, &Filter::default(), AT_ONCE)
                    .await?
                    .is_none()
                {
                    tracing::info!(
                        "the database was restored: events are told from where they had been told to"
                    );
                    kept.restored(&self.pool).await?;
                }
                continue;
            };
            let mut told = 0;
            let mut sent = Ok(());
            for event in batch.events() {
                sent = into.send(event).await;
                if sent.is_err() {
                    break;
                }
                told += 1;
            }
            let watermark = kept.watermark().after(&batch, told);
            let next = match told {
                0 => Some(kept.at(watermark)),
                _ => match kept.replace(&self.pool, watermark.clone()).await {
                    Ok(next) => next,
                    Err(error) => {
                        // Perhaps it is not written down; but it is told.
                        self.kept = Some(kept.at(watermark));
                        return Err(error.into());
                    }
                },
            };
            if let Err(error) = sent {
                self.kept = next;
                return Err(error.into());
            }
            if told > 0 && self.said == Said::Away {
                tracing::info!(log = %into, "the log of this machine takes events again");
                self.said = Said::Nothing;
            }
            let Some(next) = next else {
                // Another scheduler tells them, and leads: this one will hear of that soon.
                return Ok(());
            };
            self.kept = Some(next);
            if batch.is_last() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn failed(&mut self, failure: &Failure) {
        match failure {
            Failure::Log(error) if self.said != Said::Away => {
                tracing::warn!(
                    log = %self.log, %error,
                    "the log of this machine does not take events: they wait, and are told when it does"
                );
                self.said = Said::Away;
            }
            // That the database is away is said where that is found.
            _ => {
                tracing::debug!(error = %failure, "events are not told to the log of this machine")
            }
        }
    }
}
