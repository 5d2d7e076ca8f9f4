//! Changes of directories and files that survive a power cut.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::{Access, RepositoryError, Result};

/// Makes the entries of a directory durable, where its file system can.
///
/// # Errors
/// The directory cannot be opened, or its medium fails.
pub fn sync_dir(path: &Path) -> Result<()> {
    let dir = File::open(path).map_err(RepositoryError::io("open", path))?;
    match dir.sync_all() {
        Err(error) if cannot_sync_dirs(&error) => Ok(()),
        outcome => outcome.map_err(RepositoryError::io("sync", path)),
    }
}

/// Whether a file system of a share says so that it cannot sync a directory. Nothing more can be done about it: what it
/// has taken is as durable as its server makes it.
fn cannot_sync_dirs(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::INVAL
                | Errno::NOTSUP
                | Errno::NOSYS
                | Errno::ACCESS
                | Errno::PERM
                | Errno::BADF
                | Errno::ISDIR
        )
    )
}

/// Creates a directory and all that are missing above it, durably.
pub(crate) fn create_dirs(path: &Path, access: Access) -> Result<()> {
    let above = path.ancestors().filter(|dir| !dir.as_os_str().is_empty());
    let missing: Vec<&Path> = above.take_while(|dir| !dir.is_dir()).collect();
    for dir in missing.into_iter().rev() {
        match access.create_dir(dir) {
            // Somebody else was first.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            // What is above it is there: the file system (`/proc`, say) takes no directories.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RepositoryError::NoDirectories {
                    path: dir.to_owned(),
                });
            }
            outcome => outcome.map_err(RepositoryError::io("create", dir))?,
        }
        match dir.parent() {
            Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new("."))?,
            Some(parent) => sync_dir(parent)?,
            None => {}
        }
    }
    Ok(())
}

/// Creates a file that must not exist.
pub(crate) fn create_file(path: &Path, access: Access) -> Result<File> {
    access
        .create_file(path)
        .map_err(RepositoryError::io("create", path))
}

/// Writes a whole new file, durably (its directory's entry excepted).
pub(crate) fn write_file(path: &Path, bytes: &[u8], access: Access) -> Result<()> {
    let mut file = create_file(path, access)?;
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
    Ok(dirs_and_links(path)?.0)
}

/// As [`dirs`], and the names of the links beside them.
pub(crate) fn dirs_and_links(path: &Path) -> Result<(Vec<String>, Vec<String>)> {
    let unreadable = || RepositoryError::io("list", path);
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        entries => entries.map_err(unreadable())?,
    };
    let (mut names, mut links) = (Vec::new(), Vec::new());
    for entry in entries {
        let entry = entry.map_err(unreadable())?;
        let kind = entry.file_type().map_err(unreadable())?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if kind.is_dir() {
            names.push(name);
        } else if kind.is_symlink() {
            links.push(name);
        }
    }
    names.sort_unstable();
    links.sort_unstable();
    Ok((names, links))
}

/// The space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// All its bytes.
    pub size_bytes: u64,
}

/// The space of the file system of a directory; `None` where it does not tell, as that of a share that answers with
/// 0 blocks in all.
///
/// # Errors
/// The directory does not exist, or its file system cannot be asked.
pub fn space(path: &Path) -> Result<Option<Space>> {
    let stat = rustix::fs::statvfs(path)
        .map_err(io::Error::from)
        .map_err(RepositoryError::io("read the free space of", path))?;
    Ok(space_of(stat.f_blocks, stat.f_bavail, stat.f_frsize))
}

fn space_of(blocks: u64, free_blocks: u64, block_bytes: u64) -> Option<Space> {
    let bytes = |blocks: u64| blocks.saturating_mul(block_bytes);
    (bytes(blocks) > 0).then(|| Space {
        free_bytes: bytes(free_blocks),
        size_bytes: bytes(blocks),
    })
}

/// Refuses a write that needs more than the free space, where that is known.
pub(crate) fn check_space(path: &Path, need_bytes: u64) -> Result<()> {
    let Some(Space {
        free_bytes: have_bytes,
        ..
    }) = space(path)?
    else {
        return Ok(());
    };
    if have_bytes < need_bytes {
        return Err(RepositoryError::NoSpace {
            path: path.to_owned(),
            need_bytes,
            have_bytes,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_takes_no_directories_is_told_and_not_asked_for_ever() {
        for path in ["/proc/backup", "/proc/backup/a/b"] {
            let error = create_dirs(Path::new(path), Access::Owner).unwrap_err();
            let said = error.to_string();
            assert!(said.contains("/proc/backup"), "{said}");
            assert_eq!(error.class(), crate::ErrorClass::Operator, "{said}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(create_dirs(&file, Access::Owner).is_err());
        assert!(create_dirs(&file.join("below"), Access::Owner).is_err());
        create_dirs(&dir.path().join("a/b/c"), Access::Owner).unwrap();
        create_dirs(&dir.path().join("a/b/c"), Access::Owner).unwrap();
        std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("link")).unwrap();
        assert!(create_dirs(&dir.path().join("link/x"), Access::Owner).is_err());
    }

    #[test]
    fn a_share_that_cannot_sync_a_directory_is_told_from_a_medium_that_fails() {
        for errno in [
            Errno::INVAL,
            Errno::ACCESS,
            Errno::BADF,
            Errno::NOSYS,
            Errno::NOTSUP,
        ] {
            assert!(cannot_sync_dirs(&errno.into()), "{errno}");
        }
        for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::STALE] {
            assert!(!cannot_sync_dirs(&errno.into()), "{errno}");
        }
    }

    #[test]
    fn a_share_of_0_blocks_is_not_full_but_does_not_tell() {
        assert_eq!(space_of(0, 0, 4096), None);
        assert_eq!(space_of(10, 0, 0), None);
        let full = Space {
            free_bytes: 0,
            size_bytes: 40_960,
        };
        assert_eq!(space_of(10, 0, 4096), Some(full));
    }
}
