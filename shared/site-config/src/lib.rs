//! The configuration of a site as a TOML file: what it holds, and how its text is read and written.
//!
//! Entries are identified by name: a host or schedule by its name, a guest by its locator on its host. An import resets a
//! missing optional field of a host, guest or schedule to its default; missing settings and missing entries stay as they
//! are.

mod apply;
mod diff;
mod notices;
mod read;
mod sealing;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use virtuozo_model::{Hook, HostKind, Mode};
use virtuozo_postgres::StoreError;
use virtuozo_secrets::{Lock, SecretError};
use virtuozo_store::notices::config::Secret;

pub use apply::{Keys, Options, import};
pub use diff::{Change, Changed, FieldChange, Outcome};
pub use notices::NoticeSecrets;
pub use read::export;
pub use sealing::Sealing;

/// The version of the format described by the types here, and the newest that can be read.
pub const FORMAT_VERSION: i64 = 1;

const HEAD: &str = "\
# The configuration of a Virtuozo site, as `virtuozo export` writes it and `virtuozo import` reads it.
#
# What is missing in an entry is as the site's settings say, or not set; passwords that are missing
# stay as they are. Entries that are missing stay too, unless `import --prune` is asked for.
# Passwords are encrypted with a passphrase. `virtuozo import --dry-run` shows what would change.
";

/// A file that cannot be parsed, exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum SiteFileError {
    /// The text has a syntax error, or a value of the wrong type.
    #[error("line {line}: {reason}")]
    Text {
        /// Where, from 1 on.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A newer program wrote it.
    #[error(
        "it has format version {0}, but this program reads up to {FORMAT_VERSION}: use a newer Virtuozo"
    )]
    Newer(i64),
    /// Its end is missing.
    #[error("it ends early: its last line, [end], is missing")]
    Truncated,
    /// The rules of the store or of a back end refuse an entry.
    #[error("line {line}, {what}: {reason}")]
    Refused {
        /// Where, from 1 on.
        line: usize,
        /// Which entry.
        what: String,
        /// Why.
        reason: StoreError,
    },
    /// Passwords cannot be encrypted or decrypted.
    #[error("{0}")]
    Secret(#[from] SecretError),
    /// A stored password cannot be decrypted.
    #[error("host {host}: {reason}")]
    Sealed {
        /// The host's name.
        host: String,
        /// Why.
        reason: SecretError,
    },
    /// A stored secret of notices cannot be decrypted.
    #[error(
        "the stored {secret} cannot be opened with this key: use the key file of the machine where it was \
         stored, or give it again with `{}`",
        secret.command()
    )]
    SealedSecret {
        /// The secret.
        secret: Secret,
    },
    /// A statement failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The value of a setting, as the TOML type that fits its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected true, false, a whole number or a text")]
pub enum Scalar {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Number(i64),
    /// Anything else.
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

impl From<String> for Scalar {
    fn from(text: String) -> Self {
        match (text.parse::<bool>(), text.parse::<i64>()) {
            (Ok(value), _) => Self::Bool(value),
            (_, Ok(number)) if number.to_string() == text => Self::Number(number),
            _ => Self::Text(text),
        }
    }
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteFile {
    /// [`FORMAT_VERSION`].
    pub format_version: i64,
    /// The parameters of the encryption of passwords; `None` if the file has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passwords: Option<Lock>,
    /// The site's settings, by name.
    #[serde(default)]
    pub settings: BTreeMap<String, Spanned<Scalar>>,
    /// The settings of notices, by name.
    #[serde(default)]
    pub notices: BTreeMap<String, Spanned<Scalar>>,
    /// The secrets of notices.
    #[serde(default, skip_serializing_if = "NoticeSecrets::is_empty")]
    pub notice_secrets: NoticeSecrets,
    /// Commands before and after each run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Spanned<Hook>>,
    /// Repositories with a cap, by path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<Spanned<RepositoryEntry>>,
    /// Hosts, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Spanned<HostEntry>>,
    /// Schedules, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<Spanned<ScheduleEntry>>,
    /// The last table; a file without it is truncated.
    pub end: Option<End>,
}

/// The empty table at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {}

/// A repository with a cap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryEntry {
    /// The directory, as settings and guests name it.
    pub path: String,
    /// Guests in work at most.
    pub guest_threads: i32,
}

/// A host with its datastores and guests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostEntry {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: HostKind,
    /// Connection string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// User name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The encrypted password, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Leave it out of every run.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ignored: bool,
    /// Guests in work at most; none: the site's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_threads: Option<i32>,
    /// Its properties, as its back end describes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// Datastores with a mapping or a limit, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datastores: Vec<Spanned<DatastoreEntry>>,
    /// Its guests, by their locators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guests: Vec<Spanned<GuestEntry>>,
}

/// A datastore with a mapping or a limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatastoreEntry {
    /// Its name on the host.
    pub name: String,
    /// Directory as workers read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_path: Option<String>,
    /// Guests in work at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_threads: Option<i32>,
}

