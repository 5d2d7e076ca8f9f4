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
            let had_one = secret.is_stored(&now);
            if let Some(new) = self.notice_secret(secret, had_one).await? {
                self.told(secret, had_one, new);
            }
        }
        Ok(())
    }

    /// Stores a secret of the file, for what it opens. Returns what became of it; none: it is as it was.
    async fn notice_secret(
        &mut self,
        secret: Secret,
        had_one: bool,
    ) -> Result<Option<Value>, SiteFileError> {
        let settings = config::locked(&mut *self.conn).await?;
        let now = config::sealed(&mut *self.conn, secret).await?;
        let wanted = self.parsed.file.notice_secrets.of(secret);
        let (Some(wanted), Some(keys)) = (wanted, self.keys) else {
            // That for another server or user went with the change of these.
            return Ok((had_one && now.is_none()).then_some(Value::Null));
        };
        let place = secret.place(&settings);
        let new = sealing::open(keys.file, place.opens(), wanted.as_ref()).map_err(|_| {
            let why = "it was sealed for another server or user, or is damaged: export it again, or take it out";
            self.parsed.refuse(wanted, field(secret))(StoreError::Refused(why.to_owned()))
        })?;
        let opened = now.and_then(|sealed| keys.site.open(place.opens(), &sealed).ok());
        if opened.is_some_and(|now| now.expose_secret() == new.expose_secret()) {
            return Ok(None);
        }
        let sealed = keys.site.seal(place.opens(), &new)?;
        config::set_sealed(&mut *self.conn, secret, Some(&sealed)).await?;
        Ok(Some(if had_one { "changed" } else { "stored" }.into()))
    }

    fn told(&mut self, secret: Secret, had_one: bool, new: Value) {
        let change = FieldChange {
            field: field(secret).to_owned(),
            old: if had_one {
                "stored".into()
            } else {
                Value::Null
            },
            new,
        };
        self.secrets
            .entry("notices".to_owned())
            .or_default()
            .push(change);
    }
}
