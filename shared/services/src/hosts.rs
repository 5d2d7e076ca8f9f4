//! Hosts: the hypervisors to back up.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_model::{Datastore, Guest, Host, HostKind};
use virtuozo_postgres::StoreError;
use virtuozo_secrets::Key;
use virtuozo_store::{datastores, guests, hosts, operators, views};

pub use virtuozo_store::{
    hosts::{HostConfig, Rules},
    views::NodeLine,
};

use crate::error::{ServiceError, refused};

/// A password, and the key that seals it.
#[derive(Debug, Clone, Copy)]
pub struct Sealing<'a> {
    /// The key of this machine.
    pub key: &'a Key,
    /// The password.
    pub password: &'a SecretString,
}

/// What is changed of a host; none: it stays. Of what may be taken away, `Some(None)` does so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostChanges {
    /// Its name.
    pub name: Option<String>,
    /// What it is.
    pub kind: Option<HostKind>,
    /// Connection string.
    pub address: Option<Option<String>>,
    /// User name; without one its password goes too.
    pub user_name: Option<Option<String>>,
    /// Properties of its back end, by name.
    pub properties: BTreeMap<String, Option<String>>,
    /// Guests in work at most; none: the site's setting.
    pub guest_threads: Option<Option<i32>>,
    /// Leave it out of every run.
    pub ignored: Option<bool>,
}

/// A host with what belongs to it.
#[derive(Debug, Serialize)]
pub struct HostDetails {
    /// The host.
    #[serde(flatten)]
    pub host: Host,
    /// Its datastores.
    pub datastores: Vec<Datastore>,
    /// How many guests it has.
    pub guests: usize,
    /// How many guests are in work on each of its nodes; empty where it names none.
    pub nodes: Vec<NodeLine>,
    /// Change ids for which the host keeps something, by guest.
    pub change_ids: BTreeMap<String, Vec<String>>,
}

/// All hosts, by name.
pub async fn list(pool: &PgPool) -> Result<Vec<Host>, ServiceError> {
    Ok(hosts::list(pool).await?)
}

/// The host of this name or id.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn by_name(pool: &PgPool, name: &str) -> Result<Host, ServiceError> {
    Ok(hosts::by_name(pool, name).await?)
}

/// A host with its datastores and what it keeps for its guests.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn show(pool: &PgPool, name: &str) -> Result<HostDetails, ServiceError> {
    let host = hosts::by_name(pool, name).await?;
    let datastores = datastores::list(pool, Some(host.id)).await?;
    let all = guests::list(pool, Some(host.id)).await?;
    let guests = all.len();
    let kept =
        |guest: Guest| (!guest.change_ids.is_empty()).then_some((guest.name, guest.change_ids));
    let change_ids = all.into_iter().filter_map(kept).collect();
    let hosts = views::all::<views::HostLine>(pool).await?.into_iter();
    let own = hosts.filter(|line| line.id == host.id);
    let nodes = own.flat_map(|line| line.nodes).collect();
    Ok(HostDetails {
        host,
        datastores,
        guests,
        nodes,
        change_ids,
    })
}

/// Whether a host could be added as it is described, before anybody is asked for its password.
///
/// # Errors
/// [`StoreError::Refused`] with what the schema or the back end does not permit.
pub fn check_new(
    rules: &dyn Rules,
    config: &HostConfig,
    has_password: bool,
) -> Result<(), ServiceError> {
    config.check()?;
    check(rules, config, has_password)
}

fn check(rules: &dyn Rules, config: &HostConfig, has_password: bool) -> Result<(), ServiceError> {
    rules.check_host(config).map_err(StoreError::Refused)?;
    if config.user_name.is_none() && has_password {
        return Err(refused("a password needs a user: give --user"));
    }
    Ok(())
}

/// Adds a host. Its state is unknown until it is checked.
///
/// # Errors
/// As [`check_new`], or [`StoreError::Exists`].
pub async fn add(
    pool: &PgPool,
    rules: &dyn Rules,
    config: &HostConfig,
    password: Option<Sealing<'_>>,
) -> Result<Uuid, ServiceError> {
    check_new(rules, config, password.is_some())?;
    let id = Uuid::now_v7();
    let sealed = sealed(id, config, password)?;
    hosts::insert(pool, id, config, sealed.as_deref()).await?;
    Ok(id)
}

