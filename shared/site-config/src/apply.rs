//! From the file to the database, in one transaction, through the functions that the commands use too.

use std::collections::{BTreeMap, HashMap, HashSet};

use secrecy::ExposeSecret;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use toml::Spanned;
use uuid::Uuid;

use super::{
    DatastoreEntry, FieldChange, GuestEntry, HostEntry, Outcome, Parsed, ScheduleEntry, SiteFile,
    SiteFileError, diff, read,
};
use virtuozo_model::{Datastore, Disk, Guest, Hook, Host};
use virtuozo_postgres::StoreError;
use virtuozo_secrets::Key;
use virtuozo_store::{
    caps, datastores, disks,
    guests::{self, GuestConfig, WithPoints},
    hooks,
    hosts::{self, HostConfig, Rules},
    plain_directory,
    schedules::{self, ScheduleConfig},
    settings,
};

/// What opens the passwords of a file, and what seals them here.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    /// The key of the file's passphrase.
    pub file: &'a Key,
    /// The site's own.
    pub site: &'a Key,
}

/// How a file is imported.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Remove what the file does not name, but for guests with restore points.
    pub prune: bool,
    /// Change nothing; only tell what would change.
    pub dry_run: bool,
}

/// Makes the site as the file says, all or nothing, as far as back ends permit. Without keys, passwords stay as they
/// are.
///
/// # Errors
/// [`SiteFileError::Refused`] names the line of what is not permitted; nothing was changed then.
pub async fn import(
    pool: &PgPool,
    parsed: &Parsed,
    keys: Option<Keys<'_>>,
    rules: &dyn Rules,
    options: Options,
) -> Result<Outcome, SiteFileError> {
    let mut tx = pool.begin().await.map_err(StoreError::from)?;
    settings::lock(&mut *tx).await?;
    let before = read::current(&mut tx).await?;
    let mut import = Import {
        conn: &mut tx,
        parsed,
        keys,
        rules,
        secrets: BTreeMap::new(),
    };
    import.all().await?;
    if options.prune {
        import.prune().await?;
    }
    let secrets = import.secrets;
    let after = read::current(&mut tx).await?;
    let outcome = diff::outcome(&before, &after, &parsed.file, &secrets).map_err(|error| {
        SiteFileError::Text {
            line: 1,
            reason: error.to_string(),
        }
    })?;
    if options.dry_run {
        tx.rollback().await.map_err(StoreError::from)?;
    } else {
        tx.commit().await.map_err(StoreError::from)?;
    }
    Ok(outcome)
}

pub(super) struct Import<'a> {
    pub(super) conn: &'a mut PgConnection,
    pub(super) parsed: &'a Parsed,
    pub(super) keys: Option<Keys<'a>>,
    /// What back ends permit.
    rules: &'a dyn Rules,
    /// Passwords and secrets that changed, by the name of their entry.
    pub(super) secrets: BTreeMap<String, Vec<FieldChange>>,
}

