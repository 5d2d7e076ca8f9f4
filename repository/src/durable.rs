//! Changes of directories and files that survive a power cut.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use rustix::io::Errno;

use crate::{RepositoryError, Result};

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    let outcome = File::open(path).and_then(|dir| dir.sync_all());
    match outcome {
        // Network file systems that cannot sync a directory say so this way; there is nothing more
        // to be done about it.
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::INVAL | Errno::NOTSUP)
            ) =>
        {
            Ok(())
        }
        outcome => outcome.map_err(RepositoryError::io("sync", path)),
    }
}

/// Creates a directory and all that are missing above it, durably.
pub(crate) fn create_dirs(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            return Ok(());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path
                .parent()
                .ok_or(error)
                .map_err(RepositoryError::io("create", path))?;
            create_dirs(parent)?;
            return create_dirs(path);
        }
        Err(error) => return Err(RepositoryError::io("create", path)(error)),
    }
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Creates a file that must not exist.
pub(crate) fn create_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(RepositoryError::io("create", path))
}

/// Writes a whole new file, durably (its directory's entry excepted).
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = create_file(path)?;
    file.write_all(bytes)
        .map_err(RepositoryError::io("write", path))?;
    file.sync_all().map_err(RepositoryError::io("sync", path))
}

/// Removes a directory and all below it; an absent one is success.
pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(RepositoryError::io("remove", path)),
    }
}

/// Names of the directories in a directory, sorted. Names that are not UTF-8 are skipped, since this program writes none.
/// A missing directory has none.
pub(crate) fn dirs(path: &Path) -> Result<Vec<String>> {
    let unreadable = || RepositoryError::io("list", path);
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable())?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable())?;
        if entry.file_type().map_err(unreadable())?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// All its bytes.
    pub size_bytes: u64,
}

/// The space of the file system of a directory.
///
/// # Errors
/// The directory does not exist, or its file system does not say.
pub fn space(path: &Path) -> Result<Space> {
    let stat = rustix::fs::statvfs(path)
        .map_err(io::Error::from)
        .map_err(RepositoryError::io("read the free space of", path))?;
    Ok(Space {
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        size_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

/// Refuses a write that needs more than the free space.
pub(crate) fn check_space(path: &Path, need_bytes: u64) -> Result<()> {
    let have_bytes = space(path)?.free_bytes;
    if have_bytes < need_bytes {
        return Err(RepositoryError::NoSpace {
            path: path.to_owned(),
            need_bytes,
            have_bytes,
        });
    }
    Ok(())
}
