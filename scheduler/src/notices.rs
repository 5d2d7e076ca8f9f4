//! Notices: what happened is put into words and sent by mail and webhook.

mod content;
mod deliver;
mod digest;
mod mail;
mod render;
mod webhook;
mod words;

use std::{path::PathBuf, sync::Arc};

use minijinja::Error as TemplateError;
use secrecy::SecretString;
use sqlx::PgPool;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;
use virtuozo_model::{NoticeChannel, NoticeKind, NoticeState};
use virtuozo_postgres::{StoreError, count_error};
use virtuozo_queue::{JobListener, NoticeJob};
use virtuozo_runtime::Availability;
use virtuozo_secrets::{Key, SecretError};
use virtuozo_store::{
    notices::{
        self,
        config::{self, Secret},
    },
    runs, settings, views,
};

pub use content::{Content, GuestPart, HostPart, LeftBehind, RunPart};
pub use digest::{Digest, Missed, Problem, SpacePart, StalePart};
pub use render::Rendered;

/// A notice could not be put into words.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    /// The store refused, or does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A template does not fit what is told.
    #[error("a notice cannot be put into words: {0}")]
    Template(#[from] TemplateError),
}

/// Why a notice was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SendError {
    /// What happened, where, and what to do.
    message: String,
    /// Another attempt with the same notice would end in the same way.
    is_final: bool,
    /// The receiver wants to be left alone for so long.
    retry_after_secs: Option<u32>,
}

impl SendError {
    fn again(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            is_final: false,
            retry_after_secs: None,
        }
    }

    fn last(message: impl Into<String>) -> Self {
        Self {
            is_final: true,
            ..Self::again(message)
        }
    }
}

impl From<NoticeError> for SendError {
    fn from(error: NoticeError) -> Self {
        Self::again(error.to_string())
    }
}

impl From<StoreError> for SendError {
    fn from(error: StoreError) -> Self {
        Self::again(error.to_string())
    }
}

/// The one who puts notices into words and sends them.
#[derive(Debug, Clone)]
pub struct Notices {
    pool: PgPool,
    availability: Availability,
    key_file: PathBuf,
    /// Tells this sender from others.
    id: Uuid,
}

impl Notices {
    /// One that opens the stored secrets with the key in `key_file`.
    pub fn new(pool: PgPool, availability: Availability, key_file: PathBuf) -> Self {
        Self {
            pool,
            availability,
            key_file,
            id: Uuid::now_v7(),
        }
    }

    /// Sends what is queued, until `stop`.
    pub(crate) async fn serve(self, stop: CancellationToken) {
        let sending = TaskTracker::new();
        let (tracker, this) = (sending.clone(), Arc::new(self));
        let (pool, id) = (this.pool.clone(), this.id);
        let availability = this.availability.clone();
        let handler = move |job: NoticeJob| {
            let this = Arc::clone(&this);
            // Outside of its delivery, which the queue drops when the database is away. What is lost
            // with this process, another scheduler takes over when the lease has run out.
            tracker.spawn(async move {
                if let Err(error) = this.send(job.notice_id).await {
                    count_error(&this.availability, &error);
                    tracing::debug!(%error, notice = %job.notice_id, "a notice was not taken");
                }
            });
            async { Ok(()) }
        };
        let listener = JobListener::start(pool.clone(), availability, stop.clone());
        virtuozo_queue::serve(pool, listener, id, handler, stop).await;
        sending.close();
        if tokio::time::timeout(deliver::FAREWELL_LIMIT, sending.wait())
            .await
            .is_err()
        {
            tracing::warn!("a notice was being sent; another scheduler sends it again");
        }
    }

    /// Sends a test on this way now. None: it has arrived.
    ///
    /// # Errors
    /// What the database says.
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

    /// What would be told now about a run, about the newest run of that kind, or about the last day.
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
                let now = runs::database_now(&self.pool).await?;
                digest::content(&self.pool, now).await
            }
            NoticeKind::Test => Ok(content::of_test()),
            NoticeKind::Failure | NoticeKind::Success | NoticeKind::Obligation => {
                let run_id = match run_id {
                    Some(id) => id,
                    None => self.newest(kind).await?,
                };
                content::of_runs(&self.pool, kind, &[run_id], None).await
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
            Err(SecretError::WrongKey) => Err(SendError::again(format!(
                "the stored {secret} cannot be opened with the key file {} of this machine: copy the \
                 key file of the others here, or give the {secret} again with `{}`",
                self.key_file.display(),
                secret.command()
            ))),
            Err(error) => Err(SendError::again(format!("the {secret}: {error}"))),
        }
    }
}

/// Queues the digest when it is due; of several that were missed only the last.
///
/// # Errors
/// What the database says.
pub(crate) async fn tick(pool: &PgPool) -> Result<(), StoreError> {
    let how = config::get(pool).await?;
    if how.digest_time.is_none() {
        return Ok(());
    }
    let rhythm = config::digest_rhythm(&how, &settings::get(pool).await?)?;
    let now = runs::database_now(pool).await?;
    if let Some(due_at) = rhythm.and_then(|rhythm| rhythm.last_until(now))
        && due_at > how.digest_done_until
        && notices::digest(pool, due_at).await?
    {
        tracing::info!(%due_at, "digest queued");
    }
    Ok(())
}
