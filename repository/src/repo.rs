//! A repository: a directory of restore points. Begins, publishes, lists and removes them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    Access, Authenticity, CopyPlan, Digest, ManifestKeys, NewPoint, PointWriter, PublishedPoint,
    ReadManifest, RepositoryError, Result, SealedPoint, durable, names, names::MANIFEST_NAME,
};

/// A directory that holds restore points as `HOST/GUEST/POINT/`.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(crate) root: PathBuf,
    pub(crate) access: Access,
    pub(crate) keys: ManifestKeys,
}

/// What a listing says about a restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PointSummary {
    /// Source, run and instant.
    #[serde(flatten)]
    pub point: NewPoint,
    /// When the copy was complete.
    pub sealed_at: DateTime<Utc>,
    /// Sum of the stored files, in bytes.
    pub size_bytes: u64,
    /// Sum of the disks' sizes, in bytes.
    pub source_bytes: u64,
    /// Number of files without the manifest.
    pub files: usize,
    /// BLAKE3 of the text of its manifest.
    pub manifest_blake3: Digest,
    /// Whether somebody who has a key of this machine wrote its manifest.
    pub authenticity: Authenticity,
}

/// A restore point found by [`Repository::list`].
#[derive(Debug)]
pub struct ListedPoint {
    /// Where it lies, below the repository.
    pub path: PathBuf,
    /// What it is, or why its manifest cannot be read. The files themselves are not looked at:
    /// [`Repository::verify`] does that.
    pub point: Result<PointSummary>,
}

