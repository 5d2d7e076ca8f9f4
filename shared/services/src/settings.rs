//! Settings: what holds for the whole site.

use sqlx::PgPool;
use virtuozo_model::Settings;
use virtuozo_store::settings;

pub use virtuozo_store::settings::{KEYS, Key};

use crate::error::ServiceError;

/// The setting of a name.
///
/// # Errors
/// [`virtuozo_postgres::StoreError::Refused`] with the names that there are.
pub fn key(name: &str) -> Result<&'static Key<Settings>, ServiceError> {
    Ok(settings::key(KEYS, name)?)
}

/// All settings.
pub async fn get(pool: &PgPool) -> Result<Settings, ServiceError> {
    Ok(settings::get(pool).await?)
}

/// Changes a setting; it applies at once, everywhere. Returns all as they stand then.
///
/// # Errors
/// [`virtuozo_postgres::StoreError::Refused`] for a value that cannot be.
pub async fn set(
    pool: &PgPool,
    key: &Key<Settings>,
    value: &str,
) -> Result<Settings, ServiceError> {
    Ok(settings::set(pool, &[(key.name, value)]).await?)
}
