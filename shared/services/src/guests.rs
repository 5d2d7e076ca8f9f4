//! Guests: the virtual machines on the hosts.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use virtuozo_model::{Disk, Guest, Host, Mode, terminal};
use virtuozo_postgres::StoreError;
use virtuozo_store::{
    disks,
    guests::{self, GuestConfig},
    hosts::{self, Rules},
    views,
};

use crate::{error::ServiceError, hosts::set, names::host_id};

/// A guest and whether its newest restore point is new enough.
#[derive(Debug, Serialize)]
pub struct GuestLine {
    /// The guest.
    #[serde(flatten)]
    pub guest: Guest,
    /// The instant of its newest good restore point.
    pub last_point_at: Option<DateTime<Utc>>,
    /// That is longer ago than its RPO permits.
    pub rpo_exceeded: bool,
}

/// A guest and its disks.
#[derive(Debug, Serialize)]
pub struct GuestDetails {
    /// The guest.
    #[serde(flatten)]
    pub guest: Guest,
    /// Its disks.
    pub disks: Vec<Disk>,
}

/// What is changed of a guest; none: it stays. `Some(None)` leaves it to the site's setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestChanges {
    /// Leave it out of every run.
    pub ignored: Option<bool>,
    /// How it is backed up.
    pub mode: Option<Option<Mode>>,
    /// Where its restore points go.
    pub destination: Option<Option<String>>,
    /// Power it on again that was shut down.
    pub resume_power_state: Option<Option<bool>>,
    /// Back it up when it is off.
    pub backup_when_off: Option<Option<bool>>,
    /// Verified restore points to keep.
    pub keep_last: Option<Option<i32>>,
    /// How old its newest restore point may be, in seconds; 0: as old as it is.
    pub rpo_secs: Option<Option<i32>>,
}

/// What came of adding a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// It was only reported, and is backed up from now on.
    Configured(Guest),
    /// Its host has not named it yet.
    New(Guest),
}

/// The guests of a host, or all.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn list(pool: &PgPool, host: Option<&str>) -> Result<Vec<GuestLine>, ServiceError> {
    let host = host_id(pool, host).await?;
    with_rpo(pool, guests::list(pool, host).await?).await
}

/// The guests of a host.
pub async fn of_host(pool: &PgPool, host: &Host) -> Result<Vec<Guest>, ServiceError> {
    Ok(guests::list(pool, Some(host.id)).await?)
}

/// Guests with the age of their newest restore points.
pub async fn with_rpo(pool: &PgPool, guests: Vec<Guest>) -> Result<Vec<GuestLine>, ServiceError> {
    let rpo = views::all::<views::RpoLine>(pool).await?;
    let mut rpo: HashMap<_, _> = rpo.into_iter().map(|line| (line.id, line)).collect();
    let line = |guest: Guest| {
        let rpo = rpo.remove(&guest.id);
        GuestLine {
            last_point_at: rpo.as_ref().and_then(|line| line.last_point_at),
            rpo_exceeded: rpo.is_some_and(|line| line.exceeded),
            guest,
        }
    };
    Ok(guests.into_iter().map(line).collect())
}

/// A guest and its disks.
///
/// # Errors
/// [`StoreError::NotFound`], or [`StoreError::Refused`] if several guests are meant.
pub async fn show(pool: &PgPool, name: &str) -> Result<GuestDetails, ServiceError> {
    let guest = guests::by_name(pool, name).await?;
    let disks = disks::list(pool, Some(guest.id)).await?;
    Ok(GuestDetails { guest, disks })
}

