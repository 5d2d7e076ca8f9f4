//! Restoring: a restore point's files, checked while they are copied, in an empty directory.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde::Serialize;
use virtuozo_disk::OpenFile;

use crate::{
    Access, Authenticity, CopyObserver, FileEntry, Manifest, ManifestKeys, ReadManifest, Recorded,
    RepositoryError, Result, StoredFormat, durable,
    grains::GRAIN_BYTES,
    hash::is_zero,
    names::MANIFEST_NAME,
    stored::{PointFiles, unopened},
    verify,
};

/// Where files lie in the target until all are complete.
const TEMP_NAME: &str = ".virtuozo-restore";

/// The outcome of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// Files restored.
    pub files: usize,
    /// Sum of their sizes, in bytes.
    pub bytes: u64,
    /// Whether somebody who has a key of this machine wrote the manifest.
    pub authenticity: Authenticity,
}

/// How a restore point is restored.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// What the catalogue knows of the restore point; none: it is restored as whatever it is.
    pub recorded: Option<Recorded>,
    /// The keys of this machine.
    pub keys: ManifestKeys,
    /// Restore also what is not authenticated.
    pub unauthenticated: bool,
    /// Who may read the files.
    pub access: Access,
}

/// Restores the point in `point_dir` into `to_dir`, which must be empty or not exist; nothing is ever
/// overwritten. Every chunk is held against its hash while it is copied. The files get their names
/// once all of them are complete and synced, the `.vmx` last, so a guest that can be opened is whole.
///
/// # Errors
/// [`RepositoryError::Damaged`] names the file and offset of the first damaged chunk, or says how the point differs from
/// what is recorded; [`RepositoryError::NotAuthenticated`] unless that is permitted, or neither machine nor manifest
/// have a key;
/// [`RepositoryError::NoSpace`], [`RepositoryError::Occupied`], [`RepositoryError::Stopped`]. After an
/// error nothing of the restore remains in `to_dir`.
pub fn restore(
    point_dir: &Path,
    to_dir: &Path,
    options: &RestoreOptions,
    observer: &dyn CopyObserver,
) -> Result<RestoreReport> {
    let found = ReadManifest::read(point_dir, &options.keys)?;
    if let Some(recorded) = &options.recorded {
        found.check_recorded(recorded, point_dir)?;
    }
    let keyless = options.keys.is_empty() && found.authenticity == Authenticity::NoCode;
    if !found.authenticity.is_authentic() && !options.unauthenticated && !keyless {
        return Err(RepositoryError::NotAuthenticated {
            path: point_dir.to_owned(),
            why: found.authenticity,
        });
    }
    let manifest = found.manifest;
    refuse_in_point(to_dir)?;
    durable::create_dirs(to_dir, options.access)?;
    let _lock = lock(to_dir)?;
    let temp = to_dir.join(TEMP_NAME);
    for entry in fs::read_dir(to_dir).map_err(RepositoryError::io("list", to_dir))? {
        let entry = entry.map_err(RepositoryError::io("list", to_dir))?;
        if entry.file_name() != TEMP_NAME {
            return Err(occupied(to_dir, "restore into an empty or a new directory"));
        }
    }
    // Under the lock, one that is there is what an interrupted restore left.
    durable::remove_dir(&temp)?;
    durable::check_space(to_dir, manifest.files.iter().map(needed_bytes).sum())?;
    let restoring = Restoring {
        manifest: &manifest,
        point_dir,
        to_dir,
        temp: &temp,
        access: options.access,
    };
    let outcome = restoring.run(observer);
    if outcome.is_err() {
        // The first error is the one to report; the next restore removes what is left.
        let _ = durable::remove_dir(&temp);
    }
    outcome?;
    Ok(RestoreReport {
        files: manifest.files.len(),
        bytes: manifest.size_bytes,
        authenticity: found.authenticity,
    })
}

/// Refuses a place in a restore point, which would have a file more than its manifest says.
fn refuse_in_point(to_dir: &Path) -> Result<()> {
    let absolute = std::path::absolute(to_dir).map_err(RepositoryError::io("open", to_dir))?;
    let above = absolute.ancestors().find_map(|dir| dir.canonicalize().ok());
    let in_point = |dir: &&Path| dir.join(MANIFEST_NAME).exists();
    match above
        .as_deref()
        .and_then(|dir| dir.ancestors().find(in_point))
    {
        Some(point) => Err(occupied(
            to_dir,
            &format!(
                "{} is a restore point: restore into a directory outside of it",
                point.display()
            ),
        )),
        None => Ok(()),
    }
}

