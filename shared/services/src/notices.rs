//! Notices: what is told by mail and webhook, and how.

use secrecy::SecretString;
use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_model::{Notice, NoticeChannel, NoticeKind, NoticeSettings};
use virtuozo_secrets::Key as SealingKey;
use virtuozo_store::{
    notices::{self, config},
    settings::{self, Key},
    views,
};

pub use virtuozo_store::notices::config::{Changed, KEYS, Secret};

use crate::{
    error::{ServiceError, refused},
    names::find_id,
};

/// The setting of a name.
///
/// # Errors
/// [`virtuozo_postgres::StoreError::Refused`] with the names that there are.
pub fn key(name: &str) -> Result<&'static Key<NoticeSettings>, ServiceError> {
    Ok(settings::key(KEYS, name)?)
}

/// All settings of notices.
pub async fn get(pool: &PgPool) -> Result<NoticeSettings, ServiceError> {
    Ok(config::get(pool).await?)
}

/// Changes a setting; it applies at once, everywhere. A secret that is for another server or user then is removed.
///
/// # Errors
/// [`virtuozo_postgres::StoreError::Refused`] for a value that cannot be.
pub async fn set(
    pool: &PgPool,
    key: &Key<NoticeSettings>,
    value: &str,
) -> Result<Changed, ServiceError> {
    Ok(config::set(pool, &[(key.name, value)]).await?)
}

/// Stores the password for the mail server or the secret of the webhook, for the server and the user that are set.
///
/// # Errors
/// [`ServiceError::Refused`] if they are not.
pub async fn set_secret(
    pool: &PgPool,
    secret: Secret,
    key: &SealingKey,
    text: &SecretString,
) -> Result<(), ServiceError> {
    let mut tx = pool.begin().await?;
    let settings = config::locked(&mut tx).await?;
    let place = secret.place(&settings);
    let is_complete = match secret {
        Secret::MailPassword => place.address.is_some() && place.user.is_some(),
        Secret::WebhookSecret => place.address.is_some(),
    };
    if !is_complete {
        return Err(refused(match secret {
            Secret::MailPassword => {
                "the mail password is for one server and user: set mail_host and mail_user first, with `virtuozo notice \
                 settings set`"
            }
            Secret::WebhookSecret => {
                "the webhook secret is for one address: set webhook_url first, with `virtuozo notice settings set`"
            }
        }));
    }
    let sealed = key.seal(place.opens(), text)?;
    config::set_sealed(&mut *tx, secret, Some(&sealed)).await?;
    Ok(tx.commit().await?)
}

/// Forgets it.
pub async fn forget_secret(pool: &PgPool, secret: Secret) -> Result<(), ServiceError> {
    Ok(config::set_sealed(pool, secret, None).await?)
}

/// The run that a preview is about; none: the newest one that ended so.
///
/// # Errors
/// [`ServiceError::Refused`] for a digest, which is about a day, or if there is no such run.
pub async fn previewed_run(
    pool: &PgPool,
    kind: NoticeKind,
    run: Option<&str>,
) -> Result<Option<Uuid>, ServiceError> {
    match run {
        None => Ok(None),
        Some(_) if kind == NoticeKind::Digest => {
            Err(refused("a digest is about a day, not about a run"))
        }
        Some("latest") => Ok(views::run_ids(pool).await?.first().copied()),
        Some(text) => find_id(text, "run", views::run_ids(pool).await?).map(Some),
    }
}

/// The ways of telling that a test is sent by: all that are configured, or only one.
///
/// # Errors
/// [`ServiceError::Refused`] if that is none.
pub async fn channels_to_test(
    pool: &PgPool,
    only: Option<NoticeChannel>,
) -> Result<Vec<NoticeChannel>, ServiceError> {
    let mut channels = notices::channels(pool).await?;
    channels.retain(|channel| only.is_none_or(|only| only == *channel));
    if channels.is_empty() {
        return Err(refused(
            "nothing is configured: mail needs mail_host, mail_from and mail_to, the webhook \
             webhook_url; see `virtuozo notice settings get`",
        ));
    }
    Ok(channels)
}

/// The newest notices: all, or those that did not get through to everybody.
pub async fn list(
    pool: &PgPool,
    only_failed: bool,
    limit: u32,
) -> Result<Vec<Notice>, ServiceError> {
    Ok(notices::list(pool, only_failed, limit).await?)
}

/// Sends what failed in the last week, and what waits after a failure, again now. Returns how many.
pub async fn retry(pool: &PgPool) -> Result<usize, ServiceError> {
    Ok(notices::retry(pool).await?)
}
