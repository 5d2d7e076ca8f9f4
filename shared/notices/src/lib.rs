//! Notices about runs, guests that could not be brought back, and the day: their content, and their way by mail and
//! webhook.

mod content;
mod deliver;
mod digest;
mod error;
mod mail;
mod render;
mod runs;
mod text;
mod tls;
mod webhook;

use std::{path::PathBuf, sync::Arc};

use secrecy::SecretString;
use sqlx::PgPool;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;
use virtuozo_model::{NoticeChannel, NoticeKind, NoticeState};
use virtuozo_postgres::{StoreError, count_error};
use virtuozo_queue::{JobListener, NoticeJob};
use virtuozo_runtime::LIMITS;
use virtuozo_secrets::{Key, SecretError};
use virtuozo_store::{
    notices::{
        self,
        config::{self, Secret},
    },
    settings, views,
};
use virtuozo_telemetry::Telemetry;

pub use crate::{
    content::{
        Content, Digest, GuestPart, HostPart, LeftBehind, Missed, Problem, RunPart, SpacePart,
        StalePart,
    },
    error::NoticeError,
    render::Rendered,
};

use crate::error::SendError;

/// Makes notices and sends them.
#[derive(Debug, Clone)]
pub struct Notices {
    pool: PgPool,
    telemetry: Telemetry,
    key_file: PathBuf,
    /// The owner of the leases on notices that this sender takes.
    id: Uuid,
}

impl Notices {
    /// One that opens the stored secrets with the key in `key_file`.
    pub fn new(pool: PgPool, telemetry: Telemetry, key_file: PathBuf) -> Self {
        Self {
            pool,
            telemetry,
            key_file,
            id: Uuid::now_v7(),
        }
    }

    /// Sends what is queued, until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        let sending = TaskTracker::new();
        let (tracker, this) = (sending.clone(), Arc::new(self));
        let (pool, id) = (this.pool.clone(), this.id);
        let availability = this.telemetry.health.availability.clone();
        let handler = move |job: NoticeJob| {
            let this = Arc::clone(&this);
            // Outside of its delivery, which the queue drops when the database is away. What is lost
            // with this process, another scheduler takes over when the lease has run out.
            tracker.spawn(async move {
                if let Err(error) = this.send(job.notice_id).await {
                    count_error(&this.telemetry.health.availability, &error);
                    tracing::debug!(%error, notice = %job.notice_id, "a notice was not taken");
                }
            });
            async { Ok(()) }
        };
        let listener = JobListener::start(pool.clone(), availability, stop.clone());
        let needs_no_host = virtuozo_queue::Capabilities::none();
        virtuozo_queue::serve(pool, listener, id, needs_no_host, handler, stop).await;
        sending.close();
        if tokio::time::timeout(LIMITS.notices.farewell, sending.wait())
            .await
            .is_err()
        {
            tracing::warn!("a notice was being sent; another scheduler sends it again");
        }
    }

    /// Sends a test by this channel now. None: it has arrived.
    pub async fn test(&self, channel: NoticeChannel) -> Result<Option<String>, StoreError> {
        let id = notices::test(&self.pool, channel).await?;
        match self.send(id).await? {
            Some(attempt) if attempt.state == NoticeState::Sent && attempt.error.is_none() => {
                Ok(None)
            }
            Some(attempt) => Ok(Some(attempt.error.unwrap_or_default())),
            None => Ok(Some("somebody else has taken the test".to_owned())),
        }
    }

    /// The content of a notice as it would be sent now: about a run, the newest run of that kind, or the last day.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such run.
    pub async fn preview(
        &self,
        kind: NoticeKind,
        run_id: Option<Uuid>,
    ) -> Result<Content, NoticeError> {
        match kind {
            NoticeKind::Digest => {
                let now = virtuozo_store::runs::database_now(&self.pool).await?;
                digest::content(&self.pool, now).await
            }
            NoticeKind::Test => Ok(Content::of_test()),
            NoticeKind::Failure | NoticeKind::Success | NoticeKind::Obligation => {
                let run_id = match run_id {
                    Some(id) => id,
                    None => self.newest(kind).await?,
                };
                runs::content(&self.pool, kind, &[run_id], None).await
            }
        }
    }

    async fn newest(&self, kind: NoticeKind) -> Result<Uuid, StoreError> {
        let state = match kind {
            NoticeKind::Success => "succeeded",
            _ => "failed",
        };
        views::runs(&self.pool, 1000)
            .await?
            .into_iter()
            .find(|run| run.state == state)
            .map(|run| run.id)
            .ok_or_else(|| StoreError::NotFound {
                what: "run that has",
                name: state.to_owned(),
            })
    }

    /// As mail, in the time zone of the digest.
    ///
    /// # Errors
    /// [`NoticeError`].
    pub async fn render(&self, content: &Content) -> Result<Rendered, NoticeError> {
        let zone = match config::get(&self.pool).await?.digest_time_zone {
            Some(zone) => zone,
            None => settings::get(&self.pool).await?.time_zone,
        };
        Ok(render::mail(content, &zone)?)
    }

    /// A stored secret; none: none is stored.
    async fn secret(&self, secret: Secret) -> Result<Option<SecretString>, SendError> {
        let Some(sealed) = config::sealed(&self.pool, secret).await? else {
            return Ok(None);
        };
        let opened = Key::load(&self.key_file).and_then(|key| key.open(secret.id(), &sealed));
        match opened {
            Ok(secret) => Ok(Some(secret)),
            Err(SecretError::WrongKey) => Err(SendError::transient(format!(
                "the stored {secret} cannot be opened with the key file {} of this machine: copy the \
                 key file of the others here, or give the {secret} again with `{}`",
                self.key_file.display(),
                secret.command()
            ))),
            Err(error) => Err(SendError::transient(format!("the {secret}: {error}"))),
        }
    }
}
