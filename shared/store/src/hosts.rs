//! Hosts: what administrators say about them, and what validation found.

use std::collections::BTreeMap;

use sqlx::{Acquire, PgConnection, PgExecutor, Postgres, types::Json};
use uuid::Uuid;

use super::{datastores, slots};
use virtuozo_model::{Host, HostKind, HostState, terminal};
use virtuozo_postgres::StoreError;
use virtuozo_secrets::Opens;

/// What an administrator says about a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// The name, without `/`, which parts it from the name of a guest.
    pub name: String,
    /// What it is.
    pub kind: HostKind,
    /// Connection string; none where the host is the worker's own machine.
    pub address: Option<String>,
    /// User name; none for the worker's own user.
    pub user_name: Option<String>,
    /// What else its back end has to know, by the names that the back end gives.
    pub properties: BTreeMap<String, String>,
    /// Leave it out of every run.
    pub ignored: bool,
    /// Guests in work at most, 1 to 64; none: the site's setting.
    pub guest_threads: Option<i32>,
}

impl HostConfig {
    /// What the password of this host opens, which is sealed for nothing else.
    pub fn password_opens(&self, id: Uuid) -> Opens<'_> {
        Opens {
            id,
            address: self.address.as_deref(),
            user: self.user_name.as_deref(),
        }
    }

    /// Holds the values against what the schema permits. What a kind of host needs, its back end says: [`Rules`].
    ///
    /// # Errors
    /// [`StoreError::Refused`] with the reason.
    pub fn check(&self) -> Result<(), StoreError> {
        let refuse = |why: String| Err(StoreError::Refused(why));
        super::check_name("host", &self.name)?;
        if self.name.contains('/') {
            return refuse(format!(
                "the host name {:?} has a '/', which parts a host from a guest (HOST/GUEST)",
                self.name
            ));
        }
        if self.name == "all" {
            return refuse(
                "`virtuozo.pause('all')` means the fleet: name the host otherwise than \"all\""
                    .into(),
            );
        }
        if let Some(threads) = self.guest_threads.filter(|n| !(1..=64).contains(n)) {
            return refuse(format!("guest threads must be 1 to 64, not {threads}"));
        }
        match &self.address {
            Some(address) if address.contains('@') => {
                refuse("an address holds no user or password: give them by themselves".into())
            }
            _ => Ok(()),
        }
    }
}

/// What back ends permit: which kinds of host there are, and what has to be said about them. This crate knows none.
pub trait Rules: Sync {
    /// Holds what is said about a host against what its back end needs.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    fn check_host(&self, host: &HostConfig) -> Result<(), String>;

    /// Whether this can be the locator of a guest on a host of this kind.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    fn check_locator(&self, kind: &HostKind, locator: &str) -> Result<(), String>;
}

impl From<Host> for HostConfig {
    fn from(host: Host) -> Self {
        Self {
            name: host.name,
            kind: host.kind,
            address: host.address,
            user_name: host.user_name,
            properties: host.properties,
            ignored: host.ignored,
            guest_threads: host.guest_threads,
        }
    }
}

/// All hosts, by name.
pub async fn list(db: impl PgExecutor<'_>) -> Result<Vec<Host>, StoreError> {
    Ok(select(None, None).fetch_all(db).await?)
}

/// The host of this name or id.
///
/// # Errors
/// [`StoreError::NotFound`] if there is none.
pub async fn by_name(db: impl PgExecutor<'_>, name: &str) -> Result<Host, StoreError> {
    select(None, Some(name))
        .fetch_optional(db)
        .await?
        .ok_or_else(|| not_found(name))
}

/// The host of this id.
///
/// # Errors
/// [`StoreError::NotFound`] if there is none.
pub async fn by_id(db: impl PgExecutor<'_>, id: Uuid) -> Result<Host, StoreError> {
    select(Some(id), None)
        .fetch_optional(db)
        .await?
        .ok_or_else(|| not_found(&id.to_string()))
}

type Select<'a> = sqlx::query::QueryAs<'a, sqlx::Postgres, Host, sqlx::postgres::PgArguments>;

fn select(id: Option<Uuid>, name: Option<&str>) -> Select<'_> {
    sqlx::query_as(include_str!("hosts/select.sql"))
        .bind(id)
        .bind(name)
}

fn not_found(name: &str) -> StoreError {
    StoreError::NotFound {
        what: "host",
        name: name.to_owned(),
    }
}

/// The sealed password of a host; see [`virtuozo_secrets`].
pub async fn sealed_password(
    db: impl PgExecutor<'_>,
    id: Uuid,
) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(
        sqlx::query_scalar("SELECT password_sealed FROM virtuozo_core.hosts WHERE id = $1")
            .bind(id)
            .fetch_optional(db)
            .await?
            .flatten(),
    )
}

