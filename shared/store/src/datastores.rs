//! Datastores: where hosts keep files, and where workers read them.

use std::collections::BTreeMap;

use sqlx::PgExecutor;
use uuid::Uuid;

use virtuozo_model::Datastore;
use virtuozo_postgres::StoreError;

/// The datastores of a host, or of all.
pub async fn list(
    db: impl PgExecutor<'_>,
    host_id: Option<Uuid>,
) -> Result<Vec<Datastore>, StoreError> {
    Ok(sqlx::query_as(include_str!("datastores/list.sql"))
        .bind(host_id)
        .fetch_all(db)
        .await?)
}

/// Says in which directory workers read a datastore; the host need not have named it yet.
///
/// # Errors
/// [`StoreError::Refused`] if the directory is not an absolute path.
pub async fn map(
    db: impl PgExecutor<'_>,
    host_id: Uuid,
    name: &str,
    local_path: &str,
) -> Result<(), StoreError> {
    super::check_name("datastore", name)?;
    super::check_directory(local_path)?;
    sqlx::query(include_str!("datastores/map.sql"))
        .bind(host_id)
        .bind(name)
        .bind(local_path)
        .execute(db)
        .await?;
    Ok(())
}

/// Says in which directory workers read a datastore that is not mapped. False: it is.
///
/// # Errors
/// As [`map`].
pub async fn map_new(
    db: impl PgExecutor<'_>,
    host_id: Uuid,
    name: &str,
    local_path: &str,
) -> Result<bool, StoreError> {
    super::check_name("datastore", name)?;
    super::check_directory(local_path)?;
    let done = sqlx::query(include_str!("datastores/map_new.sql"))
        .bind(host_id)
        .bind(name)
        .bind(local_path)
        .execute(db)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Makes a datastore known that its host has not named yet.
///
/// # Errors
/// [`StoreError::Refused`] for a name that cannot be one.
pub async fn expect(db: impl PgExecutor<'_>, host_id: Uuid, name: &str) -> Result<(), StoreError> {
    super::check_name("datastore", name)?;
    sqlx::query(include_str!("datastores/expect.sql"))
        .bind(host_id)
        .bind(name)
        .execute(db)
        .await?;
    Ok(())
}

/// Takes the mapping away: workers read the datastore at the path its host gives.
///
/// # Errors
/// [`StoreError::NotFound`] if there is no mapping.
pub async fn unmap(db: impl PgExecutor<'_>, host_id: Uuid, name: &str) -> Result<(), StoreError> {
    let known: Option<String> = sqlx::query_scalar(include_str!("datastores/unmap.sql"))
        .bind(host_id)
        .bind(name)
        .fetch_optional(db)
        .await?;
    match known {
        Some(_) => Ok(()),
        None => Err(StoreError::NotFound {
            what: "mapping of a datastore",
            name: name.to_owned(),
        }),
    }
}

/// Notes the datastores that a host's configuration names now.
pub(super) async fn seen(
    db: impl PgExecutor<'_>,
    host_id: Uuid,
    datastores: &BTreeMap<String, String>,
) -> Result<(), StoreError> {
    let (names, paths): (Vec<&String>, Vec<&String>) = datastores.iter().unzip();
    sqlx::query(include_str!("datastores/seen.sql"))
        .bind(host_id)
        .bind(names)
        .bind(paths)
        .execute(db)
        .await?;
    Ok(())
}
