//! Import: changes the site as a file says, in one transaction, by the functions that the commands use too.

mod host;
mod notices;
mod prune;

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::{PgConnection, PgPool};
use toml::Spanned;
use virtuozo_model::Hook;
use virtuozo_postgres::StoreError;
use virtuozo_secrets::Key;
use virtuozo_store::{
    caps, guests, hooks,
    hosts::{self, Rules},
    plain_directory,
    schedules::{self, ScheduleConfig},
    settings,
};

use super::{FieldChange, Outcome, Parsed, ScheduleEntry, SiteFile, SiteFileError, diff, read};

/// The keys for the passwords of a file.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    /// The key made from the file's passphrase; it decrypts them.
    pub file: &'a Key,
    /// The site's own key; it encrypts them for the database.
    pub site: &'a Key,
}

/// The options of an import.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Remove the entries that the file does not name, except guests with restore points.
    pub prune: bool,
    /// Change nothing; only return what would change.
    pub dry_run: bool,
}

/// Changes the site as the file says: everything, or nothing if anything is refused by the rules of the store or of the
/// back ends. Without keys, passwords stay as they are.
///
/// # Errors
/// An entry is refused ([`SiteFileError::Refused`] has its line), a password cannot be decrypted, or a statement fails.
/// Nothing was changed then.
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

/// An import in progress.
pub(super) struct Import<'a> {
    pub(super) conn: &'a mut PgConnection,
    pub(super) parsed: &'a Parsed,
    pub(super) keys: Option<Keys<'a>>,
    /// The rules of the back ends.
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
        // Last, because the settings of notices stay locked until the end of the transaction.
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

    /// The hooks of the site, without those of guests.
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
}
