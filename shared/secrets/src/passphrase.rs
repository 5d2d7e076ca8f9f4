//! A key made of a passphrase, for passwords that leave the site in a file.
//!
//! Argon2id makes guessing slow; the parameters stand in the file, so that they can grow with time.

use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{KEY_BYTES, Key, SecretError, random};

/// The only way known so far.
const ARGON2ID: &str = "argon2id";
/// What is spent on one guess: about a fifth of a second.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// A file may ask for more, up to here; beyond that it means harm.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 20;
const SALT_BYTES: usize = 16;

/// How a key is made of a passphrase, and what tells a wrong one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    kdf: String,
    memory_kib: u32,
    passes: u32,
    salt: String,
    check: String,
}

impl Lock {
    /// A lock of its own, and its key.
    ///
    /// # Errors
    /// If the system gives no random numbers, or too little memory.
    pub fn new(passphrase: &SecretString) -> Result<(Self, Key), SecretError> {
        let mut lock = Self {
            kdf: ARGON2ID.to_owned(),
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            salt: hex::encode(random::<SALT_BYTES>()?),
            check: String::new(),
        };
        let key = lock.stretch(passphrase)?;
        let nothing = SecretString::default();
        lock.check = hex::encode(key.seal(Uuid::nil(), &nothing)?);
        Ok((lock, key))
    }

    /// The key, if the passphrase is the right one.
    ///
    /// # Errors
    /// [`SecretError::Passphrase`], [`SecretError::Lock`].
    pub fn open(&self, passphrase: &SecretString) -> Result<Key, SecretError> {
        if self.kdf != ARGON2ID {
            return Err(SecretError::Lock(format!(
                "{:?} is not known here",
                self.kdf
            )));
        }
        if self.memory_kib > MEMORY_KIB_MAX || self.passes > PASSES_MAX {
            return Err(SecretError::Lock(format!(
                "{} KiB of memory and {} passes are more than the {MEMORY_KIB_MAX} and {PASSES_MAX} \
                 that are permitted",
                self.memory_kib, self.passes
            )));
        }
        let key = self.stretch(passphrase)?;
        let check = hex::decode(&self.check).map_err(|_| SecretError::Passphrase)?;
        key.open(Uuid::nil(), &check)
            .map_err(|_| SecretError::Passphrase)?;
        Ok(key)
    }

    fn stretch(&self, passphrase: &SecretString) -> Result<Key, SecretError> {
        let wrong = |error: argon2::Error| SecretError::Lock(error.to_string());
        let salt = hex::decode(&self.salt)
            .map_err(|_| SecretError::Lock("the salt is not hexadecimal".to_owned()))?;
        let params =
            Params::new(self.memory_kib, self.passes, 1, Some(KEY_BYTES)).map_err(wrong)?;
        let mut bytes = [0; KEY_BYTES];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.expose_secret().as_bytes(), &salt, &mut bytes)
            .map_err(wrong)?;
        Ok(Key {
            current: bytes.into(),
            earlier: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_passphrase_opens_and_a_file_may_not_ask_for_any_price() {
        let right = SecretString::from("a long passphrase");
        let (lock, key) = Lock::new(&right).unwrap();
        let whose = Uuid::now_v7();
        let sealed = key.seal(whose, &"secret".into()).unwrap();
        let again = lock.open(&right).unwrap();
        assert_eq!(
            again.open(whose, &sealed).unwrap().expose_secret(),
            "secret"
        );
        let wrong = lock.open(&"another passphrase".into()).unwrap_err();
        assert!(matches!(wrong, SecretError::Passphrase), "{wrong}");

        let changed: [fn(&mut Lock); 5] = [
            |lock| lock.memory_kib = u32::MAX,
            |lock| lock.passes = 1000,
            |lock| lock.memory_kib = 0,
            |lock| lock.salt = "x".into(),
            |lock| lock.kdf = "md5".into(),
        ];
        for change in changed {
            let mut lock = lock.clone();
            change(&mut lock);
            let error = lock.open(&right).unwrap_err();
            assert!(matches!(error, SecretError::Lock(_)), "{error}");
        }
        assert_ne!(Lock::new(&right).unwrap().0, lock, "a salt is used twice");
    }
}