/// What became of a host that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// Its name as it is now.
    pub name: String,
    /// Its password was for its former address or user, and is removed.
    pub password_removed: bool,
}

/// Changes a host, and its password where one is given.
///
/// # Errors
/// As [`add`], or [`StoreError::NotFound`].
pub async fn edit(
    pool: &PgPool,
    rules: &dyn Rules,
    name: &str,
    changes: HostChanges,
    password: Option<Sealing<'_>>,
) -> Result<Edited, ServiceError> {
    let host = hosts::by_name(pool, name).await?;
    let (id, had_password) = (host.id, host.has_password);
    let mut config = HostConfig::from(host);
    changes.apply(&mut config);
    check(rules, &config, password.is_some())?;
    let sealed = sealed(id, &config, password)?;
    let mut tx = pool.begin().await?;
    hosts::update(&mut *tx, id, &config).await?;
    if sealed.is_some() {
        hosts::set_password(&mut *tx, id, sealed.as_deref()).await?;
    }
    let has_password = hosts::sealed_password(&mut *tx, id).await?.is_some();
    tx.commit().await?;
    Ok(Edited {
        name: config.name,
        password_removed: had_password && !has_password,
    })
}

impl HostChanges {
    fn apply(self, config: &mut HostConfig) {
        set(&mut config.name, self.name);
        set(&mut config.kind, self.kind);
        set(&mut config.address, self.address);
        set(&mut config.user_name, self.user_name);
        set(&mut config.guest_threads, self.guest_threads);
        set(&mut config.ignored, self.ignored);
        for (name, value) in self.properties {
            match value {
                Some(value) => config.properties.insert(name, value),
                None => config.properties.remove(&name),
            };
        }
    }
}

/// Puts what is given in the place of what is there.
pub(crate) fn set<T>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

fn sealed(
    id: Uuid,
    config: &HostConfig,
    password: Option<Sealing<'_>>,
) -> Result<Option<Vec<u8>>, ServiceError> {
    let opens = config.password_opens(id);
    let seal = |Sealing { key, password }: Sealing<'_>| key.seal(opens, password);
    Ok(password.map(seal).transpose()?)
}

/// Changes the password of a host.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn set_password(
    pool: &PgPool,
    host: &Host,
    password: Sealing<'_>,
) -> Result<(), ServiceError> {
    let sealed = sealed(host.id, &HostConfig::from(host.clone()), Some(password))?;
    Ok(hosts::set_password(pool, host.id, sealed.as_deref()).await?)
}

/// Removes a host with its guests; restore points stay. Returns what it was.
///
/// # Errors
/// [`StoreError::NotFound`], or [`StoreError::Refused`] while something works on it or is still to be undone.
pub async fn remove(pool: &PgPool, name: &str) -> Result<Host, ServiceError> {
    let host = hosts::by_name(pool, name).await?;
    hosts::remove(pool, &host).await?;
    Ok(host)
}

/// Begins no guest of this host any more, or of any host for `all`. Returns what was done, as a sentence.
///
/// # Errors
/// [`StoreError::Refused`] if there is no such host.
pub async fn pause(pool: &PgPool, host_or_all: &str) -> Result<String, ServiceError> {
    Ok(operators::pause(pool, host_or_all).await?)
}

/// The end of [`pause`]. Returns what was done, as a sentence.
///
/// # Errors
/// [`StoreError::Refused`] if there is no such host, or all hosts are paused.
pub async fn resume(pool: &PgPool, host_or_all: &str) -> Result<String, ServiceError> {
    Ok(operators::resume(pool, host_or_all).await?)
}

/// The hosts that a check is about: the one that is named, or all but those that are left out of every run.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn to_check(pool: &PgPool, name: Option<&str>) -> Result<Vec<Host>, ServiceError> {
    if let Some(name) = name {
        return Ok(vec![hosts::by_name(pool, name).await?]);
    }
    let mut all = hosts::list(pool).await?;
    all.retain(|host| !host.ignored);
    Ok(all)
}
