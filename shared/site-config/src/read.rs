//! Export: reads the configuration of the site from the database.

use std::collections::{BTreeMap, HashMap};

use sqlx::{PgConnection, PgPool};
use toml::Spanned;
use uuid::Uuid;

use virtuozo_model::{Disk, Guest, Host, Schedule};
use virtuozo_postgres::StoreError;
use virtuozo_secrets::Key;
use virtuozo_store::{
    caps, datastores, disks, guests, hooks,
    hosts::{self, HostConfig},
    notices::config,
    schedules,
    settings::{self, Key as Setting},
};

use super::{
    DatastoreEntry, End, FORMAT_VERSION, GuestEntry, HostEntry, NoticeSecrets, RepositoryEntry,
    Scalar, ScheduleEntry, SiteFile, SiteFileError,
    notices::{self, placed},
    sealing::{Sealing, password_id},
};

/// Reads the configuration of the site; with passwords and secrets, if the site's key and an encryption are given.
///
/// # Errors
/// The database refuses a query, or the key does not decrypt a stored password ([`SiteFileError::Sealed`]) or secret
/// ([`SiteFileError::SealedSecret`]).
pub async fn export(
    pool: &PgPool,
    passwords: Option<(&Key, &Sealing)>,
) -> Result<SiteFile, SiteFileError> {
    // One snapshot of the database for all queries.
    let mut tx = pool
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .await
        .map_err(StoreError::from)?;
    let mut file = current(&mut tx).await?;
    if let Some((key, sealing)) = passwords {
        for host in &mut file.hosts {
            let host = host.as_mut();
            let row = hosts::by_name(&mut *tx, &host.name).await?;
            let id = row.id;
            let config = HostConfig::from(row);
            let Some(sealed) = hosts::sealed_password(&mut *tx, id).await? else {
                continue;
            };
            let named = |reason| SiteFileError::Sealed {
                host: host.name.clone(),
                reason,
            };
            let password = key
                .open(config.password_opens(id), &sealed)
                .map_err(named)?;
            let opens = config.password_opens(password_id(&host.name));
            host.password = Some(sealing.seal(opens, &password)?);
        }
        notices::export_secrets(&mut tx, sealing, key, &mut file).await?;
        if !file.notice_secrets.is_empty()
            || file.hosts.iter().any(|h| h.as_ref().password.is_some())
        {
            file.passwords = Some(sealing.lock.clone());
        }
    }
    Ok(file)
}

/// Reads the configuration of the site without passwords.
pub(super) async fn current(conn: &mut PgConnection) -> Result<SiteFile, StoreError> {
    let settings = settings::get(&mut *conn).await?;
    let notice_settings = config::get(&mut *conn).await?;
    let mut of_host: HashMap<Uuid, HostEntry> = HashMap::new();
    for host in hosts::list(&mut *conn).await? {
        of_host.insert(host.id, host_entry(host));
    }
    for store in datastores::list(&mut *conn, None).await? {
        if store.local_path.is_none() && store.guest_threads.is_none() {
            continue;
        }
        if let Some(host) = of_host.get_mut(&store.host_id) {
            host.datastores.push(placed(DatastoreEntry {
                name: store.name,
                local_path: store.local_path,
                guest_threads: store.guest_threads,
            }));
        }
    }
    let mut disks_of: HashMap<Uuid, Vec<Disk>> = HashMap::new();
    for disk in disks::list(&mut *conn, None).await? {
        disks_of.entry(disk.guest_id).or_default().push(disk);
    }
    let mut guest_names = HashMap::new();
    for guest in guests::list(&mut *conn, None).await? {
        guest_names.insert(guest.id, format!("{}/{}", guest.host_name, guest.locator));
        let disks = disks_of.remove(&guest.id).unwrap_or_default();
        if let Some(host) = of_host.get_mut(&guest.host_id) {
            host.guests.push(placed(guest_entry(guest, disks)));
        }
    }
    let host_names: HashMap<Uuid, String> = of_host
        .iter()
        .map(|(id, host)| (*id, host.name.clone()))
        .collect();
    let schedules = schedules::list(&mut *conn)
        .await?
        .into_iter()
        .map(|schedule| placed(schedule_entry(schedule, &host_names, &guest_names)));
    let repositories = caps::repositories(&mut *conn).await?.into_iter();
    let mut file = SiteFile {
        format_version: FORMAT_VERSION,
        passwords: None,
        settings: by_name(settings::KEYS, &settings),
        notices: by_name(config::KEYS, &notice_settings),
        notice_secrets: NoticeSecrets::default(),
        hooks: hooks::list(&mut *conn)
            .await?
            .into_iter()
            .filter(|line| line.guest_id.is_none())
            .map(|line| placed(line.hook))
            .collect(),
        repositories: repositories
            .filter_map(|repository| {
                Some(placed(RepositoryEntry {
                    guest_threads: repository.guest_threads?,
                    path: repository.path,
                }))
            })
            .collect(),
        hosts: of_host.into_values().map(placed).collect(),
        schedules: schedules.collect(),
        end: Some(End {}),
    };
    sort(&mut file);
    Ok(file)
}

