//! The key file of a machine: one key for all that is stored sealed, wherever it is given.

use std::path::Path;

use sqlx::PgPool;
use virtuozo_postgres::StoreError;
use virtuozo_secrets::{Key, Place, SecretError};
use virtuozo_store::{
    hosts,
    notices::config::{self, Secret},
};

use crate::error::ServiceError;

/// A stored password or secret.
struct Stored {
    whose: String,
    /// What it opens.
    place: Place,
    sealed: Vec<u8>,
}

/// The key in a file; none: there is none, and nothing is stored that needs it.
///
/// # Errors
/// [`ServiceError::WrongKey`] if there is none, and something is stored that another key has sealed.
pub async fn load(pool: &PgPool, file: &Path) -> Result<Option<Key>, ServiceError> {
    match Key::load(file) {
        Err(SecretError::KeyMissing(_)) => {}
        key => return Ok(Some(key?)),
    }
    let stored = stored(pool).await?;
    if stored.is_empty() {
        return Ok(None);
    }
    let file = file.display();
    Err(ServiceError::WrongKey(format!(
        "the key file {file} does not exist, and {} sealed with a key that is elsewhere: copy the key file from a \
         machine with a worker or a scheduler (`virtuozo config show` names it there), or name it with --key-file. \
         If it is lost, make a new one, `(umask 077; openssl rand -hex 32 > {file})`, and give everything again",
        named(&stored)
    )))
}

/// The key in a file, which is made where nothing is stored that another key has sealed.
///
/// # Errors
/// As [`load`], or if the file cannot be written.
pub async fn load_or_create(pool: &PgPool, file: &Path) -> Result<Key, ServiceError> {
    match load(pool, file).await? {
        Some(key) => Ok(key),
        None => Ok(Key::load_or_create(file)?),
    }
}

/// Whether the key in a file opens all that is stored, in words.
///
/// # Errors
/// What is wrong, and what to do about it.
pub async fn check(pool: &PgPool, file: &Path) -> Result<String, ServiceError> {
    let key = load(pool, file).await?;
    let file = file.display();
    let Some(key) = key else {
        return Ok(format!(
            "not there yet; {file} is made with the first password"
        ));
    };
    let mut foreign = stored(pool).await?;
    foreign.retain(|one| key.open(one.place.opens(), &one.sealed).is_err());
    if foreign.is_empty() {
        return Ok(file.to_string());
    }
    Err(ServiceError::WrongKey(format!(
        "{} sealed with another key than that in {file}, or for another address or user: copy the key file from a machine that opens it, or give it \
         again with `virtuozo host password` and `virtuozo notice secret`",
        named(&foreign)
    )))
}

/// All that is stored sealed.
async fn stored(pool: &PgPool) -> Result<Vec<Stored>, StoreError> {
    let mut all = Vec::new();
    for host in hosts::list(pool).await? {
        if let Some(sealed) = hosts::sealed_password(pool, host.id).await? {
            all.push(Stored {
                whose: format!("the password of host {}", host.name),
                place: Place {
                    id: host.id,
                    address: host.address,
                    user: host.user_name,
                },
                sealed,
            });
        }
    }
    let how_told = config::get(pool).await?;
    for secret in Secret::ALL {
        if let Some(sealed) = config::sealed(pool, secret).await? {
            all.push(Stored {
                whose: format!("the {secret}"),
                place: secret.place(&how_told),
                sealed,
            });
        }
    }
    Ok(all)
}

fn named(all: &[Stored]) -> String {
    match all {
        [] => "nothing is".to_owned(),
        [one] => format!("{} is", one.whose),
        [first, others @ ..] => format!("{} and {} more are", first.whose, others.len()),
    }
}
