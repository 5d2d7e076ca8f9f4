//! Authentication of manifests: a code that only those can make who have the site's key.
//!
//! The code is keyed BLAKE3 over the exact text of the manifest. Each manifest names the id of its key, so a point of
//! another site, or of a key that is lost, is told apart from one that was changed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// What the id of a key is derived with; the key itself is secret.
const ID_CONTEXT: &str = "virtuozo 2026-11 id of a key of manifests";

/// What the key of journals is derived with.
const JOURNAL_CONTEXT: &str = "virtuozo 2026-11 journal of a copy";

/// A key that authenticates manifests. Serialized, it is its secret bytes: for the pipe to a process of ours, and nothing
/// else.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "[u8; 32]", into = "[u8; 32]")]
pub struct ManifestKey {
    id: String,
    secret: [u8; 32],
}

impl fmt::Debug for ManifestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManifestKey({})", self.id)
    }
}

impl From<[u8; 32]> for ManifestKey {
    fn from(secret: [u8; 32]) -> Self {
        Self::new(secret)
    }
}

impl From<ManifestKey> for [u8; 32] {
    fn from(key: ManifestKey) -> Self {
        key.secret
    }
}

impl ManifestKey {
    /// The key of these secret bytes.
    pub fn new(secret: [u8; 32]) -> Self {
        let mut id = [0; 8];
        let mut hasher = blake3::Hasher::new_derive_key(ID_CONTEXT);
        hasher.update(&secret).finalize_xof().fill(&mut id);
        Self {
            id: hex::encode(id),
            secret,
        }
    }

    fn code(&self, text: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.secret, text.as_bytes())
    }
}

/// The keys that a machine has: the first authenticates what is written, all check what is read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ManifestKeys(Vec<ManifestKey>);

/// Whether somebody who has a key of this machine wrote a manifest as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Authenticity {
    /// Its code is right.
    Authentic {
        /// The id of the key.
        key_id: String,
    },
    /// It has no code: it was written by an older version, or on a machine without a key.
    NoCode,
    /// Its code was made with a key that is not here.
    UnknownKey {
        /// The id of the key.
        key_id: String,
    },
}

impl Authenticity {
    /// Whether the code is right.
    pub fn is_authentic(&self) -> bool {
        matches!(self, Self::Authentic { .. })
    }
}

impl fmt::Display for Authenticity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authentic { key_id } => write!(f, "authentic, by the key {key_id}"),
            Self::NoCode => f.write_str("not authenticated: its manifest has no code"),
            Self::UnknownKey { key_id } => write!(
                f,
                "not authenticated: its code is by the key {key_id}, which is not in the key file of this machine"
            ),
        }
    }
}

impl ManifestKeys {
    /// The first is used for what is written.
    pub fn new(keys: impl IntoIterator<Item = ManifestKey>) -> Self {
        Self(keys.into_iter().collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A hasher for the journal of a copy, whose digests only those can make who have the first of the keys; without a key
    /// anybody can.
    pub(crate) fn journal_hasher(&self) -> blake3::Hasher {
        self.0.first().map_or_else(blake3::Hasher::new, |key| {
            blake3::Hasher::new_keyed(&blake3::derive_key(JOURNAL_CONTEXT, &key.secret))
        })
    }

    /// The id of the key and the code for a text; none without a key.
    pub(crate) fn authenticate(&self, text: &str) -> Option<(String, Digest)> {
        let key = self.0.first()?;
        Some((key.id.clone(), Digest(*key.code(text).as_bytes())))
    }

    /// Checks the code of a text. None: the key is known and the code is wrong.
    pub(crate) fn check(
        &self,
        text: &str,
        key_id: Option<&str>,
        code: Option<&Digest>,
    ) -> Option<Authenticity> {
        let Some(key_id) = key_id else {
            return code.is_none().then_some(Authenticity::NoCode);
        };
        let key_id = key_id.to_owned();
        let Some(key) = self.0.iter().find(|key| key.id == key_id) else {
            return Some(Authenticity::UnknownKey { key_id });
        };
        // Compared in constant time.
        let is_right = code.is_some_and(|code| key.code(text) == code.0);
        is_right.then_some(Authenticity::Authentic { key_id })
    }
}