fn by_name<S>(keys: &'static [Setting<S>], values: &S) -> BTreeMap<String, Spanned<Scalar>> {
    keys.iter()
        .map(|key| (key.name.to_owned(), placed(key.value(values).into())))
        .collect()
}

/// Sorts entries by name, byte by byte: the database sorts by its locale.
fn sort(file: &mut SiteFile) {
    file.hooks.sort_by_key(|hook| hook.as_ref().moment.as_str());
    file.repositories
        .sort_by(|a, b| a.as_ref().path.cmp(&b.as_ref().path));
    file.hosts
        .sort_by(|a, b| a.as_ref().name.cmp(&b.as_ref().name));
    file.schedules
        .sort_by(|a, b| a.as_ref().name.cmp(&b.as_ref().name));
    for host in &mut file.hosts {
        let host = host.as_mut();
        host.datastores
            .sort_by(|a, b| a.as_ref().name.cmp(&b.as_ref().name));
        host.guests
            .sort_by(|a, b| a.as_ref().locator.cmp(&b.as_ref().locator));
    }
}

fn host_entry(host: Host) -> HostEntry {
    HostEntry {
        name: host.name,
        kind: host.kind,
        address: host.address,
        user: host.user_name,
        password: None,
        properties: host.properties,
        ignored: host.ignored,
        guest_threads: host.guest_threads,
        datastores: Vec::new(),
        guests: Vec::new(),
    }
}

fn guest_entry(guest: Guest, disks: Vec<Disk>) -> GuestEntry {
    let mut ignored_disks: Vec<String> = disks
        .into_iter()
        .filter(|disk| disk.ignored)
        .map(|disk| disk.device)
        .collect();
    ignored_disks.sort();
    GuestEntry {
        name: (guest.name != guests::name_of(&guest.locator)).then_some(guest.name),
        locator: guest.locator,
        configured: guest.configured,
        ignored: guest.ignored,
        destination: guest.destination,
        mode: guest.mode,
        resume_power_state: guest.resume_power_state,
        backup_when_off: guest.backup_when_off,
        keep_last: guest.keep_last,
        rpo_secs: guest.rpo_secs,
        ignored_disks,
        hooks: guest.hooks,
    }
}

fn schedule_entry(
    schedule: Schedule,
    host_names: &HashMap<Uuid, String>,
    guest_names: &HashMap<Uuid, String>,
) -> ScheduleEntry {
    let names = |ids: &[Uuid], of: &HashMap<Uuid, String>| {
        let mut names: Vec<String> = ids.iter().filter_map(|id| of.get(id).cloned()).collect();
        names.sort();
        names
    };
    ScheduleEntry {
        hosts: names(&schedule.host_ids, host_names),
        guests: names(&schedule.guest_ids, guest_names),
        name: schedule.name,
        cron: schedule.cron,
        time_zone: schedule.time_zone,
        enabled: schedule.enabled,
    }
}
