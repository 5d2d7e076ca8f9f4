//! Guests: what administrators say about them.

use sqlx::{Acquire, FromRow, PgExecutor, PgPool, Postgres};
use uuid::Uuid;

use virtuozo_model::{Guest, Host, Mode, terminal};
use virtuozo_postgres::StoreError;

/// What an administrator says about a guest; none: the site's setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestConfig {
    /// Leave it out of every run.
    pub ignored: bool,
    /// Directory for its restore points.
    pub destination: Option<String>,
    /// How it is backed up.
    pub mode: Option<Mode>,
    /// Power it back on.
    pub resume_power_state: Option<bool>,
    /// Back it up when it is off.
    pub backup_when_off: Option<bool>,
    /// Verified restore points to keep, at least 1.
    pub keep_last: Option<i32>,
    /// How old its newest restore point may be, in seconds; 0: as old as it is.
    pub rpo_secs: Option<i32>,
}

impl From<&Guest> for GuestConfig {
    fn from(guest: &Guest) -> Self {
        Self {
            ignored: guest.ignored,
            destination: guest.destination.clone(),
            mode: guest.mode,
            resume_power_state: guest.resume_power_state,
            backup_when_off: guest.backup_when_off,
            keep_last: guest.keep_last,
            rpo_secs: guest.rpo_secs,
        }
    }
}

type Select<'a> = sqlx::query::QueryAs<'a, sqlx::Postgres, Guest, sqlx::postgres::PgArguments>;

fn select<'a>(host_id: Option<Uuid>, host: Option<&'a str>, name: Option<&'a str>) -> Select<'a> {
    sqlx::query_as(include_str!("guests/select.sql"))
        .bind(host_id)
        .bind(host)
        .bind(name)
}

/// The guests of a host, or of all, by host and name.
pub async fn list(
    db: impl PgExecutor<'_>,
    host_id: Option<Uuid>,
) -> Result<Vec<Guest>, StoreError> {
    Ok(select(host_id, None, None).fetch_all(db).await?)
}

/// The guest of this id.
///
/// # Errors
/// [`StoreError::NotFound`] if there is none.
pub async fn by_id(db: impl PgExecutor<'_>, id: Uuid) -> Result<Guest, StoreError> {
    sqlx::query_as("SELECT * FROM virtuozo_core.guest_details WHERE id = $1")
        .bind(id)
        .fetch_optional(db)
        .await?
        .ok_or_else(|| not_found(&id.to_string()))
}

/// The guest that a person means by `HOST/GUEST`, where GUEST is a name or a locator, or by
/// a name alone if only one guest has it, or by an id.
///
/// # Errors
/// [`StoreError::NotFound`], or [`StoreError::Refused`] if several guests are meant.
pub async fn by_name(pool: &PgPool, text: &str) -> Result<Guest, StoreError> {
    let mut found = select(None, None, Some(text)).fetch_all(pool).await?;
    if let (true, Some((host, name))) = (found.is_empty(), text.split_once('/')) {
        found = select(None, Some(host), Some(name)).fetch_all(pool).await?;
    }
    one_of(found, text)
}

/// The guest of a host that a person means by a name, a locator or an id.
///
/// # Errors
/// As [`by_name`].
pub async fn on_host(
    db: impl PgExecutor<'_>,
    host_id: Uuid,
    text: &str,
) -> Result<Guest, StoreError> {
    one_of(
        select(Some(host_id), None, Some(text))
            .fetch_all(db)
            .await?,
        text,
    )
}

fn one_of(mut found: Vec<Guest>, text: &str) -> Result<Guest, StoreError> {
    match (found.pop(), found.is_empty()) {
        (Some(guest), true) => Ok(guest),
        (None, _) => Err(not_found(text)),
        (Some(last), false) => {
            found.push(last);
            let all: Vec<String> = found
                .iter()
                .map(|g| {
                    let name = format!("{}/{}", g.host_name, g.locator);
                    terminal::shell_word(&name).into_owned()
                })
                .collect();
            Err(StoreError::Refused(format!(
                "{text:?} may be any of {} guests: give one of {}",
                all.len(),
                all.join(", ")
            )))
        }
    }
}

fn not_found(name: &str) -> StoreError {
    StoreError::NotFound {
        what: "guest",
        name: name.to_owned(),
    }
}

/// Adds a guest by its locator before its host has named it. Whether it can be one, [`super::hosts::Rules`] say.
///
/// # Errors
/// [`StoreError::Refused`] or [`StoreError::Exists`].
pub async fn insert(
    db: impl PgExecutor<'_>,
    host: &Host,
    locator: &str,
) -> Result<Uuid, StoreError> {
    insert_as(db, host, locator, name_of(locator), true).await
}

