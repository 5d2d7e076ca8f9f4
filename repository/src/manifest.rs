//! The manifest: what a restore point holds, where it comes from, and how damage to it is found.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Datelike as _, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    Authenticity, ManifestKeys, RepositoryError, Result,
    hash::{self, CHUNK_BYTES, Digest},
    names::{self, MANIFEST_NAME},
    stored::{self, PointFiles},
};

/// The format version written here, and the newest one that can be read.
pub const FORMAT_VERSION: u64 = 1;

/// A larger manifest (that of about 25 TB) is taken for damaged instead of read into memory.
const SIZE_LIMIT_BYTES: u64 = 512 * 1024 * 1024;

/// How the instant of a restore point was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PointMode {
    /// The guest ran on; a snapshot froze its disks.
    Hot,
    /// The guest was off.
    Cold,
}

impl PointMode {
    /// The word for it in the manifest and everywhere else.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Cold => "cold",
        }
    }
}

/// Which guest run made a restore point, and of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPoint {
    /// Identity of the restore point.
    pub point_id: Uuid,
    /// The guest run that makes it.
    pub guest_run_id: Uuid,
    /// The fence under which it is made.
    pub fence: i64,
    /// Name of the host.
    pub host: String,
    /// Name of the guest.
    pub guest: String,
    /// What the guest's host finds it by.
    pub locator: String,
    /// What stays the same when the guest is moved on its host; none where its host has nothing of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_uuid: Option<Uuid>,
    /// How the instant was reached.
    pub mode: PointMode,
    /// The instant the disks hold.
    pub taken_at: DateTime<Utc>,
    /// Names of the snapshots of others that are part of it.
    pub foreign_snapshots: Vec<String>,
    /// Version of Virtuozo.
    pub software_version: String,
}

/// How a file of a restore point is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredFormat {
    /// As it is.
    Raw,
    /// A monolithicSparse VMDK, base or delta.
    Vmdk,
}

/// One file of a restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Name, without directories.
    pub name: String,
    /// The device whose chain it is part of.
    pub device: Option<String>,
    /// How it is stored.
    pub format: StoredFormat,
    /// Name of the file below it, for a delta.
    pub parent: Option<String>,
    /// Size of the stored file in bytes.
    pub size_bytes: u64,
    /// Size of the disk or file it was copied from, in bytes.
    pub capacity_bytes: u64,
    /// Bytes of it that are stored: neither absent nor zero.
    pub data_bytes: u64,
    /// BLAKE3 of the stored file, as `b3sum` prints it.
    pub blake3: Digest,
    /// Chaining value of each chunk of 4 MiB of the stored file in that BLAKE3.
    pub chunks: Vec<Digest>,
}

impl FileEntry {
    /// The name under which progress is reported.
    pub(crate) fn label(&self) -> &str {
        self.device.as_deref().unwrap_or(&self.name)
    }
}

/// All that is known about a restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Source, run and instant.
    #[serde(flatten)]
    pub point: NewPoint,
    /// When the copy was complete.
    pub sealed_at: DateTime<Utc>,
    /// Sum of the stored files, in bytes.
    pub size_bytes: u64,
    /// Sum of the disks' sizes, in bytes.
    pub source_bytes: u64,
    /// The files, parents before their deltas.
    pub files: Vec<FileEntry>,
}

/// A manifest that was read, with what is known about it beside its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadManifest {
    /// What it says.
    pub manifest: Manifest,
    /// BLAKE3 of its exact text, without the envelope around it.
    pub blake3: Digest,
    /// Whether somebody who has a key of this machine wrote it.
    pub authenticity: Authenticity,
}

/// The file as it stands: hash and code are those of the exact bytes of `manifest`.
#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    format_version: u64,
    blake3: Digest,
    /// The key that the code is made with; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<Digest>,
    #[serde(borrow)]
    manifest: &'a RawValue,
}

