//! Writing a restore point: begun under a temporary name, filled file by file, sealed by its manifest.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use virtuozo_disk::{BlockSource, vmdk::ParentLink};

use crate::{
    Access, CopyObserver, Digest, FileEntry, FileFormat, FileSpec, Manifest, ManifestKeys,
    NewPoint, RepositoryError, Result, StoredFormat, copy, durable, hash,
    journal::{Earlier, Journal},
    manifest,
    names::{self, MANIFEST_NAME},
    places,
    sink::Target,
};

/// A complete restore point that is not published yet. Plain data: it can be kept in a database and
/// published by another process later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedPoint {
    /// Identity of the restore point.
    pub point_id: Uuid,
    /// Where it lies until it is published, below the repository.
    pub partial_path: PathBuf,
    /// Where it will lie, below the repository.
    pub path: PathBuf,
    /// Sum of the stored files, in bytes.
    pub size_bytes: u64,
    /// Sum of the disks' sizes, in bytes.
    pub source_bytes: u64,
    /// BLAKE3 of the text of its manifest, as hexadecimal digits; none: sealed by a version that did not keep it.
    #[serde(default)]
    pub manifest_blake3: Option<String>,
    /// What an earlier attempt had copied already and was not read from the source again, in bytes.
    #[serde(default)]
    pub resumed_bytes: u64,
}

/// A restore point that is there for everyone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPoint {
    /// Identity of the restore point.
    pub point_id: Uuid,
    /// Name of the host.
    pub host: String,
    /// Name of the guest.
    pub guest: String,
    /// The instant its disks hold.
    pub taken_at: DateTime<Utc>,
    /// Where it lies, below the repository.
    pub path: PathBuf,
    /// Sum of the stored files, in bytes.
    pub size_bytes: u64,
    /// Sum of the disks' sizes, in bytes.
    pub source_bytes: u64,
    /// Names of the snapshots of other people in it.
    pub foreign_snapshots: Vec<String>,
    /// BLAKE3 of the text of its manifest.
    pub manifest_blake3: Digest,
}

/// Fills a restore point. Dropped before [`seal`](Self::seal), it leaves a partial directory, which
/// [`Repository::sweep_partials`](crate::Repository::sweep_partials) removes.
#[derive(Debug)]
pub struct PointWriter {
    dir: PathBuf,
    partial_path: PathBuf,
    path: PathBuf,
    access: Access,
    keys: ManifestKeys,
    point: NewPoint,
    files: Vec<FileEntry>,
    journal: Journal,
    earlier: Option<Earlier>,
    resumed_bytes: u64,
}

impl PointWriter {
    /// Makes the partial directory; one of the same run and fence is an earlier attempt of the same
    /// lease holder and is removed. Of those under lower fences, one that holds the same instant is
    /// taken over from; the others are removed.
    pub(crate) fn begin(
        root: &Path,
        access: Access,
        keys: ManifestKeys,
        point: NewPoint,
    ) -> Result<Self> {
        let folder = Path::new(&names::encode(&point.host)).join(names::encode(&point.guest));
        let partial_path = folder.join(names::partial_name(point.guest_run_id, point.fence));
        let path = folder.join(names::point_name(
            point.taken_at,
            point.guest_run_id,
            point.fence,
        ));
        let dir = places::place(root, &partial_path)?;
        durable::remove_dir(&dir)?;
        durable::create_dirs(&dir, access)?;
        Ok(Self {
            journal: Journal::new(&dir, &point, access, &keys),
            earlier: Earlier::find(&places::place(root, &folder)?, &point, &keys)?,
            dir,
            partial_path,
            path,
            access,
            keys,
            point,
            files: Vec::new(),
            resumed_bytes: 0,
        })
    }

    /// Changes how often what is copied is made durable for a successor; every two seconds without
    /// this.
    pub fn checkpoint_every(&mut self, every: Duration) {
        self.journal.set_every(every);
    }

    /// Gives up the copy, and what an earlier attempt has left: their space is missing. What cannot be removed now is swept
    /// later.
    pub fn discard(mut self) {
        self.discard_earlier();
        let _ = durable::remove_dir(&self.dir);
    }

    /// Gives up what an earlier attempt has left, where the space for both is missing. Returns
    /// whether there was anything.
    pub fn discard_earlier(&mut self) -> bool {
        let earlier = self.earlier.take();
        let found = earlier.is_some();
        if let Some(earlier) = earlier {
            earlier.discard();
        }
        found
    }

