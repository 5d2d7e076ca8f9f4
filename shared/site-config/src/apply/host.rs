//! Import of a host with its datastores and guests.

use std::collections::HashSet;

use secrecy::ExposeSecret;
use serde_json::Value;
use toml::Spanned;
use uuid::Uuid;
use virtuozo_model::{Datastore, Disk, Guest, Host};
use virtuozo_postgres::StoreError;
use virtuozo_store::{
    caps, datastores, disks,
    guests::{self, GuestConfig},
    hooks,
    hosts::{self, HostConfig},
    plain_directory,
};

use super::Import;
use crate::{DatastoreEntry, FieldChange, GuestEntry, HostEntry, SiteFileError, sealing};

impl<'a> Import<'a> {
    pub(super) async fn host(
        &mut self,
        entry: &'a Spanned<HostEntry>,
    ) -> Result<(), SiteFileError> {
        let wanted = entry.as_ref();
        let what = format!("host {}", wanted.name);
        let config = HostConfig {
            name: wanted.name.clone(),
            kind: wanted.kind.clone(),
            address: wanted.address.clone(),
            user_name: wanted.user.clone(),
            properties: wanted.properties.clone(),
            ignored: wanted.ignored,
            guest_threads: wanted.guest_threads,
        };
        self.rules
            .check_host(&config)
            .map_err(StoreError::Refused)
            .map_err(self.parsed.refuse(entry, &what))?;
        let now = match hosts::by_name(&mut *self.conn, &wanted.name).await {
            Err(StoreError::NotFound { .. }) => None,
            found => Some(found?),
        };
        let host = match now {
            Some(host) if HostConfig::from(host.clone()) == config => host,
            Some(host) => {
                hosts::update(&mut *self.conn, host.id, &config)
                    .await
                    .map_err(self.parsed.refuse(entry, &what))?;
                host
            }
            None => {
                let id = Uuid::now_v7();
                hosts::insert(&mut *self.conn, id, &config, None)
                    .await
                    .map_err(self.parsed.refuse(entry, &what))?;
                hosts::by_id(&mut *self.conn, id).await?
            }
        };
        self.password(entry, &host, &config).await?;
        let stores = datastores::list(&mut *self.conn, Some(host.id)).await?;
        let mut seen = HashSet::new();
        for store in &wanted.datastores {
            self.once(&mut seen, store, "datastore", &store.as_ref().name)?;
            let now = stores.iter().find(|now| now.name == store.as_ref().name);
            self.datastore(&host, store, now).await.map_err(|error| {
                self.parsed
                    .refuse(store, format!("datastore {}", store.as_ref().name))(
                    error
                )
            })?;
        }
        let guests = guests::list(&mut *self.conn, Some(host.id)).await?;
        let mut seen = HashSet::new();
        for guest in &wanted.guests {
            self.once(&mut seen, guest, "guest", &guest.as_ref().locator)?;
            let now = guests
                .iter()
                .find(|now| now.locator == guest.as_ref().locator);
            self.guest(&host, guest.as_ref(), now)
                .await
                .map_err(|error| {
                    self.parsed
                        .refuse(guest, format!("guest {}", guest.as_ref().locator))(
                        error
                    )
                })?;
        }
        Ok(())
    }

    async fn password(
        &mut self,
        entry: &Spanned<HostEntry>,
        host: &Host,
        config: &HostConfig,
    ) -> Result<(), SiteFileError> {
        let wanted = entry.as_ref();
        let what = format!("host {}", host.name);
        let refuse = |why: String| self.parsed.refuse(entry, &what)(StoreError::Refused(why));
        let (sealed, new) = match (&wanted.user, &wanted.password, self.keys) {
            (None, Some(_), _) => return Err(refuse("a password needs a user".to_owned())),
            (None, None, _) if host.has_password => (None, Value::Null),
            // That for another address or user went with the change of these.
            (_, None, _) | (_, _, None) => {
                let now = hosts::sealed_password(&mut *self.conn, host.id).await?;
                if now.is_some() || !host.has_password {
                    return Ok(());
                }
                (None, Value::Null)
            }
            (Some(_), Some(text), Some(keys)) => {
                let opens = config.password_opens(sealing::password_id(&wanted.name));
                let password = sealing::open(keys.file, opens, text)
                    .map_err(|_| {
                    refuse("its password was sealed for another address or user, or is damaged: export it again, or take it out".to_owned())
                })?;
                let now = hosts::sealed_password(&mut *self.conn, host.id).await?;
                let same = now
                    .and_then(|sealed| keys.site.open(config.password_opens(host.id), &sealed).ok())
                    .is_some_and(|now| now.expose_secret() == password.expose_secret());
                if same {
                    return Ok(());
                }
                let new = if host.has_password {
                    "changed"
                } else {
                    "stored"
                };
                (
                    Some(keys.site.seal(config.password_opens(host.id), &password)?),
                    new.into(),
                )
            }
        };
        hosts::set_password(&mut *self.conn, host.id, sealed.as_deref()).await?;
        let old = if host.has_password {
            "stored".into()
        } else {
            Value::Null
        };
        let field = "password".to_owned();
        self.secrets
            .entry(what)
            .or_default()
            .push(FieldChange { field, old, new });
        Ok(())
    }

