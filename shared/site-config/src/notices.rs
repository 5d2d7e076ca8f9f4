//! The secrets of notices in a file.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use toml::Spanned;

use virtuozo_store::notices::config::{self, Secret};

use super::{SiteFile, SiteFileError, sealing::Sealing};

/// The secrets of notices, encrypted like passwords of hosts, in hexadecimal digits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeSecrets {
    /// The password for the mail server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail_password: Option<Spanned<String>>,
    /// The key that signs requests to the webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<Spanned<String>>,
}

impl NoticeSecrets {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The encrypted text of a secret, if it is given.
    pub(super) fn of(&self, secret: Secret) -> Option<&Spanned<String>> {
        match secret {
            Secret::MailPassword => self.mail_password.as_ref(),
            Secret::WebhookSecret => self.webhook_secret.as_ref(),
        }
    }

    fn set(&mut self, secret: Secret, sealed: String) {
        let place = match secret {
            Secret::MailPassword => &mut self.mail_password,
            Secret::WebhookSecret => &mut self.webhook_secret,
        };
        *place = Some(placed(sealed));
    }
}

/// The name of a secret's field in the file.
pub(super) fn field(secret: Secret) -> &'static str {
    match secret {
        Secret::MailPassword => "mail_password",
        Secret::WebhookSecret => "webhook_secret",
    }
}

/// Adds the stored secrets, encrypted, to a file.
pub(super) async fn export_secrets(
    conn: &mut PgConnection,
    sealing: &Sealing,
    site: &virtuozo_secrets::Key,
    file: &mut SiteFile,
) -> Result<(), SiteFileError> {
    let settings = config::get(&mut *conn).await?;
    for secret in Secret::ALL {
        let Some(sealed) = config::sealed(&mut *conn, secret).await? else {
            continue;
        };
        let place = secret.place(&settings);
        let opened = site
            .open(place.opens(), &sealed)
            .map_err(|_| SiteFileError::SealedSecret { secret })?;
        let text = sealing.seal(place.opens(), &opened)?;
        file.notice_secrets.set(secret, text);
    }
    Ok(())
}

/// An entry without a place in a text.
pub(super) fn placed<T>(entry: T) -> Spanned<T> {
    Spanned::new(0..0, entry)
}