struct Restoring<'a> {
    manifest: &'a Manifest,
    point_dir: &'a Path,
    to_dir: &'a Path,
    temp: &'a Path,
    access: Access,
}

impl Restoring<'_> {
    fn run(&self, observer: &dyn CopyObserver) -> Result<()> {
        let Self { to_dir, temp, .. } = *self;
        durable::create_dirs(temp, self.access)?;
        let stored = PointFiles::of(self.point_dir)?;
        for entry in &self.manifest.files {
            let from = self.point_dir.join(&entry.name);
            let source = stored
                .open(&entry.name)
                .map_err(|error| unopened(&from, error))?;
            let to = temp.join(&entry.name);
            copy_file(entry, &source, &to, self.access, observer)?;
        }
        durable::sync_dir(temp)?;
        let names = self.manifest.files.iter().map(|entry| entry.name.as_str());
        let (last, first): (Vec<_>, Vec<_>) =
            names.partition(|name| name.to_lowercase().ends_with(".vmx"));
        for name in first {
            move_up(temp, to_dir, name)?;
        }
        durable::sync_dir(to_dir)?;
        for name in last {
            move_up(temp, to_dir, name)?;
        }
        durable::remove_dir(temp)?;
        durable::sync_dir(to_dir)
    }
}

fn copy_file(
    entry: &FileEntry,
    source: &OpenFile,
    to: &Path,
    access: Access,
    observer: &dyn CopyObserver,
) -> Result<()> {
    let from = source.path();
    let damaged = |reason: String| RepositoryError::Damaged {
        path: from.to_owned(),
        reason: format!("{reason}; verify the restore point for all of its damage"),
    };
    let size_bytes = source.size_bytes();
    if size_bytes != entry.size_bytes {
        return Err(damaged(format!(
            "it has {size_bytes} bytes instead of {}",
            entry.size_bytes
        )));
    }
    let target = durable::create_file(to, access)?;
    target
        .set_len(size_bytes)
        .map_err(RepositoryError::io("set the size of", to))?;
    let checked = verify::check_chunks(from, source.file(), entry, observer, |offset, bytes| {
        write_sparsely(&target, offset, bytes).map_err(RepositoryError::io("write", to))
    })?;
    if let Some((offset_bytes, what)) = checked.bad.first() {
        return Err(damaged(format!("the chunk at byte {offset_bytes} {what}")));
    }
    target.sync_all().map_err(RepositoryError::io("sync", to))
}

fn write_sparsely(file: &File, offset_bytes: u64, bytes: &[u8]) -> std::io::Result<()> {
    for (piece, at) in bytes
        .chunks(GRAIN_BYTES as usize)
        .zip((offset_bytes..).step_by(GRAIN_BYTES as usize))
    {
        if !is_zero(piece) {
            file.write_all_at(piece, at)?;
        }
    }
    Ok(())
}

/// Keeps two restores from filling one directory. Where the file system has no locks, the names of
/// the files still keep them apart.
fn lock(dir: &Path) -> Result<File> {
    let handle = File::open(dir).map_err(RepositoryError::io("open", dir))?;
    match flock(&handle, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(occupied(dir, "another restore is writing into it")),
        _ => Ok(handle),
    }
}

fn move_up(temp: &Path, to_dir: &Path, name: &str) -> Result<()> {
    let to: PathBuf = to_dir.join(name);
    if fs::symlink_metadata(&to).is_ok() {
        return Err(occupied(&to, "it appeared while the guest was restored"));
    }
    fs::rename(temp.join(name), &to).map_err(RepositoryError::io("create", to))
}

fn needed_bytes(entry: &FileEntry) -> u64 {
    match entry.format {
        StoredFormat::Raw => entry.data_bytes,
        StoredFormat::Vmdk => entry.size_bytes,
    }
}

fn occupied(path: &Path, reason: &str) -> RepositoryError {
    RepositoryError::Occupied {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}