impl Envelope<'_> {
    /// The bytes of a manifest's file, authenticated with the first of the keys.
    fn bytes_of(text: &RawValue, keys: &ManifestKeys) -> serde_json::Result<Vec<u8>> {
        let (key_id, code) = keys.authenticate(text.get()).unzip();
        let mut bytes = serde_json::to_vec(&Envelope {
            format_version: FORMAT_VERSION,
            blake3: Digest(*blake3::hash(text.get().as_bytes()).as_bytes()),
            key_id,
            code,
            manifest: text,
        })?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl Manifest {
    /// The bytes of the manifest file, authenticated where there is a key, and the hash of its text.
    pub(crate) fn to_bytes(&self, path: &Path, keys: &ManifestKeys) -> Result<(Vec<u8>, Digest)> {
        let unwritable = |error: serde_json::Error| RepositoryError::Invalid {
            name: path.display().to_string(),
            reason: error.to_string(),
        };
        let text = serde_json::to_string_pretty(self).map_err(unwritable)?;
        let manifest = RawValue::from_string(text).map_err(unwritable)?;
        let blake3 = Digest(*blake3::hash(manifest.get().as_bytes()).as_bytes());
        let bytes = Envelope::bytes_of(&manifest, keys).map_err(unwritable)?;
        Ok((bytes, blake3))
    }

    /// Reads and checks the manifest of the restore point in this directory, but for who wrote it.
    ///
    /// # Errors
    /// [`RepositoryError::NotFound`] without a manifest, [`RepositoryError::Damaged`],
    /// [`RepositoryError::NewerFormat`].
    pub fn read(point_dir: &Path) -> Result<Self> {
        Ok(ReadManifest::read(point_dir, &ManifestKeys::default())?.manifest)
    }
}

impl ReadManifest {
    /// Reads and checks the manifest of the restore point in this directory, and its code where its key is here.
    ///
    /// # Errors
    /// [`RepositoryError::NotFound`] without a manifest; [`RepositoryError::Damaged`], also where its key is known and
    /// its code is wrong; [`RepositoryError::NewerFormat`].
    pub fn read(point_dir: &Path, keys: &ManifestKeys) -> Result<Self> {
        let path = point_dir.join(MANIFEST_NAME);
        Self::from_bytes(&read_bytes(point_dir)?, &path, keys)
    }

    /// The bytes of this manifest's file with a code by the first of the keys, its text being what it was.
    pub(crate) fn authenticated_anew(
        point_dir: &Path,
        blake3: Digest,
        keys: &ManifestKeys,
    ) -> Result<Vec<u8>> {
        let path = point_dir.join(MANIFEST_NAME);
        let bytes = read_bytes(point_dir)?;
        if Self::from_bytes(&bytes, &path, keys)?.blake3 != blake3 {
            let reason = "it was changed after it was verified".to_owned();
            return Err(damaged(&path, reason));
        }
        let not_json =
            |error: serde_json::Error| damaged(&path, format!("not a manifest: {error}"));
        let envelope: Envelope<'_> = serde_json::from_slice(&bytes).map_err(not_json)?;
        Envelope::bytes_of(envelope.manifest, keys).map_err(not_json)
    }

    fn from_bytes(bytes: &[u8], path: &Path, keys: &ManifestKeys) -> Result<Self> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Version {
            format_version: u64,
        }
        let not_json = |error: serde_json::Error| damaged(path, format!("not a manifest: {error}"));
        let Version { format_version } = serde_json::from_slice(bytes).map_err(not_json)?;
        if format_version > FORMAT_VERSION {
            return Err(RepositoryError::NewerFormat {
                path: path.to_owned(),
                found: format_version,
                supported: FORMAT_VERSION,
            });
        }
        if format_version != FORMAT_VERSION {
            return Err(damaged(
                path,
                format!("there is no format version {format_version}"),
            ));
        }
        let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(not_json)?;
        let text = envelope.manifest.get();
        if blake3::hash(text.as_bytes()).as_bytes() != &envelope.blake3.0 {
            return Err(damaged(
                path,
                "its text does not have the hash it names".to_owned(),
            ));
        }
        let (key_id, code) = (envelope.key_id.as_deref(), envelope.code.as_ref());
        let authenticity = keys.check(text, key_id, code).ok_or_else(|| {
            let reason = "its code is not by the key that it names: somebody changed it who does not have that key";
            damaged(path, reason.to_owned())
        })?;
        let manifest: Manifest = serde_json::from_str(text).map_err(not_json)?;
        manifest.check().map_err(|reason| damaged(path, reason))?;
        Ok(Self {
            manifest,
            blake3: envelope.blake3,
            authenticity,
        })
    }
}

