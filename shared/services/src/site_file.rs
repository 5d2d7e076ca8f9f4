//! The configuration of a site as a file.

use std::path::Path;

use sqlx::PgPool;
use virtuozo_secrets::Key;
use virtuozo_site_config::{Keys, Options, Outcome, Parsed, Sealing, SiteFile};
use virtuozo_store::{
    hosts::{self, Rules},
    notices::config,
};

use crate::{error::ServiceError, keys};

/// The key that opens the passwords and secrets which an export takes along; none: the site has none.
///
/// # Errors
/// If the key is missing.
pub async fn key_for_export(pool: &PgPool, key_file: &Path) -> Result<Option<Key>, ServiceError> {
    let how_told = config::get(pool).await?;
    let hosts = hosts::list(pool).await?;
    let has_any = how_told.has_mail_password
        || how_told.has_webhook_secret
        || hosts.iter().any(|host| host.has_password);
    Ok(match has_any {
        true => Some(Key::load(key_file)?),
        false => None,
    })
}

/// The configuration of the site: with passwords, which the key of this machine opens and a passphrase seals, or
/// without.
///
/// # Errors
/// If the key does not open all of them, or what the database says.
pub async fn export(
    pool: &PgPool,
    passwords: Option<(&Key, &Sealing)>,
) -> Result<SiteFile, ServiceError> {
    Ok(virtuozo_site_config::export(pool, passwords).await?)
}

/// Makes the site as a file says, all or nothing. `opening` is the file's own key; none: passwords stay as they are.
///
/// # Errors
/// What the file or the database says.
pub async fn import(
    pool: &PgPool,
    rules: &dyn Rules,
    parsed: &Parsed,
    opening: Option<&Key>,
    key_file: &Path,
    options: Options,
) -> Result<Outcome, ServiceError> {
    let site = match opening {
        // A dry run makes none.
        Some(_) if options.dry_run => keys::load(pool, key_file).await?,
        Some(_) => Some(keys::load_or_create(pool, key_file).await?),
        None => None,
    };
    let keys = opening.map(|file| Keys {
        file,
        // What a dry run seals is never stored.
        site: site.as_ref().unwrap_or(file),
    });
    Ok(virtuozo_site_config::import(pool, parsed, keys, rules, options).await?)
}
