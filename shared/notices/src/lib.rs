//! Notices about runs, guests that could not be brought back, and the day: their content, and their way by mail and
//! webhook.

mod ca_files;
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
use virtuozo_model::{NoticeChannel, NoticeKind, NoticeSettings, NoticeState};
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
    ca_files::CaFiles,
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
    ca_files: CaFiles,
    /// The owner of the leases on notices that this sender takes.
    id: Uuid,
}

impl Notices {
    /// One that opens the stored secrets with the key in `key_file`, and trusts the issuers in one of `ca_files`.
    pub fn new(pool: PgPool, telemetry: Telemetry, key_file: PathBuf, ca_files: CaFiles) -> Self {
        Self {
            pool,
            telemetry,
            key_file,
            ca_files,
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

    /// The certificates, in PEM form, that are trusted besides the system's.
    async fn issuers(&self, how: &NoticeSettings) -> Result<Option<Vec<u8>>, SendError> {
        let Some(file) = how.ca_file.as_ref().map(PathBuf::from) else {
            return Ok(None);
        };
        let (files, key_file) = (self.ca_files.clone(), self.key_file.clone());
        let read = tokio::task::spawn_blocking(move || files.read(&file, &key_file));
        let read = read
            .await
            .map_err(|e| SendError::transient(e.to_string()))?;
        read.map(Some).map_err(SendError::transient)
    }

    /// A stored secret, which opens what these settings name; none: none is stored.
    async fn secret(
        &self,
        how: &NoticeSettings,
        secret: Secret,
    ) -> Result<Option<SecretString>, SendError> {
        let Some(sealed) = config::sealed(&self.pool, secret).await? else {
            return Ok(None);
        };
        let place = secret.place(how);
        let opened = Key::load(&self.key_file).and_then(|key| key.open(place.opens(), &sealed));
        match opened {
            Ok(secret) => Ok(Some(secret)),
            // Only a person can say whether it is for this server.
            Err(SecretError::WrongKey) => Err(SendError::permanent(format!(
                "the stored {secret} was given for another {}, or cannot be opened with the key file {} of this \
                 machine: look at `virtuozo notice settings get`, then give the {secret} again with `{}`, or copy the \
                 key file of the other machines here",
                secret.place_words(),
                self.key_file.display(),
                secret.command()
            ))),
            Err(error) => Err(SendError::transient(format!("the {secret}: {error}"))),
        }
    }
}