/// A guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestEntry {
    /// Its locator.
    pub locator: String,
    /// Its name when it was last checked; the next check of its host corrects it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is configured to be backed up. An import never resets this.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub configured: bool,
    /// Leave it out of every run.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ignored: bool,
    /// Directory for its restore points. Here and for the next four, `None` stands for the site's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// How it is backed up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Power it back on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_power_state: Option<bool>,
    /// Back it up when it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_when_off: Option<bool>,
    /// Verified restore points to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<i32>,
    /// How old its newest restore point may be, in seconds; 0: any age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_secs: Option<i32>,
    /// Devices of the disks that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored_disks: Vec<String>,
    /// Commands before and after its backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleEntry {
    /// Its name.
    pub name: String,
    /// Cron expression; none: Monday to Friday at the daily start time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// Time zone; none: the site's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Whether it starts runs.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub enabled: bool,
    /// Hosts to back up, by name. No hosts and no guests: the whole site.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Guests to back up, as `HOST/GUEST` with the guest's locator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guests: Vec<String>,
}

fn yes() -> bool {
    true
}

// serde calls `skip_serializing_if` with a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_true(value: &bool) -> bool {
    *value
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

/// A parsed file, with the lines of its entries for errors.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// Its content.
    pub file: SiteFile,
    /// The offsets of its lines.
    line_starts: Vec<usize>,
}

impl Parsed {
    /// Parses a file's text.
    ///
    /// # Errors
    /// The text is no such file, its format version is newer than this program reads, or its end is missing.
    pub fn new(text: &str) -> Result<Self, SiteFileError> {
        /// The field that every version has.
        #[derive(Deserialize)]
        struct Version {
            format_version: Option<toml::Value>,
        }
        let line_starts: Vec<usize> = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        let wrong = |error: toml::de::Error| SiteFileError::Text {
            line: line_of(&line_starts, error.span().map_or(0, |span| span.start)),
            reason: error.message().replace('\n', ", "),
        };
        let Version { format_version } = toml::from_str(text).map_err(wrong)?;
        match format_version.as_ref().map(toml::Value::as_integer) {
            Some(Some(FORMAT_VERSION)) => {}
            Some(Some(newer)) if newer > FORMAT_VERSION => {
                return Err(SiteFileError::Newer(newer));
            }
            Some(Some(other)) => {
                return Err(SiteFileError::Text {
                    line: 1,
                    reason: format!("there is no format version {other}"),
                });
            }
            Some(None) | None => {
                return Err(SiteFileError::Text {
                    line: 1,
                    reason:
                        "this is no configuration of a site: format_version is missing or no number"
                            .to_owned(),
                });
            }
        }
        let file: SiteFile = toml::from_str(text).map_err(wrong)?;
        if file.end.is_none() {
            return Err(SiteFileError::Truncated);
        }
        Ok(Self { file, line_starts })
    }

    /// The parameters of the encryption of passwords and secrets; `None` if the file has none.
    ///
    /// # Errors
    /// [`SiteFileError::Refused`] if the file has passwords or secrets without these parameters.
    pub fn lock(&self) -> Result<Option<&Lock>, SiteFileError> {
        let nobody = |what: &str, command: &str| {
            StoreError::Refused(format!(
                "{what} is in the file, but the table [passwords] is not, and without it nobody can open it: \
                 export again with a passphrase, or take it out and give it with `{command}`"
            ))
        };
        if self.file.passwords.is_none() {
            let mut hosts = self.file.hosts.iter();
            if let Some(host) = hosts.find(|host| host.as_ref().password.is_some()) {
                let why = nobody("its password", "virtuozo host password");
                return Err(self.refuse(host, format!("host {}", host.as_ref().name))(
                    why,
                ));
            }
            for secret in Secret::ALL {
                if let Some(at) = self.file.notice_secrets.of(secret) {
                    let why = nobody("it", secret.command());
                    return Err(self.refuse(at, secret)(why));
                }
            }
        }
        Ok(self.file.passwords.as_ref())
    }

    /// Adds the line and the entry to a refusal; other errors are left as they are.
    fn refuse<T>(
        &self,
        at: &Spanned<T>,
        what: impl fmt::Display,
    ) -> impl FnOnce(StoreError) -> SiteFileError {
        let line = line_of(&self.line_starts, at.span().start);
        let what = what.to_string();
        move |reason| match reason {
            StoreError::Refused(_) | StoreError::NotFound { .. } | StoreError::Exists { .. } => {
                SiteFileError::Refused { line, what, reason }
            }
            other => other.into(),
        }
    }
}

fn line_of(line_starts: &[usize], at: usize) -> usize {
    line_starts.partition_point(|start| *start <= at).max(1)
}

impl SiteFile {
    /// The text of the file.
    ///
    /// # Errors
    /// A value cannot be written as TOML; no value of these types is such.
    pub fn to_text(&self) -> Result<String, SiteFileError> {
        let body = toml::to_string_pretty(self).map_err(|error| SiteFileError::Text {
            line: 1,
            reason: error.to_string(),
        })?;
        Ok(format!("{HEAD}\n{body}"))
    }
}

#[cfg(test)]
mod tests;