    /// Stores a small file.
    ///
    /// # Errors
    /// [`RepositoryError::Invalid`] for a name that cannot be stored or was used before,
    /// [`RepositoryError::Io`].
    pub fn add_small(&mut self, name: &str, bytes: &[u8]) -> Result<&FileEntry> {
        self.check_new(name)?;
        durable::write_file(&self.dir.join(name), bytes, self.access)?;
        let hash = hash::hash_bytes(bytes);
        let len_bytes = bytes.len() as u64;
        Ok(self.push(FileEntry {
            name: name.to_owned(),
            device: None,
            format: StoredFormat::Raw,
            parent: None,
            size_bytes: len_bytes,
            capacity_bytes: len_bytes,
            data_bytes: len_bytes,
            blake3: hash.blake3,
            chunks: hash.chunks,
        }))
    }

    /// Copies a disk link or large file and syncs it. After an error the point cannot be completed.
    ///
    /// # Errors
    /// [`RepositoryError::Invalid`] for a name or parent that does not fit,
    /// [`RepositoryError::Source`] where the source cannot be read, [`RepositoryError::Stopped`],
    /// and what writing says.
    pub fn add_file(
        &mut self,
        spec: &FileSpec,
        source: &dyn BlockSource,
        observer: &dyn CopyObserver,
    ) -> Result<&FileEntry> {
        self.check_new(&spec.name)?;
        let target = Target {
            dir: &self.dir,
            access: self.access,
            content_id: self.content_id(&spec.name),
            parent: self.parent_of(spec, source.size_bytes())?,
            earlier: self.earlier.as_ref(),
        };
        let stored = copy::store(&target, &mut self.journal, spec, source, observer)?;
        self.resumed_bytes += stored.resumed_bytes;
        Ok(self.push(stored.entry))
    }

    /// Writes the manifest and makes all durable.
    ///
    /// # Errors
    /// [`RepositoryError::Io`], [`RepositoryError::Invalid`] without any file.
    pub fn seal(self) -> Result<SealedPoint> {
        if self.files.is_empty() {
            return Err(invalid(&self.point.guest, "the restore point has no files"));
        }
        let (size_bytes, source_bytes) = manifest::sums(&self.files).ok_or_else(|| {
            invalid(
                &self.point.guest,
                "its disks claim more bytes than a disk can have",
            )
        })?;
        let point_id = self.point.point_id;
        let manifest = Manifest {
            point: self.point,
            sealed_at: Utc::now(),
            size_bytes,
            source_bytes,
            files: self.files,
        };
        self.journal.remove()?;
        let path = self.dir.join(MANIFEST_NAME);
        let (bytes, blake3) = manifest.to_bytes(&path, &self.keys)?;
        durable::write_file(&path, &bytes, self.access)?;
        durable::sync_dir(&self.dir)?;
        if let Some(earlier) = self.earlier {
            earlier.discard();
        }
        Ok(SealedPoint {
            point_id,
            partial_path: self.partial_path,
            path: self.path,
            size_bytes,
            source_bytes,
            manifest_blake3: Some(blake3.to_string()),
            resumed_bytes: self.resumed_bytes,
        })
    }

    fn push(&mut self, entry: FileEntry) -> &FileEntry {
        self.files.push_mut(entry)
    }

    fn check_new(&self, name: &str) -> Result<()> {
        names::check_file_name(name)?;
        if self.files.iter().any(|file| file.name == name) {
            return Err(invalid(
                name,
                "the restore point has a file of this name already",
            ));
        }
        Ok(())
    }

    fn parent_of(&self, spec: &FileSpec, capacity_bytes: u64) -> Result<Option<ParentLink>> {
        let FileFormat::Disk {
            parent: Some(parent),
            ..
        } = &spec.format
        else {
            return Ok(None);
        };
        let stored = self
            .files
            .iter()
            .find(|file| file.name == *parent && file.format == StoredFormat::Vmdk)
            .ok_or_else(|| {
                invalid(
                    &spec.name,
                    &format!("its parent {parent} was not stored before it"),
                )
            })?;
        if stored.capacity_bytes != capacity_bytes {
            return Err(invalid(
                &spec.name,
                &format!(
                    "it has {capacity_bytes} bytes, but its parent {parent} has {}",
                    stored.capacity_bytes
                ),
            ));
        }
        Ok(Some(ParentLink {
            content_id: self.content_id(parent),
            hint: parent.clone(),
        }))
    }

    /// The content id of a disk: the same for the same guest run and name, so that a copy that goes
    /// on from an earlier attempt gives the same bytes as that.
    fn content_id(&self, name: &str) -> u32 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.point.guest_run_id.as_bytes());
        hasher.update(name.as_bytes());
        let mut bytes = [0; 4];
        hasher.finalize_xof().fill(&mut bytes);
        // All ones means "no parent"; 0 and all ones with the last bit cleared are avoided with it.
        u32::from_le_bytes(bytes).clamp(1, u32::MAX - 2)
    }
}

fn invalid(name: &str, reason: &str) -> RepositoryError {
    RepositoryError::Invalid {
        name: name.to_owned(),
        reason: reason.to_owned(),
    }
}