impl<'a> Import<'a> {
    fn file(&self) -> &'a SiteFile {
        &self.parsed.file
    }

    async fn all(&mut self) -> Result<(), SiteFileError> {
        self.settings().await?;
        self.hooks().await?;
        self.repositories().await?;
        let mut seen = HashSet::new();
        for entry in &self.file().hosts {
            self.once(&mut seen, entry, "host", &entry.as_ref().name)?;
            self.host(entry).await?;
        }
        let mut seen = HashSet::new();
        for entry in &self.file().schedules {
            self.once(&mut seen, entry, "schedule", &entry.as_ref().name)?;
            self.schedule(entry).await?;
        }
        // Last: whoever sends a notice waits for it from here on.
        self.notices().await
    }

    /// Refuses a second entry of the same name.
    fn once<'n, T>(
        &self,
        seen: &mut HashSet<&'n str>,
        at: &Spanned<T>,
        what: &'static str,
        name: &'n str,
    ) -> Result<(), SiteFileError> {
        if seen.insert(name) {
            return Ok(());
        }
        let twice = StoreError::Refused("the file names it twice".to_owned());
        Err(self.parsed.refuse(at, format!("{what} {name}"))(twice))
    }

    async fn settings(&mut self) -> Result<(), SiteFileError> {
        let now = settings::get(&mut *self.conn).await?;
        for (name, value) in &self.file().settings {
            let refuse = || self.parsed.refuse(value, "settings");
            let key = settings::key(settings::KEYS, name).map_err(refuse())?;
            let text = value.as_ref().to_string();
            if text != key.value(&now) {
                settings::set(&mut *self.conn, &[(name, &text)])
                    .await
                    .map_err(self.parsed.refuse(value, "settings"))?;
            }
        }
        Ok(())
    }

    /// The hooks of the site as they stand.
    async fn site_hooks(&mut self) -> Result<Vec<Hook>, StoreError> {
        let all = hooks::list(&mut *self.conn).await?.into_iter();
        Ok(all
            .filter(|line| line.guest_id.is_none())
            .map(|line| line.hook)
            .collect())
    }

    async fn hooks(&mut self) -> Result<(), SiteFileError> {
        let now = self.site_hooks().await?;
        let mut seen = HashSet::new();
        for entry in &self.file().hooks {
            let wanted = entry.as_ref();
            self.once(&mut seen, entry, "hook", wanted.moment.as_str())?;
            if !now.contains(wanted) {
                hooks::set(&mut *self.conn, None, wanted)
                    .await
                    .map_err(self.parsed.refuse(entry, format!("hook {}", wanted.moment)))?;
            }
        }
        Ok(())
    }

    async fn repositories(&mut self) -> Result<(), SiteFileError> {
        let now: HashMap<String, Option<i32>> = caps::repositories(&mut *self.conn)
            .await?
            .into_iter()
            .map(|repository| (repository.path, repository.guest_threads))
            .collect();
        let mut seen = HashSet::new();
        for entry in &self.file().repositories {
            let wanted = entry.as_ref();
            self.once(&mut seen, entry, "repository", &wanted.path)?;
            let cap = Some(wanted.guest_threads);
            if now.get(&plain_directory(&wanted.path)) != Some(&cap) {
                caps::set_repository(&mut *self.conn, &wanted.path, cap)
                    .await
                    .map_err(
                        self.parsed
                            .refuse(entry, format!("repository {}", wanted.path)),
                    )?;
            }
        }
        Ok(())
    }

    async fn host(&mut self, entry: &'a Spanned<HostEntry>) -> Result<(), SiteFileError> {
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
        self.password(entry, &host).await?;
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
    ) -> Result<(), SiteFileError> {
        let wanted = entry.as_ref();
        let what = format!("host {}", host.name);
        let refuse = |why: String| self.parsed.refuse(entry, &what)(StoreError::Refused(why));
        let (sealed, new) = match (&wanted.user, &wanted.password, self.keys) {
            (None, Some(_), _) => return Err(refuse("a password needs a user".to_owned())),
            (None, None, _) if host.has_password => (None, Value::Null),
            (_, None, _) | (_, _, None) => return Ok(()),
            (Some(_), Some(text), Some(keys)) => {
                let password =
                    read::open(keys.file, read::whose(&wanted.name), text).map_err(|_| {
                        refuse(
                            "its password is damaged: export it again, or take it out".to_owned(),
                        )
                    })?;
                let now = hosts::sealed_password(&mut *self.conn, host.id).await?;
                let same = now
                    .and_then(|sealed| keys.site.open(host.id, &sealed).ok())
                    .is_some_and(|now| now.expose_secret() == password.expose_secret());
                if same {
                    return Ok(());
                }
                let new = if host.has_password {
                    "changed"
                } else {
                    "stored"
                };
                (Some(keys.site.seal(host.id, &password)?), new.into())
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

    async fn schedule(&mut self, entry: &Spanned<ScheduleEntry>) -> Result<(), SiteFileError> {
        let wanted = entry.as_ref();
        let what = format!("schedule {}", wanted.name);
        let refused = |error| self.parsed.refuse(entry, &what)(error);
        let mut config = ScheduleConfig {
            name: wanted.name.clone(),
            cron: wanted.cron.clone(),
            time_zone: wanted.time_zone.clone(),
            enabled: wanted.enabled,
            host_ids: Vec::new(),
            guest_ids: Vec::new(),
        };
        for name in &wanted.hosts {
            let host = hosts::by_name(&mut *self.conn, name)
                .await
                .map_err(refused)?;
            config.host_ids.push(host.id);
        }
        for name in &wanted.guests {
            let (host, guest) = name.split_once('/').ok_or_else(|| {
                refused(StoreError::Refused(format!(
                    "{name:?} is not a guest: write it as HOST/GUEST"
                )))
            })?;
            let host = hosts::by_name(&mut *self.conn, host)
                .await
                .map_err(refused)?;
            let guest = guests::on_host(&mut *self.conn, host.id, guest)
                .await
                .map_err(refused)?;
            config.guest_ids.push(guest.id);
        }
        for ids in [&mut config.host_ids, &mut config.guest_ids] {
            ids.sort();
            ids.dedup();
        }
        match schedules::by_name(&mut *self.conn, &wanted.name).await {
            Err(StoreError::NotFound { .. }) => {
                schedules::insert(&mut *self.conn, &config)
                    .await
                    .map_err(refused)?;
            }
            found => {
                let now = found?;
                let id = now.id;
                if ScheduleConfig::from(now) != config {
                    schedules::update(&mut *self.conn, id, &config)
                        .await
                        .map_err(refused)?;
                }
            }
        }
        Ok(())
    }

    /// Removes what the file does not name: schedules first, because they may be all that needs the rest. Guests
    /// with restore points stay, and their hosts as they are: a file that was written before they were found does
    /// not know of them, and a restore point without its guest is kept for ever.
    async fn prune(&mut self) -> Result<(), SiteFileError> {
        let file = self.file();
        let kept = guests::with_points(&mut *self.conn).await?;
        for schedule in schedules::list(&mut *self.conn).await? {
            if !file
                .schedules
                .iter()
                .any(|s| s.as_ref().name == schedule.name)
            {
                schedules::remove(&mut *self.conn, schedule.id).await?;
            }
        }
        for hook in self.site_hooks().await? {
            if !file.hooks.iter().any(|h| h.as_ref().moment == hook.moment) {
                hooks::clear(&mut *self.conn, None, hook.moment).await?;
            }
        }
        for repository in caps::repositories(&mut *self.conn).await? {
            let named = file
                .repositories
                .iter()
                .any(|r| plain_directory(&r.as_ref().path) == repository.path);
            if !named && repository.guest_threads.is_some() {
                caps::set_repository(&mut *self.conn, &repository.path, None).await?;
            }
        }
        for host in hosts::list(&mut *self.conn).await? {
            match file.hosts.iter().find(|h| h.as_ref().name == host.name) {
                Some(entry) => self.prune_host(&host, entry.as_ref(), &kept).await?,
                None if kept.iter().any(|guest| guest.host_id == host.id) => {}
                None => hosts::remove(&mut *self.conn, &host).await?,
            }
        }
        Ok(())
    }

    async fn prune_host(
        &mut self,
        host: &Host,
        entry: &HostEntry,
        kept: &[WithPoints],
    ) -> Result<(), SiteFileError> {
        for guest in guests::list(&mut *self.conn, Some(host.id)).await? {
            let mut named = entry.guests.iter().map(|g| &g.as_ref().locator);
            if !named.any(|path| *path == guest.locator)
                && !kept.iter().any(|kept| kept.guest_id == guest.id)
            {
                guests::remove(&mut *self.conn, &guest).await?;
            }
        }
        for store in datastores::list(&mut *self.conn, Some(host.id)).await? {
            if entry
                .datastores
                .iter()
                .any(|s| s.as_ref().name == store.name)
            {
                continue;
            }
            if store.guest_threads.is_some() {
                caps::set_datastore(&mut *self.conn, host.id, &store.name, None).await?;
            }
            if store.local_path.is_some() {
                datastores::unmap(&mut *self.conn, host.id, &store.name).await?;
            }
        }
        Ok(())
    }
}