/// Has a guest backed up that was only reported, or one that its host has not named yet.
///
/// # Errors
/// [`StoreError::Exists`] for one that is backed up already, [`StoreError::Refused`] for what can be no guest of this
/// kind of host.
pub async fn add(
    pool: &PgPool,
    rules: &dyn Rules,
    host: &str,
    name_or_locator: &str,
) -> Result<Added, ServiceError> {
    let host = hosts::by_name(pool, host).await?;
    let own = format!("{}/", host.name);
    // Everywhere else a guest is HOST/GUEST.
    let names = [Some(name_or_locator), name_or_locator.strip_prefix(&own)];
    let mut known = None;
    for name in names.into_iter().flatten() {
        known = match guests::on_host(pool, host.id, name).await {
            Err(StoreError::NotFound { .. }) => continue,
            found => Some(found?),
        };
        break;
    }
    let Some(known) = known else {
        let checked = rules.check_locator(&host.kind, name_or_locator);
        checked.map_err(|why| {
            StoreError::Refused(format!(
                "host {} has named no guest {name_or_locator:?} yet: `{}` asks it; one that it does not name is added \
                 by its locator: {why}",
                host.name,
                terminal::command("host check", &[&host.name])
            ))
        })?;
        let id = guests::insert(pool, &host, name_or_locator).await?;
        return Ok(Added::New(guests::by_id(pool, id).await?));
    };
    if guests::configure(pool, known.id).await? {
        return Ok(Added::Configured(known));
    }
    let name = known.full_name();
    Err(StoreError::Exists {
        what: "guest",
        name,
    }
    .into())
}

/// Changes how a guest is backed up. Returns what it was.
///
/// # Errors
/// [`StoreError::NotFound`] or [`StoreError::Refused`].
pub async fn edit(pool: &PgPool, name: &str, changes: GuestChanges) -> Result<Guest, ServiceError> {
    let guest = guests::by_name(pool, name).await?;
    let mut config = GuestConfig::from(&guest);
    set(&mut config.ignored, changes.ignored);
    set(&mut config.mode, changes.mode);
    set(&mut config.destination, changes.destination);
    set(&mut config.resume_power_state, changes.resume_power_state);
    set(&mut config.backup_when_off, changes.backup_when_off);
    set(&mut config.keep_last, changes.keep_last);
    set(&mut config.rpo_secs, changes.rpo_secs);
    guests::update(pool, guest.id, &config).await?;
    Ok(guest)
}

/// Forgets a guest; its restore points stay. Returns what it was.
///
/// # Errors
/// [`StoreError::NotFound`], or [`StoreError::Refused`] while something works on it or is still to be undone.
pub async fn remove(pool: &PgPool, name: &str) -> Result<Guest, ServiceError> {
    let guest = guests::by_name(pool, name).await?;
    guests::remove(pool, &guest).await?;
    Ok(guest)
}

/// A disk, and whose it is.
#[derive(Debug, Serialize)]
pub struct DiskLine {
    /// The guest, as HOST/GUEST.
    pub guest: String,
    /// The disk.
    #[serde(flatten)]
    pub disk: Disk,
}

/// The disks of a guest, or of all, in the order of the guests.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn disks(pool: &PgPool, guest: Option<&str>) -> Result<Vec<DiskLine>, ServiceError> {
    let guests = match guest {
        Some(name) => vec![guests::by_name(pool, name).await?],
        None => guests::list(pool, None).await?,
    };
    let only = guest.and(guests.first()).map(|guest| guest.id);
    let mut of_guest: HashMap<_, Vec<Disk>> = HashMap::new();
    for disk in disks::list(pool, only).await? {
        of_guest.entry(disk.guest_id).or_default().push(disk);
    }
    let lines = guests.iter().flat_map(|guest| {
        let disks = of_guest.remove(&guest.id).unwrap_or_default();
        let guest = guest.full_name();
        disks.into_iter().map(move |disk| DiskLine {
            guest: guest.clone(),
            disk,
        })
    });
    Ok(lines.collect())
}

/// Leaves a disk out of the backups of its guest, or takes it in again. Returns the guest.
///
/// # Errors
/// [`StoreError::NotFound`] for an unknown guest or disk.
pub async fn ignore_disk(
    pool: &PgPool,
    guest: &str,
    device: &str,
    ignored: bool,
) -> Result<Guest, ServiceError> {
    let guest = guests::by_name(pool, guest).await?;
    disks::set_ignored(pool, guest.id, device, ignored).await?;
    Ok(guest)
}
