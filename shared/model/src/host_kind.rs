//! What a host is, as a word. Which words there are, back ends say: nothing here knows one of them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A text cannot be the word for a kind of host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of host: that is a word of small letters, digits and _")]
pub struct NoHostKind(String);

/// The word for a kind of host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
pub struct HostKind(String);

impl HostKind {
    /// The longest word, in bytes.
    pub const MAX_BYTES: usize = 32;

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostKind {
    type Err = NoHostKind;

    fn from_str(word: &str) -> Result<Self, NoHostKind> {
        let is_sign = |sign: u8| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == b'_';
        let is_word = word.starts_with(|sign: char| sign.is_ascii_lowercase())
            && word.len() <= Self::MAX_BYTES
            && word.bytes().all(is_sign);
        if is_word {
            Ok(Self(word.to_owned()))
        } else {
            // A wrong word may be long; what it begins with is enough to find it.
            Err(NoHostKind(word.chars().take(60).collect()))
        }
    }
}

impl TryFrom<String> for HostKind {
    type Error = NoHostKind;

    fn try_from(word: String) -> Result<Self, NoHostKind> {
        word.parse()
    }
}

impl From<HostKind> for String {
    fn from(kind: HostKind) -> Self {
        kind.0
    }
}

impl fmt::Display for HostKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_host_is_a_short_word() {
        for word in ["esxi", "workstation_shared", "server2"] {
            assert_eq!(word.parse::<HostKind>().unwrap().as_str(), word);
        }
        let long = "x".repeat(33);
        for text in ["", "2server", "ESXi", "a b", "a-b", "ä", long.as_str()] {
            assert!(text.parse::<HostKind>().is_err(), "{text}");
        }
    }
}
