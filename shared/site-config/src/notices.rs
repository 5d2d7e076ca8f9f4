//! How the site is told, in the file: settings by name, and the two secrets.

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use toml::Spanned;

use super::{FieldChange, SiteFile, SiteFileError, apply::Import, read};
use virtuozo_postgres::StoreError;
use virtuozo_store::{
    notices::config::{self, Secret},
    settings,
};

/// The secrets of notices, encrypted like passwords of hosts, in hexadecimal digits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeSecrets {
    /// The password for the mail server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail_password: Option<Spanned<String>>,
    /// What requests to the web address are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<Spanned<String>>,
}

impl NoticeSecrets {
    /// None is given.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// One of them.
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
        *place = Some(read::placed(sealed));
    }
}

/// The name of a secret in the file.
fn field(secret: Secret) -> &'static str {
    match secret {
        Secret::MailPassword => "mail_password",
        Secret::WebhookSecret => "webhook_secret",
    }
}

/// Enters the secrets that are stored.
pub(super) async fn export_secrets(
    conn: &mut PgConnection,
    sealing: &read::Sealing,
    site: &virtuozo_secrets::Key,
    file: &mut SiteFile,
) -> Result<(), SiteFileError> {
    for secret in Secret::ALL {
        let Some(sealed) = config::sealed(&mut *conn, secret).await? else {
            continue;
        };
        let opened = site
            .open(secret.id(), &sealed)
            .map_err(|_| SiteFileError::SealedSecret { secret })?;
        let text = sealing.seal(secret.id(), &opened)?;
        file.notice_secrets.set(secret, text);
    }
    Ok(())
}

impl Import<'_> {
    /// All at once, because some fit together only with others.
    pub(super) async fn notices(&mut self) -> Result<(), SiteFileError> {
        let now = config::get(&mut *self.conn).await?;
        let mut changes = Vec::new();
        // What does not fit together is told of this one.
        let mut place = self.parsed.file.notices.get("mail_security");
        for (name, value) in &self.parsed.file.notices {
            let text = value.as_ref().to_string();
            let refuse = || self.parsed.refuse(value, "notices");
            let key = settings::key(config::KEYS, name).map_err(refuse())?;
            if text != key.value(&now) {
                config::check_one(&now, name, &text).map_err(refuse())?;
                changes.push((name.as_str(), text));
                place.get_or_insert(value);
            }
        }
        if let Some(place) = place
            && !changes.is_empty()
        {
            let changes: Vec<_> = changes
                .iter()
                .map(|(name, text)| (*name, &**text))
                .collect();
            config::set(&mut *self.conn, &changes)
                .await
                .map_err(self.parsed.refuse(place, "notices"))?;
        }
        for secret in Secret::ALL {
            self.notice_secret(secret).await?;
        }
        Ok(())
    }

    async fn notice_secret(&mut self, secret: Secret) -> Result<(), SiteFileError> {
        let wanted = self.parsed.file.notice_secrets.of(secret);
        let (Some(wanted), Some(keys)) = (wanted, self.keys) else {
            return Ok(());
        };
        let new = read::open(keys.file, secret.id(), wanted.as_ref()).map_err(|_| {
            let why = "it is damaged: export it again, or take it out".to_owned();
            self.parsed.refuse(wanted, field(secret))(StoreError::Refused(why))
        })?;
        let now = config::sealed(&mut *self.conn, secret).await?;
        let opened = now
            .as_ref()
            .and_then(|sealed| keys.site.open(secret.id(), sealed).ok());
        if opened.is_some_and(|now| now.expose_secret() == new.expose_secret()) {
            return Ok(());
        }
        let sealed = keys.site.seal(secret.id(), &new)?;
        config::set_sealed(&mut *self.conn, secret, Some(&sealed)).await?;
        let change = FieldChange {
            field: field(secret).to_owned(),
            old: now.as_ref().map_or(Value::Null, |_| "stored".into()),
            new: now.as_ref().map_or("stored", |_| "changed").into(),
        };
        self.secrets
            .entry("notices".to_owned())
            .or_default()
            .push(change);
        Ok(())
    }
}
