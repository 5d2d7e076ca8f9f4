//! The key file of this machine. One key encrypts all passwords and secrets that a site stores.

use std::path::Path;

use anyhow::{Result, bail};
use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_postgres::StoreError;
use virtuozo_secrets::{Key, SecretError};
use virtuozo_store::{
    hosts,
    notices::config::{self, Secret},
};

/// An encrypted password or secret in the database.
struct Stored {
    /// What it is, such as `the password of host alpha`.
    name: String,
    id: Uuid,
    sealed: Vec<u8>,
}

/// The key in a file; `None` if there is no such file and nothing stored needs one.
///
/// # Errors
/// The file cannot be used, or does not exist although something is stored that another key encrypted.
pub(crate) async fn load(file: &Path, pool: &PgPool) -> Result<Option<Key>> {
    match Key::load(file) {
        Err(SecretError::KeyMissing(_)) => {}
        key => return Ok(Some(key?)),
    }
    let stored = stored(pool).await?;
    if stored.is_empty() {
        return Ok(None);
    }
    let file = file.display();
    bail!(
        "the key file {file} does not exist, and {} sealed with a key that is elsewhere: copy the key file from a \
         machine with a worker or a scheduler (`virtuozo config show` names it there), or name it with --key-file. \
         If it is lost, make a new one, `(umask 077; openssl rand -hex 32 > {file})`, and give everything again",
        summary(&stored)
    )
}

/// The key in a file; a new one is written if there is none and nothing stored needs one.
///
/// # Errors
/// As [`load`]; or the file cannot be written.
pub(crate) async fn load_or_create(file: &Path, pool: &PgPool) -> Result<Key> {
    match load(file, pool).await? {
        Some(key) => Ok(key),
        None => Ok(Key::load_or_create(file)?),
    }
}

/// Checks that the key in a file decrypts everything that is stored. Returns the result for `virtuozo doctor`.
///
/// # Errors
/// It does not, or [`load`] fails. The error says what to do.
pub(crate) async fn check(file: &Path, pool: &PgPool) -> Result<String> {
    let Some(key) = load(file, pool).await? else {
        return Ok(format!(
            "not there yet; {} is made with the first password",
            file.display()
        ));
    };
    let mut foreign = stored(pool).await?;
    foreign.retain(|one| key.open(one.id, &one.sealed).is_err());
    if foreign.is_empty() {
        return Ok(file.display().to_string());
    }
    let file = file.display();
    bail!(
        "{} sealed with another key than that in {file}: copy the key file from a machine that opens it, or give it \
         again with `virtuozo host password` and `virtuozo notice secret`",
        summary(&foreign)
    )
}

/// Every encrypted password and secret in the database.
async fn stored(pool: &PgPool) -> Result<Vec<Stored>, StoreError> {
    let mut all = Vec::new();
    for host in hosts::list(pool).await? {
        if let Some(sealed) = hosts::sealed_password(pool, host.id).await? {
            all.push(Stored {
                name: format!("the password of host {}", host.name),
                id: host.id,
                sealed,
            });
        }
    }
    for secret in Secret::ALL {
        if let Some(sealed) = config::sealed(pool, secret).await? {
            all.push(Stored {
                name: format!("the {secret}"),
                id: secret.id(),
                sealed,
            });
        }
    }
    Ok(all)
}

/// The subject and verb of a sentence about stored secrets: `the password of host alpha and 2 more are`.
fn summary(all: &[Stored]) -> String {
    match all {
        [] => "nothing is".to_owned(),
        [one] => format!("{} is", one.name),
        [first, others @ ..] => format!("{} and {} more are", first.name, others.len()),
    }
}
