//! Passwords at rest, of hosts and for notices: sealed with a key that stands in a file outside the database.
//!
//! A sealed password is a version byte, a random nonce (24 bytes) and XChaCha20-Poly1305 ciphertext
//! with its tag, bound to the id of its host or purpose: it cannot be moved to another row.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305,
    aead::{Aead, Payload},
};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

/// The version of the form described above.
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;

/// A password could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is no key.
    #[error(
        "the key file {} does not exist: copy it from the machine where the hosts were added, or name it with VIRTUOZO_KEY_FILE",
        .0.display()
    )]
    KeyMissing(PathBuf),
    /// Others can read the key.
    #[error("the key file {} can be read by others (mode {mode:04o}): chmod 600 {}", path.display(), path.display())]
    KeyOpen {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file holds no key.
    #[error("the key file {} does not hold a key of 64 hexadecimal digits", .0.display())]
    KeyMalformed(PathBuf),
    /// The file could not be used.
    #[error("the key file {} cannot be used: {source}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// The password was sealed with another key, for another host, or is damaged.
    #[error(
        "the stored password cannot be opened with this key: use the key file of the machine where the host was added, or give the password again with `virtuozo host edit`"
    )]
    WrongKey,
    /// The passphrase does not open the file's passwords.
    #[error("the passphrase does not open the passwords of this file")]
    Passphrase,
    /// What is written about the passphrase's key cannot be used.
    #[error("the key cannot be made of the passphrase: {0}")]
    Lock(String),
}

/// The key that seals host passwords.
#[derive(Clone)]
pub struct Key {
    cipher: XChaCha20Poly1305,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Where the key is if nobody says otherwise: `/etc/virtuozo/key` for root, otherwise
/// `virtuozo/key` in the user's directory for configuration.
pub fn default_key_file() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/etc/virtuozo/key");
    }
    let config = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".config")))
        .unwrap_or_else(|| PathBuf::from("/etc"));
    config.join("virtuozo/key")
}

impl Key {
    /// Reads the key from its file.
    ///
    /// # Errors
    /// If the file is missing, readable by others or holds no key.
    pub fn load(path: &Path) -> Result<Self, SecretError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => SecretError::KeyMissing(path.to_owned()),
            _ => SecretError::KeyFile {
                path: path.to_owned(),
                source,
            },
        };
        let file = File::open(path).map_err(failed)?;
        let facts = file.metadata().map_err(failed)?;
        let mode = facts.mode() & 0o7777;
        if mode & closed_to_others(facts.uid()) != 0 {
            return Err(SecretError::KeyOpen {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = String::new();
        file.take(1024).read_to_string(&mut text).map_err(failed)?;
        let mut bytes = [0; KEY_BYTES];
        hex::decode_to_slice(text.trim(), &mut bytes)
            .map_err(|_| SecretError::KeyMalformed(path.to_owned()))?;
        Ok(Self {
            cipher: XChaCha20Poly1305::new(&bytes.into()),
        })
    }

    /// Reads the key from its file, and makes one first where there is none. Two processes that do so at
    /// once end up with the same key.
    ///
    /// # Errors
    /// As [`Self::load`], or if the file cannot be written.
    pub fn load_or_create(path: &Path) -> Result<Self, SecretError> {
        match Self::load(path) {
            Err(SecretError::KeyMissing(_)) => {
                create_key(path)?;
                Self::load(path)
            }
            other => other,
        }
    }

    /// Seals a host's password.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn seal(&self, host_id: Uuid, password: &SecretString) -> Result<Vec<u8>, SecretError> {
        let nonce: [u8; NONCE_BYTES] = random()?;
        let payload = Payload {
            msg: password.expose_secret().as_bytes(),
            aad: host_id.as_bytes(),
        };
        let sealed = self
            .cipher
            .encrypt(&nonce.into(), payload)
            .map_err(|_| SecretError::WrongKey)?;
        Ok([&[VERSION], nonce.as_slice(), &sealed].concat())
    }

    /// Opens a host's sealed password.
    ///
    /// # Errors
    /// [`SecretError::WrongKey`].
    pub fn open(&self, host_id: Uuid, sealed: &[u8]) -> Result<SecretString, SecretError> {
        let rest = sealed
            .strip_prefix(&[VERSION])
            .ok_or(SecretError::WrongKey)?;
        let (nonce, text) = rest
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(SecretError::WrongKey)?;
        let payload = Payload {
            msg: text,
            aad: host_id.as_bytes(),
        };
        let opened = self
            .cipher
            .decrypt(&(*nonce).into(), payload)
            .map_err(|_| SecretError::WrongKey)?;
        String::from_utf8(opened)
            .map(SecretString::from)
            .map_err(|_| SecretError::WrongKey)
    }
}

/// The permissions that nobody else may have on a key of `owner`. One that root owns may be lent to a group:
/// orchestrators hand secrets to a process without privileges in this way. (Postgres has the same rule for
/// the keys of its server.)
fn closed_to_others(owner: u32) -> u32 {
    if owner == 0 { 0o037 } else { 0o077 }
}

/// Writes a new key beside its place and gives it its name only if there is none.
fn create_key(path: &Path) -> Result<(), SecretError> {
    let failed = |source| SecretError::KeyFile {
        path: path.to_owned(),
        source,
    };
    let dir = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed)?;
    let key: [u8; KEY_BYTES] = random()?;
    let new = path.with_extension(format!("new-{}", Uuid::now_v7().simple()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| {
            file.write_all(hex::encode(key).as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        })
        // Unlike a rename, a link never replaces the key of another process.
        .and_then(|()| match std::fs::hard_link(&new, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        })
        .and_then(|()| File::open(dir)?.sync_all());
    let removed = std::fs::remove_file(&new);
    written.and(removed).map_err(failed)
}

/// Bytes of the system's generator.
fn random<const N: usize>() -> Result<[u8; N], SecretError> {
    use rand::TryRng as _;
    let mut bytes = [0; N];
    rand::rngs::SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|e| SecretError::Random(e.to_string()))?;
    Ok(bytes)
}

mod passphrase;

pub use passphrase::Lock;

#[cfg(test)]
mod tests;