impl Repository {
    /// Opens a repository that exists.
    ///
    /// # Errors
    /// [`RepositoryError::NotFound`] if there is no such directory.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        match fs::metadata(&root) {
            Ok(metadata) if metadata.is_dir() => Ok(Self::at(root)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(RepositoryError::io("open", root)(error))
            }
            _ => Err(RepositoryError::NotFound {
                what: "repository",
                path: root,
            }),
        }
    }

    /// Opens a repository, creating its directory and those above it where they are missing.
    ///
    /// # Errors
    /// [`RepositoryError::Io`].
    pub fn create(root: impl Into<PathBuf>) -> Result<Self> {
        Self::create_for(root, Access::default())
    }

    pub(crate) fn create_for(root: impl Into<PathBuf>, access: Access) -> Result<Self> {
        let root = root.into();
        durable::create_dirs(&root, access)?;
        Ok(Self::open(root)?.with_access(access))
    }

    pub(crate) fn at(root: PathBuf) -> Self {
        Self {
            root,
            access: Access::default(),
            keys: ManifestKeys::default(),
        }
    }

    /// Who may read what is written from now on; the owner alone without this.
    pub fn with_access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// The keys that authenticate what is written and check what is read; none without this.
    pub fn with_keys(mut self, keys: ManifestKeys) -> Self {
        self.keys = keys;
        self
    }

    /// The repository's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Bytes that can still be stored; `None` where the file system does not tell.
    ///
    /// # Errors
    /// [`RepositoryError::Io`].
    pub fn free_bytes(&self) -> Result<Option<u64>> {
        Ok(durable::space(&self.root)?.map(|space| space.free_bytes))
    }

    /// How this machine counts the file system that it lies in.
    ///
    /// # Errors
    /// [`RepositoryError::Io`].
    pub fn device(&self) -> Result<u64> {
        let metadata = fs::metadata(&self.root);
        let metadata = metadata.map_err(RepositoryError::io("look at", &self.root))?;
        Ok(std::os::unix::fs::MetadataExt::dev(&metadata))
    }

    /// Refuses a copy that would not fit.
    ///
    /// # Errors
    /// [`RepositoryError::NoSpace`] names what is needed and what is free.
    pub fn check_capacity(&self, plan: &CopyPlan) -> Result<()> {
        durable::check_space(&self.root, plan.needed_bytes())
    }

    /// Begins a restore point under a temporary name that holds run and fence.
    ///
    /// # Errors
    /// [`RepositoryError::Io`].
    pub fn begin(&self, point: NewPoint) -> Result<PointWriter> {
        PointWriter::begin(&self.root, self.access, self.keys.clone(), point)
    }

    /// Where a sealed point lies now, below the repository: under its temporary name, or under its
    /// final one if it was renamed already.
    ///
    /// # Errors
    /// [`RepositoryError::NotFound`] if it is at neither place, [`RepositoryError::Occupied`] if
    /// another point lies at the final one.
    pub fn locate(&self, sealed: &SealedPoint) -> Result<PathBuf> {
        Ok(self.find(sealed)?.0)
    }

    fn find(&self, sealed: &SealedPoint) -> Result<(PathBuf, ReadManifest)> {
        names::check_point_path(&sealed.partial_path)?;
        names::check_point_path(&sealed.path)?;
        match self.manifest_at(&sealed.partial_path)? {
            Some(found) if found.manifest.point.point_id == sealed.point_id => {
                return Ok((sealed.partial_path.clone(), found));
            }
            _ => {}
        }
        match self.manifest_at(&sealed.path)? {
            Some(found) if found.manifest.point.point_id == sealed.point_id => {
                Ok((sealed.path.clone(), found))
            }
            Some(found) => Err(RepositoryError::Occupied {
                path: self.root.join(&sealed.path),
                reason: format!(
                    "the restore point {} lies there",
                    found.manifest.point.point_id
                ),
            }),
            None => Err(RepositoryError::NotFound {
                what: "sealed restore point",
                path: self.root.join(&sealed.partial_path),
            }),
        }
    }

    /// Makes a sealed point visible under its final name, durably. May be repeated after a crash:
    /// a point that was renamed already is success.
    ///
    /// # Errors
    /// As [`locate`](Self::locate); [`RepositoryError::Occupied`] if anything lies at the final
    /// place, which is left as it is.
    pub fn publish(&self, sealed: &SealedPoint) -> Result<PublishedPoint> {
        let (folder, _) = names::check_point_path(&sealed.path)?;
        let (at, found) = self.find(sealed)?;
        if at == sealed.partial_path {
            self.rename(sealed)?;
        }
        durable::sync_dir(&self.place(&folder)?)?;
        let manifest = found.manifest;
        Ok(PublishedPoint {
            point_id: sealed.point_id,
            host: manifest.point.host,
            guest: manifest.point.guest,
            taken_at: manifest.point.taken_at,
            path: sealed.path.clone(),
            size_bytes: sealed.size_bytes,
            source_bytes: sealed.source_bytes,
            foreign_snapshots: manifest.point.foreign_snapshots,
            manifest_blake3: found.blake3,
        })
    }

    fn rename(&self, sealed: &SealedPoint) -> Result<()> {
        let from = self.place(&sealed.partial_path)?;
        let to = self.place(&sealed.path)?;
        // Renaming a directory never replaces one that holds anything, so this needs no check of its
        // own before it.
        match fs::rename(&from, &to) {
            Ok(()) => Ok(()),
            Err(error) => match (error.kind(), self.manifest_at(&sealed.path)?) {
                // Another process published it in between.
                (_, Some(there)) if there.manifest.point.point_id == sealed.point_id => Ok(()),
                (
                    io::ErrorKind::DirectoryNotEmpty
                    | io::ErrorKind::AlreadyExists
                    | io::ErrorKind::NotADirectory,
                    _,
                ) => Err(RepositoryError::Occupied {
                    path: to,
                    reason: "move it away to publish the restore point".to_owned(),
                }),
                _ => Err(RepositoryError::io("publish", to)(error)),
            },
        }
    }

    /// Deletes a sealed point that is not published, because it is not what was written. Returns whether it was there.
    /// One that was published meanwhile stays.
    ///
    /// # Errors
    /// [`RepositoryError::Io`].
    pub fn discard(&self, sealed: &SealedPoint) -> Result<bool> {
        let (folder, name) = names::check_point_path(&sealed.partial_path)?;
        if names::parse_partial(name).is_none() {
            return Err(RepositoryError::Invalid {
                name: sealed.partial_path.display().to_string(),
                reason: "this is not the temporary name of a restore point".to_owned(),
            });
        }
        let partial = self.place(&sealed.partial_path)?;
        let was_there = partial.exists();
        durable::remove_dir(&partial)?;
        if was_there {
            durable::sync_dir(&self.place(&folder)?)?;
        }
        Ok(was_there)
    }

    /// A readable manifest; none where there is none.
    fn manifest_at(&self, path: &Path) -> Result<Option<ReadManifest>> {
        match self.manifest(path) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(RepositoryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The manifest of the restore point at `path` below the repository.
    ///
    /// # Errors
    /// As [`ReadManifest::read`] and [`place`](Self::place).
    pub fn manifest(&self, path: &Path) -> Result<ReadManifest> {
        ReadManifest::read(&self.place(path)?, &self.keys)
    }

    /// Writes the manifest of a published restore point anew, with a code by the first of this machine's keys: what it
    /// says, whose text has this hash, stays.
    ///
    /// # Errors
    /// [`RepositoryError::Damaged`] if its text has another hash, [`RepositoryError::Io`].
    pub fn authenticate(&self, path: &Path, blake3: Digest) -> Result<()> {
        let (folder, name) = names::check_point_path(path)?;
        let point_dir = self.place(path)?;
        let bytes = ReadManifest::authenticated_anew(&point_dir, blake3, &self.keys)?;
        // Beside the point, so that a crash leaves nothing in it that does not belong there.
        let new = self.root.join(&folder).join(format!(".adopting-{name}"));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(RepositoryError::io("remove", new)(error));
            }
            _ => {}
        }
        durable::write_file(&new, &bytes, self.access)?;
        let manifest = point_dir.join(MANIFEST_NAME);
        fs::rename(&new, &manifest).map_err(RepositoryError::io("write", manifest))?;
        durable::sync_dir(&point_dir)?;
        durable::sync_dir(&self.root.join(folder))
    }

    /// All published restore points, by path; damaged manifests are reported as such.
    ///
    /// # Errors
    /// [`RepositoryError::Io`] if a directory cannot be read: half a listing is never given.
    pub fn list(&self) -> Result<Vec<ListedPoint>> {
        let mut points = Vec::new();
        for host in subdirs(&self.root)? {
            for guest in subdirs(&self.root.join(&host))? {
                let folder = Path::new(&host).join(&guest);
                for name in subdirs(&self.root.join(&folder))? {
                    let path = folder.join(name);
                    let point = self.manifest(&path).map(PointSummary::from);
                    points.push(ListedPoint { path, point });
                }
            }
        }
        Ok(points)
    }

    /// Refuses a directory in which another restore point lies. One without a readable manifest holds no point, and one that
    /// is not there holds none either.
    ///
    /// # Errors
    /// [`RepositoryError::Occupied`] by another restore point; [`RepositoryError::Linked`], [`RepositoryError::NewerFormat`],
    /// [`RepositoryError::Io`].
    pub fn check_holds(&self, path: &Path, point_id: Uuid) -> Result<()> {
        let point = match self.manifest(path) {
            Ok(found) => found.manifest.point,
            Err(RepositoryError::NotFound { .. } | RepositoryError::Damaged { .. }) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if point.point_id == point_id {
            return Ok(());
        }
        Err(RepositoryError::Occupied {
            path: self.root.join(path),
            reason: format!(
                "the restore point {} of {}/{} lies there instead of {point_id}, and is not deleted: move each to its place \
                 (`virtuozo repository scan` says where)",
                point.point_id, point.host, point.guest
            ),
        })
    }

    /// Deletes a published restore point by its path below the repository. May be repeated after a
    /// crash. Returns whether there was something to delete.
    ///
    /// # Errors
    /// [`RepositoryError::NotFound`] if even the guest's folder is missing (the repository may not be
    /// mounted), [`RepositoryError::Invalid`] for a path that is not a restore point's; as
    /// [`check_holds`](Self::check_holds).
    pub fn remove_point(&self, path: &Path, point_id: Uuid) -> Result<bool> {
        let (folder, name) = names::check_point_path(path)?;
        if name.starts_with('.') {
            return Err(RepositoryError::Invalid {
                name: path.display().to_string(),
                reason: "this is not a published restore point".to_owned(),
            });
        }
        let folder = self.place(&folder)?;
        if !folder.is_dir() {
            return Err(RepositoryError::NotFound {
                what: "guest's folder",
                path: folder,
            });
        }
        self.check_holds(path, point_id)?;
        let point = folder.join(name);
        let deleting = folder.join(names::deleting_name(name));
        let left_over = deleting.exists();
        durable::remove_dir(&deleting)?;
        match fs::rename(&point, &deleting) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(left_over),
            Err(error) => return Err(RepositoryError::io("delete", point)(error)),
        }
        durable::sync_dir(&folder)?;
        durable::remove_dir(&deleting)?;
        Ok(true)
    }

    /// Removes what attempts to back up this guest left behind: partial points whose run and fence
    /// `keep` does not claim, and points whose deletion was interrupted. Guests of one name share a
    /// folder, so `keep` is asked about runs of all of them. Returns the paths removed, below the
    /// repository.
    ///
    /// # Errors
    /// [`RepositoryError::Io`].
    pub fn sweep_partials(
        &self,
        host: &str,
        guest: &str,
        keep: &dyn Fn(Uuid, i64) -> bool,
    ) -> Result<Vec<PathBuf>> {
        let folder = Path::new(&names::encode(host)).join(names::encode(guest));
        let mut removed = Vec::new();
        for name in durable::dirs(&self.place(&folder)?)? {
            let abandoned = match names::parse_partial(&name) {
                Some((guest_run_id, fence)) => !keep(guest_run_id, fence),
                None => names::is_deleting(&name),
            };
            if abandoned {
                let path = folder.join(name);
                durable::remove_dir(&self.place(&path)?)?;
                removed.push(path);
            }
        }
        Ok(removed)
    }
}

impl From<ReadManifest> for PointSummary {
    fn from(found: ReadManifest) -> Self {
        let manifest = found.manifest;
        Self {
            manifest_blake3: found.blake3,
            authenticity: found.authenticity,
            point: manifest.point,
            sealed_at: manifest.sealed_at,
            size_bytes: manifest.size_bytes,
            source_bytes: manifest.source_bytes,
            files: manifest.files.len(),
        }
    }
}

/// As [`durable::dirs`], without those that are being written or deleted.
fn subdirs(path: &Path) -> Result<Vec<String>> {
    let mut names = durable::dirs(path)?;
    names.retain(|name| !name.starts_with('.'));
    Ok(names)
}