impl Manifest {
    /// Holds names and times to what a catalogue can record.
    fn check_source(&self) -> std::result::Result<(), String> {
        let point = &self.point;
        let mut names = vec![
            &point.host,
            &point.guest,
            &point.locator,
            &point.software_version,
        ];
        names.extend(&point.foreign_snapshots);
        if names.iter().any(|name| name.contains('\0')) {
            return Err("a name in it has a NUL".to_owned());
        }
        let possible = |at: DateTime<Utc>| (1001..9999).contains(&at.year());
        if !possible(point.taken_at) || !possible(self.sealed_at) {
            return Err("it is of an impossible time".to_owned());
        }
        Ok(())
    }

    /// Holds what a correct writer guarantees, so that readers may rely on it.
    fn check(&self) -> std::result::Result<(), String> {
        self.check_source()?;
        let (size_bytes, source_bytes) = sums(&self.files).ok_or(TOO_LARGE)?;
        if (self.size_bytes, self.source_bytes) != (size_bytes, source_bytes) {
            return Err("its sizes are not the sums of its files'".to_owned());
        }
        if self.files.is_empty() {
            return Err("it lists no files".to_owned());
        }
        let mut seen = HashSet::new();
        for file in &self.files {
            let name = &file.name;
            names::check_file_name(name).map_err(|error| error.to_string())?;
            if let Some(parent) = &file.parent
                && !seen.contains(parent.as_str())
            {
                return Err(format!(
                    "{name} has the parent {parent}, which is not before it"
                ));
            }
            if !seen.insert(name.as_str()) {
                return Err(format!("{name} is listed twice"));
            }
            if file.data_bytes > file.size_bytes {
                return Err(format!("{name} claims more data than it has bytes"));
            }
            if file.chunks.len() as u64 != hash::chunk_count(file.size_bytes) {
                return Err(format!("{name} has a wrong number of chunks"));
            }
            let whole = match file.size_bytes {
                0 => Some(hash::hash_bytes(&[]).blake3),
                // The hash of one chunk cannot be derived from its chaining value.
                1..=CHUNK_BYTES => None,
                size_bytes => hash::merge(&file.chunks, size_bytes),
            };
            if whole.is_some_and(|whole| whole != file.blake3) {
                return Err(format!("the hashes of {name} contradict each other"));
            }
        }
        Ok(())
    }
}

/// Why a manifest is refused whose numbers no disk has.
const TOO_LARGE: &str = "the sizes of its files are too large";

/// The sum of the stored files, and of the disks that they hold; none where one of them is beyond what files can have.
pub(crate) fn sums(files: &[FileEntry]) -> Option<(u64, u64)> {
    let (mut size_bytes, mut source_bytes) = (0_u64, 0_u64);
    for file in files {
        size_bytes = size_bytes.checked_add(file.size_bytes)?;
        if file.format == StoredFormat::Vmdk && file.parent.is_none() {
            source_bytes = source_bytes.checked_add(file.capacity_bytes)?;
        }
    }
    let possible = i64::MAX as u64;
    (size_bytes <= possible && source_bytes <= possible).then_some((size_bytes, source_bytes))
}

pub(crate) fn damaged(path: &Path, reason: String) -> RepositoryError {
    RepositoryError::Damaged {
        path: PathBuf::from(path),
        reason,
    }
}

/// The bytes of the manifest's file in the directory of a restore point.
fn read_bytes(point_dir: &Path) -> Result<Vec<u8>> {
    let path = point_dir.join(MANIFEST_NAME);
    let opened =
        PointFiles::of(point_dir)?
            .open_own(MANIFEST_NAME)
            .map_err(|error| match error {
                error if error.is_not_found() => RepositoryError::NotFound {
                    what: "restore point with a manifest",
                    path: point_dir.to_owned(),
                },
                error => stored::unopened(&path, error),
            })?;
    let bytes = opened
        .read_all(SIZE_LIMIT_BYTES)
        .map_err(|error| stored::unopened(&path, error))?;
    bytes.ok_or_else(|| {
        let reason = format!("a manifest of {} bytes is too large", opened.size_bytes());
        damaged(&path, reason)
    })
}
