//! Import of the settings and secrets of notices.

use secrecy::ExposeSecret;
use serde_json::Value;
use virtuozo_postgres::StoreError;
use virtuozo_store::{
    notices::config::{self, Secret},
    settings,
};

use super::Import;
use crate::{FieldChange, SiteFileError, notices::field, sealing};

impl Import<'_> {
    /// Sets all changed settings together, since some are valid only with others.
    pub(super) async fn notices(&mut self) -> Result<(), SiteFileError> {
        let now = config::get(&mut *self.conn).await?;
        let mut changes = Vec::new();
        // An error about several settings names this line.
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
        let new = sealing::open(keys.file, secret.id(), wanted.as_ref()).map_err(|_| {
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
