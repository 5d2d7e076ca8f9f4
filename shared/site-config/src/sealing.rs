//! The encryption of passwords and secrets in a file.

use std::collections::HashMap;

use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;
use virtuozo_secrets::{Key, Lock, Opens, SecretError};
use virtuozo_store::notices::config::Secret;

use super::{SiteFile, SiteFileError};

/// The encryption of the passwords and secrets of an export.
pub struct Sealing {
    pub(crate) lock: Lock,
    key: Key,
    /// The encrypted texts of an earlier export, by the ids that they are bound to. A password that has not changed keeps
    /// its text, so that two exports differ only where the site does.
    earlier: HashMap<Uuid, String>,
}

impl Sealing {
    /// Encryption with a passphrase. `earlier` is the export that the new one replaces.
    ///
    /// # Errors
    /// The passphrase cannot be turned into a key.
    pub fn new(
        passphrase: &SecretString,
        earlier: Option<SiteFile>,
    ) -> Result<Self, SiteFileError> {
        if let Some(earlier) = earlier
            && let Some(lock) = earlier.passwords
            && let Ok(key) = lock.open(passphrase)
        {
            let passwords = earlier.hosts.into_iter().filter_map(|host| {
                let host = host.into_inner();
                Some((password_id(&host.name), host.password?))
            });
            let secrets = Secret::ALL.into_iter().filter_map(|secret| {
                let sealed = earlier.notice_secrets.of(secret)?.as_ref().clone();
                Some((secret.id(), sealed))
            });
            return Ok(Self {
                lock,
                key,
                earlier: passwords.chain(secrets).collect(),
            });
        }
        let (lock, key) = Lock::new(passphrase)?;
        Ok(Self {
            lock,
            key,
            earlier: HashMap::new(),
        })
    }

    /// Encrypts a password, bound to what it opens.
    pub(crate) fn seal<'a>(
        &self,
        opens: impl Into<Opens<'a>>,
        password: &SecretString,
    ) -> Result<String, SecretError> {
        let opens = opens.into();
        if let Some(earlier) = self.earlier.get(&opens.id)
            && open(&self.key, opens, earlier)
                .is_ok_and(|kept| kept.expose_secret() == password.expose_secret())
        {
            return Ok(earlier.clone());
        }
        Ok(hex::encode(self.key.seal(opens, password)?))
    }
}

/// The id that a host's password in a file is bound to, made from the host's name.
pub(crate) fn password_id(host: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, host.as_bytes())
}

/// Decrypts a password in a file.
pub(crate) fn open<'a>(
    key: &Key,
    opens: impl Into<Opens<'a>>,
    sealed: &str,
) -> Result<SecretString, SecretError> {
    let bytes = hex::decode(sealed).map_err(|_| SecretError::WrongKey)?;
    key.open(opens, &bytes)
}