    async fn datastore(
        &mut self,
        host: &Host,
        entry: &Spanned<DatastoreEntry>,
        now: Option<&Datastore>,
    ) -> Result<(), StoreError> {
        let wanted = entry.as_ref();
        let mapped = now.and_then(|now| now.local_path.as_ref());
        match &wanted.local_path {
            Some(path) if mapped != Some(path) => {
                datastores::map(&mut *self.conn, host.id, &wanted.name, path).await?;
            }
            None if mapped.is_some() => {
                datastores::unmap(&mut *self.conn, host.id, &wanted.name).await?;
            }
            _ => {}
        }
        let cap = now.and_then(|now| now.guest_threads);
        if cap != wanted.guest_threads || (cap.is_some() && wanted.local_path.is_none()) {
            datastores::expect(&mut *self.conn, host.id, &wanted.name).await?;
            let cap = wanted.guest_threads;
            caps::set_datastore(&mut *self.conn, host.id, &wanted.name, cap).await?;
        }
        Ok(())
    }

    async fn guest(
        &mut self,
        host: &Host,
        wanted: &GuestEntry,
        now: Option<&Guest>,
    ) -> Result<(), StoreError> {
        let config = GuestConfig {
            ignored: wanted.ignored,
            destination: wanted.destination.as_deref().map(plain_directory),
            mode: wanted.mode,
            resume_power_state: wanted.resume_power_state,
            backup_when_off: wanted.backup_when_off,
            keep_last: wanted.keep_last,
            rpo_secs: wanted.rpo_secs,
        };
        let id = match now {
            Some(now) => now.id,
            None => {
                let name = wanted.name.as_deref();
                let name = name.unwrap_or_else(|| guests::name_of(&wanted.locator));
                let locator = &wanted.locator;
                self.rules
                    .check_locator(&host.kind, locator)
                    .map_err(StoreError::Refused)?;
                guests::insert_as(&mut *self.conn, host, locator, name, wanted.configured).await?
            }
        };
        if now.is_some_and(|now| wanted.configured && !now.configured) {
            guests::configure(&mut *self.conn, id).await?;
        }
        let now = guests::by_id(&mut *self.conn, id).await?;
        if GuestConfig::from(&now) != config {
            guests::update(&mut *self.conn, id, &config).await?;
        }
        for hook in &now.hooks {
            if !wanted.hooks.iter().any(|h| h.moment == hook.moment) {
                hooks::clear(&mut *self.conn, Some(id), hook.moment).await?;
            }
        }
        for (at, hook) in wanted.hooks.iter().enumerate() {
            let before = wanted.hooks.get(..at).unwrap_or_default();
            if before.iter().any(|h| h.moment == hook.moment) {
                let why = format!("the file names its hook {} twice", hook.moment);
                return Err(StoreError::Refused(why));
            }
            if !now.hooks.contains(hook) {
                hooks::set(&mut *self.conn, Some(id), hook).await?;
            }
        }
        let ignored: Vec<Disk> = disks::list(&mut *self.conn, Some(id))
            .await?
            .into_iter()
            .filter(|disk| disk.ignored)
            .collect();
        for device in &wanted.ignored_disks {
            if !ignored.iter().any(|disk| disk.device == *device) {
                disks::leave_out(&mut *self.conn, id, device).await?;
            }
        }
        for disk in ignored {
            if !wanted.ignored_disks.contains(&disk.device) {
                disks::set_ignored(&mut *self.conn, id, &disk.device, false).await?;
            }
        }
        Ok(())
    }
}