/// Adds a host under an id that the caller has made, since the password is sealed for it.
///
/// # Errors
/// [`StoreError::Refused`] or [`StoreError::Exists`].
pub async fn insert(
    db: impl Acquire<'_, Database = Postgres>,
    id: Uuid,
    config: &HostConfig,
    sealed_password: Option<&[u8]>,
) -> Result<(), StoreError> {
    config.check()?;
    let mut tx = db.begin().await?;
    check_address(&mut tx, id, config).await?;
    sqlx::query(include_str!("hosts/insert.sql"))
        .bind(id)
        .bind(&config.name)
        .bind(&config.kind)
        .bind(&config.address)
        .bind(&config.user_name)
        .bind(sealed_password)
        .bind(Json(&config.properties))
        .bind(config.ignored)
        .bind(config.guest_threads)
        .execute(&mut *tx)
        .await
        .map_err(|e| super::exists(e, "host", &config.name))?;
    slots::sync(&mut tx, Some(id)).await?;
    Ok(tx.commit().await?)
}

/// One machine under two names would be backed up twice at the same time, over its limit.
async fn check_address(
    tx: &mut PgConnection,
    id: Uuid,
    config: &HostConfig,
) -> Result<(), StoreError> {
    let other: Option<String> = sqlx::query_scalar(include_str!("hosts/of_address.sql"))
        .bind(id)
        .bind(&config.address)
        .bind(&config.name)
        .fetch_optional(tx)
        .await?;
    match other {
        None => Ok(()),
        Some(other) => Err(StoreError::Refused(format!(
            "the address {} is that of host {other} already, and a machine is registered once: change or rename \
             that one with `{} --address URL`, or remove it first",
            config.address.as_deref().unwrap_or_default(),
            terminal::command("host edit", &[&other]),
        ))),
    }
}

/// Changes a host. If it is reached in another way now, its state is unknown until it is validated again; if it has another
/// address or user, its password is removed.
///
/// # Errors
/// [`StoreError::Refused`], [`StoreError::Exists`] or [`StoreError::NotFound`].
pub async fn update(
    db: impl Acquire<'_, Database = Postgres>,
    id: Uuid,
    config: &HostConfig,
) -> Result<(), StoreError> {
    config.check()?;
    let mut tx = db.begin().await?;
    check_address(&mut tx, id, config).await?;
    let done = sqlx::query(include_str!("hosts/update.sql"))
        .bind(id)
        .bind(&config.name)
        .bind(&config.kind)
        .bind(&config.address)
        .bind(&config.user_name)
        .bind(Json(&config.properties))
        .bind(config.ignored)
        .bind(config.guest_threads)
        .execute(&mut *tx)
        .await
        .map_err(|e| super::exists(e, "host", &config.name))?;
    if done.rows_affected() == 0 {
        return Err(not_found(&config.name));
    }
    sqlx::query(include_str!("hosts/jobs_need.sql"))
        .bind(id)
        .execute(&mut *tx)
        .await?;
    slots::sync(&mut tx, Some(id)).await?;
    Ok(tx.commit().await?)
}

/// Replaces the sealed password of a host, or removes it.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn set_password(
    db: impl PgExecutor<'_>,
    id: Uuid,
    sealed: Option<&[u8]>,
) -> Result<(), StoreError> {
    let done = sqlx::query(include_str!("hosts/set_password.sql"))
        .bind(id)
        .bind(sealed)
        .execute(db)
        .await?;
    if done.rows_affected() == 0 {
        Err(not_found(&id.to_string()))
    } else {
        Ok(())
    }
}

/// Removes a host with its guests, their runs and its datastores. Restore points stay.
///
/// # Errors
/// [`StoreError::Refused`] while a run works on it or something on it is still to be undone.
pub async fn remove(
    db: impl Acquire<'_, Database = Postgres>,
    host: &Host,
) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    // Admission takes the same lock, so no guest of the host begins while this is decided.
    super::admission::lock_host(&mut tx, host.id).await?;
    super::refuse_if_in_use(
        &mut tx,
        include_str!("hosts/in_use.sql"),
        host.id,
        &host.name,
    )
    .await?;
    sqlx::query("DELETE FROM virtuozo_core.hosts WHERE id = $1")
        .bind(host.id)
        .execute(&mut *tx)
        .await?;
    Ok(tx.commit().await?)
}

/// Notes what validation found out about a host that answers: its state, and the datastores that its
/// configuration names (name → directory on the host).
pub async fn apply_host_facts(
    conn: &mut PgConnection,
    id: Uuid,
    datastores: &BTreeMap<String, String>,
    warnings: &[String],
) -> Result<(), StoreError> {
    let reason = (!warnings.is_empty()).then(|| warnings.join("; "));
    set_state(&mut *conn, id, HostState::Ok, reason.as_deref()).await?;
    datastores::seen(conn, id, datastores).await
}

/// Notes a host's state.
pub async fn set_state(
    db: impl PgExecutor<'_>,
    id: Uuid,
    state: HostState,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query(include_str!("hosts/set_state.sql"))
        .bind(id)
        .bind(state)
        .bind(reason)
        .execute(db)
        .await?;
    Ok(())
}