/// As [`insert`], with the name that the guest has said earlier, and whether somebody has decided that
/// it is backed up.
///
/// # Errors
/// As [`insert`].
pub async fn insert_as(
    db: impl PgExecutor<'_>,
    host: &Host,
    locator: &str,
    name: &str,
    configured: bool,
) -> Result<Uuid, StoreError> {
    let id = Uuid::now_v7();
    sqlx::query(include_str!("guests/insert.sql"))
        .bind(id)
        .bind(host.id)
        .bind(locator)
        .bind(name)
        .bind(configured)
        .execute(db)
        .await
        .map_err(|e| super::exists(e, "guest", locator))?;
    Ok(id)
}

/// The name of a guest until its own is known: that of the file, without its extension, where the locator is a
/// path; else the locator.
pub fn name_of(locator: &str) -> &str {
    let Some((_, file)) = locator.rsplit_once(['/', '\\', ']']) else {
        return locator;
    };
    let file = file.trim();
    match file.rsplit_once('.').map_or(file, |(stem, _)| stem) {
        "" => locator,
        stem => stem,
    }
}

/// Takes over a guest that was only reported. Returns false if it was configured already.
pub async fn configure(db: impl PgExecutor<'_>, id: Uuid) -> Result<bool, StoreError> {
    let done = sqlx::query(include_str!("guests/configure.sql"))
        .bind(id)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Changes a guest.
///
/// # Errors
/// [`StoreError::Refused`] or [`StoreError::NotFound`].
pub async fn update(
    db: impl PgExecutor<'_>,
    id: Uuid,
    config: &GuestConfig,
) -> Result<(), StoreError> {
    if let Some(directory) = &config.destination {
        super::check_directory(directory)?;
    }
    if config.keep_last.is_some_and(|n| n < 1) {
        return Err(StoreError::Refused(
            "at least one restore point must be kept".into(),
        ));
    }
    if config.rpo_secs.is_some_and(|n| n < 0) {
        return Err(StoreError::Refused(
            "a restore point cannot be less than 0 seconds old".into(),
        ));
    }
    let done = sqlx::query(include_str!("guests/update.sql"))
        .bind(id)
        .bind(config.ignored)
        .bind(config.destination.as_deref().map(super::plain_directory))
        .bind(config.mode)
        .bind(config.resume_power_state)
        .bind(config.backup_when_off)
        .bind(config.keep_last)
        .bind(config.rpo_secs)
        .execute(db)
        .await?;
    if done.rows_affected() == 0 {
        Err(not_found(&id.to_string()))
    } else {
        Ok(())
    }
}

/// A guest that restore points are recorded of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct WithPoints {
    /// The guest.
    pub guest_id: Uuid,
    /// Its host.
    pub host_id: Uuid,
}

/// The guests that restore points are recorded of.
pub async fn with_points(db: impl PgExecutor<'_>) -> Result<Vec<WithPoints>, StoreError> {
    Ok(sqlx::query_as(include_str!("guests/with_points.sql"))
        .fetch_all(db)
        .await?)
}

/// Forgets a guest and its runs. Restore points stay. One that its host still names comes back as a new
/// guest with the next validation.
///
/// # Errors
/// [`StoreError::Refused`] while a run works on it or something on it is still to be undone.
pub async fn remove(
    db: impl Acquire<'_, Database = Postgres>,
    guest: &Guest,
) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    super::admission::lock_host(&mut tx, guest.host_id).await?;
    let name = guest.full_name();
    super::refuse_if_in_use(&mut tx, include_str!("guests/in_use.sql"), guest.id, &name).await?;
    sqlx::query("DELETE FROM virtuozo_core.guests WHERE id = $1")
        .bind(guest.id)
        .execute(&mut *tx)
        .await?;
    Ok(tx.commit().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_named_after_its_file_until_it_says_its_name() {
        assert_eq!(name_of("[standard] mail/mail server.vmx"), "mail server");
        assert_eq!(name_of("[standard] web.vmx"), "web");
        assert_eq!(name_of("/vms/db/db.vmx"), "db");
        assert_eq!(name_of(r"C:\VMs\old\old.vmx"), "old");
        assert_eq!(name_of("/vms/.vmx"), "/vms/.vmx");
        assert_eq!(name_of("vm-57"), "vm-57");
        assert_eq!(name_of("web.example.com"), "web.example.com");
    }
}
