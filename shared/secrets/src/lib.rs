//! Passwords at rest, of hosts and for notices: sealed with a key that stands in a file outside the database.
//!
//! A sealed password is a version byte, a random nonce (24 bytes) and XChaCha20-Poly1305 ciphertext
//! with its tag, bound to what it opens ([`Opens`]): it cannot be moved to another row, and where that row names another
//! address or user, it stays closed.
//!
//! The key file holds one key in each line. The first is the site's key; the others are those that it had before, which
//! still open what was sealed, and check what was authenticated, with them.

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

/// Bound to an id alone.
const BOUND_TO_ID: u8 = 1;
/// Bound to an id, an address and a user.
const BOUND_TO_PLACE: u8 = 2;
/// What the key that authenticates manifests of restore points is derived with.
const MANIFEST_CONTEXT: &str = "virtuozo 2026-11 authentication of manifests";
/// Keys in a file; more are a mistake.
const KEYS_MAX: usize = 64;
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
    #[error("the key file {} does not hold a key of 64 hexadecimal digits, one in each line", .0.display())]
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
    /// The password was sealed with another key, for another host or purpose, address or user, or is damaged.
    #[error(
        "the stored password cannot be opened with this key, or is for another address or user: use the key file of the machine where it was given, or give it again with `virtuozo host password`"
    )]
    WrongKey,
    /// The passphrase does not open the file's passwords.
    #[error("the passphrase does not open the passwords of this file")]
    Passphrase,
    /// What is written about the passphrase's key cannot be used.
    #[error("the key cannot be made of the passphrase: {0}")]
    Lock(String),
}

/// What a secret opens. It is sealed for this, and is opened for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opens<'a> {
    /// The host or purpose.
    pub id: Uuid,
    /// Where it is sent to.
    pub address: Option<&'a str>,
    /// Whose it is.
    pub user: Option<&'a str>,
}

/// What a secret opens, with texts of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The host or purpose.
    pub id: Uuid,
    /// Where it is sent to.
    pub address: Option<String>,
    /// Whose it is.
    pub user: Option<String>,
}

impl Place {
    /// The same, borrowed.
    pub fn opens(&self) -> Opens<'_> {
        Opens {
            id: self.id,
            address: self.address.as_deref(),
            user: self.user.as_deref(),
        }
    }
}

impl From<Uuid> for Opens<'_> {
    fn from(id: Uuid) -> Self {
        Self {
            id,
            address: None,
            user: None,
        }
    }
}

impl Opens<'_> {
    fn version(&self) -> u8 {
        match (self.address, self.user) {
            (None, None) => BOUND_TO_ID,
            _ => BOUND_TO_PLACE,
        }
    }

    /// The same bytes only for the same place: each part has its length before it.
    fn bound_to(&self) -> Vec<u8> {
        let mut bytes = self.id.as_bytes().to_vec();
        if self.version() == BOUND_TO_PLACE {
            for part in [self.address, self.user] {
                let text = part.unwrap_or_default();
                bytes.push(u8::from(part.is_some()));
                bytes.extend((text.len() as u64).to_le_bytes());
                bytes.extend(text.as_bytes());
            }
        }
        bytes
    }
}

/// The key of a site, and those that it had before.
#[derive(Clone)]
pub struct Key {
    current: OneKey,
    /// They open what was sealed with them, and seal nothing any more.
    earlier: Vec<OneKey>,
}

#[derive(Clone)]
struct OneKey {
    cipher: XChaCha20Poly1305,
    manifest_secret: [u8; KEY_BYTES],
}

impl From<[u8; KEY_BYTES]> for OneKey {
    fn from(bytes: [u8; KEY_BYTES]) -> Self {
        Self {
            cipher: XChaCha20Poly1305::new(&bytes.into()),
            manifest_secret: blake3::derive_key(MANIFEST_CONTEXT, &bytes),
        }
    }
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
        let limit = (KEYS_MAX * (2 * KEY_BYTES + 2)) as u64;
        file.take(limit).read_to_string(&mut text).map_err(failed)?;
        let mut keys = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut bytes = [0; KEY_BYTES];
            hex::decode_to_slice(line, &mut bytes)
                .map_err(|_| SecretError::KeyMalformed(path.to_owned()))?;
            keys.push(OneKey::from(bytes));
        }
        let mut keys = keys.into_iter();
        Ok(Self {
            current: keys
                .next()
                .ok_or_else(|| SecretError::KeyMalformed(path.to_owned()))?,
            earlier: keys.collect(),
        })
    }

    /// The secrets that authenticate manifests of restore points: that of the site's key first, which is for new ones, then
    /// those of the keys that it had before.
    pub fn manifest_secrets(&self) -> impl Iterator<Item = [u8; 32]> {
        self.all().map(|key| key.manifest_secret)
    }

    fn all(&self) -> impl Iterator<Item = &OneKey> {
        std::iter::once(&self.current).chain(&self.earlier)
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

    /// Seals a password for what it opens.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn seal<'a>(
        &self,
        opens: impl Into<Opens<'a>>,
        password: &SecretString,
    ) -> Result<Vec<u8>, SecretError> {
        let opens = opens.into();
        let nonce: [u8; NONCE_BYTES] = random()?;
        let payload = Payload {
            msg: password.expose_secret().as_bytes(),
            aad: &opens.bound_to(),
        };
        let sealed = self
            .current
            .cipher
            .encrypt(&nonce.into(), payload)
            .map_err(|_| SecretError::WrongKey)?;
        Ok([&[opens.version()], nonce.as_slice(), &sealed].concat())
    }

    /// Opens a sealed password for what it was sealed for.
    ///
    /// # Errors
    /// [`SecretError::WrongKey`].
    pub fn open<'a>(
        &self,
        opens: impl Into<Opens<'a>>,
        sealed: &[u8],
    ) -> Result<SecretString, SecretError> {
        let opens = opens.into();
        let rest = sealed
            .strip_prefix(&[opens.version()])
            .ok_or(SecretError::WrongKey)?;
        let (nonce, text) = rest
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(SecretError::WrongKey)?;
        let bound_to = opens.bound_to();
        let open = |key: &OneKey| {
            let payload = Payload {
                msg: text,
                aad: &bound_to,
            };
            key.cipher.decrypt(&(*nonce).into(), payload).ok()
        };
        let opened = self.all().find_map(open).ok_or(SecretError::WrongKey)?;
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
