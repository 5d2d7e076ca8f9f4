//! The marker of a repository: what distinguishes it from the empty directory under its mount point, and from another
//! repository at its place.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use virtuozo_disk::{DiskError, Roots};

use crate::{Access, Repository, RepositoryError, Result, durable, error, stored::unopened};

/// The marker's file, in the repository's own directory.
pub const MARKER_NAME: &str = ".virtuozo-repository";
/// The version of its form that is written, and the newest that is read.
const MARKER_VERSION: u64 = 1;
/// A larger file is none.
const MARKER_LIMIT_BYTES: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
struct Marker {
    format_version: u64,
    id: Uuid,
}

/// Lays a file that is complete under its final name, unless there is one of that name.
type Way = fn(&Path, &Path) -> io::Result<()>;

/// The first that the file system knows is taken. Network and USB disks lack one or the other; where both are
/// lacking, a power cut may tear the marker, which is detected when it is read.
const WAYS: [Way; 3] = [link, rename, copy];

impl Repository {
    /// Holds a directory against what a site knows of the repository in it, and changes nothing: its `id`, or
    /// where none is known yet the paths of the restore points `recorded` there. Returns the id in its marker;
    /// none: it may become a repository, or is one of an older version.
    ///
    /// # Errors
    /// [`RepositoryError::NotMounted`] without the marker, or without any of the points,
    /// [`RepositoryError::OtherRepository`], [`RepositoryError::Damaged`] for a torn marker,
    /// [`RepositoryError::NewerFormat`], [`RepositoryError::Io`].
    pub fn recognise(root: &Path, id: Option<Uuid>, recorded: &[String]) -> Result<Option<Uuid>> {
        let not_mounted = |missing| RepositoryError::NotMounted {
            path: root.to_owned(),
            missing,
        };
        match (id, read(root)?) {
            (Some(known), Some(found)) if known != found => Err(RepositoryError::OtherRepository {
                path: root.to_owned(),
                known,
                found,
            }),
            (Some(_), None) => Err(not_mounted(format!("its marker {MARKER_NAME} is missing"))),
            (None, _) if !recorded.is_empty() && !holds_any(root, recorded) => {
                Err(not_mounted(match recorded.len() {
                    1 => "the restore point recorded there is missing".to_owned(),
                    n => format!("all {n} restore points recorded there are missing"),
                }))
            }
            (_, found) => Ok(found),
        }
    }

    /// Opens the repository in a directory before it is changed. What [`recognise`](Self::recognise) finds to have
    /// no marker gets one, and is made where it is not there; of several that do so at once all get the same.
    /// What is written is for those whom `access` names. Returns the id in the marker.
    ///
    /// # Errors
    /// As [`recognise`](Self::recognise).
    pub fn enter(
        root: impl Into<PathBuf>,
        id: Option<Uuid>,
        recorded: &[String],
        access: Access,
    ) -> Result<(Self, Uuid)> {
        let root = root.into();
        match Self::recognise(&root, id, recorded)? {
            Some(found) => Ok((Self::at(root).with_access(access), found)),
            None => {
                let repository = Self::create_for(root, access)?;
                let id = mark(&repository.root, access, &WAYS)?;
                Ok((repository, id))
            }
        }
    }

    /// The id of the repository that is in this directory, which gets a marker if it has none.
    ///
    /// # Errors
    /// [`RepositoryError::NotFound`] without the directory, and as [`recognise`](Self::recognise).
    pub fn adopt(root: impl Into<PathBuf>) -> Result<Uuid> {
        let repository = Self::open(root)?;
        match read(&repository.root)? {
            Some(id) => Ok(id),
            None => mark(&repository.root, repository.access, &WAYS),
        }
    }
}

/// The id in the marker; none where there is no marker.
fn read(root: &Path) -> Result<Option<Uuid>> {
    let path = root.join(MARKER_NAME);
    /// What every version has.
    #[derive(Deserialize)]
    struct Version {
        format_version: u64,
    }
    let damaged = |reason: String| RepositoryError::Damaged {
        reason: format!(
            "it is no marker of a repository ({reason}); if this is the repository, move that file away and run \
             `{}`",
            error::adopt(root)
        ),
        path: path.clone(),
    };
    let root = std::path::absolute(root).map_err(RepositoryError::io("open", root))?;
    let opened = match Roots::new([root.clone()])
        .without_links()
        .open(&root.join(MARKER_NAME))
    {
        Ok(opened) => opened,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(DiskError::Unsupported { reason, .. }) => return Err(damaged(reason)),
        Err(error) => return Err(unopened(&path, error)),
    };
    let bytes = opened
        .read_all(MARKER_LIMIT_BYTES)
        .map_err(|error| unopened(&path, error))?
        .ok_or_else(|| damaged(format!("it is larger than {MARKER_LIMIT_BYTES} bytes")))?;
    let Version { format_version } =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if format_version > MARKER_VERSION {
        return Err(RepositoryError::NewerFormat {
            path,
            found: format_version,
            supported: MARKER_VERSION,
        });
    }
    match serde_json::from_slice(&bytes) {
        Ok(Marker { id, .. }) => Ok(Some(id)),
        Err(error) => Err(damaged(error.to_string())),
    }
}

/// Whether one of these restore points has its directory there.
fn holds_any(root: &Path, recorded: &[String]) -> bool {
    recorded.iter().any(|path| root.join(path).is_dir())
}

/// Writes a marker where there is none, durably, and returns the id in the one that is there then.
fn mark(root: &Path, access: Access, ways: &[Way]) -> Result<Uuid> {
    let marker = Marker {
        format_version: MARKER_VERSION,
        id: Uuid::now_v7(),
    };
    let path = root.join(MARKER_NAME);
    let mut bytes = serde_json::to_vec(&marker)
        .map_err(|error| RepositoryError::io("write", &path)(error.into()))?;
    bytes.push(b'\n');
    let written = root.join(format!("{MARKER_NAME}.{}", marker.id.simple()));
    durable::write_file(&written, &bytes, access)?;
    let laid = lay(&written, &path, ways);
    // One that stays is in nobody's way.
    let _ = fs::remove_file(&written);
    laid?;
    durable::sync_dir(root)?;
    read(root)?.ok_or(RepositoryError::NotFound {
        what: "marker that was written",
        path,
    })
}

fn lay(written: &Path, marker: &Path, ways: &[Way]) -> Result<()> {
    let mut refused = None;
    for way in ways {
        match way(written, marker) {
            Ok(()) => return Ok(()),
            // Somebody else was first.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => refused = Some(error),
        }
    }
    refused.map_or(Ok(()), |error| {
        Err(RepositoryError::io("write", marker)(error))
    })
}

fn link(written: &Path, marker: &Path) -> io::Result<()> {
    fs::hard_link(written, marker)
}

fn rename(written: &Path, marker: &Path) -> io::Result<()> {
    let flags = RenameFlags::NOREPLACE;
    Ok(rustix::fs::renameat_with(CWD, written, CWD, marker, flags)?)
}

fn copy(written: &Path, marker: &Path) -> io::Result<()> {
    let bytes = fs::read(written)?;
    let mut file = Access::default().create_file(marker)?;
    file.set_permissions(fs::metadata(written)?.permissions())?;
    io::Write::write_all(&mut file, &bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(_: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[test]
    fn each_way_to_lay_a_marker_makes_one_and_never_replaces_one() {
        for ways in [
            WAYS.to_vec(),
            vec![refuse as Way, rename, copy],
            vec![refuse as Way, refuse, copy],
        ] {
            let dir = tempfile::tempdir().unwrap();
            let id = mark(dir.path(), Access::Owner, &ways).unwrap();
            assert_eq!(mark(dir.path(), Access::Owner, &ways).unwrap(), id);
            let left: Vec<_> = fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(left, [MARKER_NAME]);
        }
    }

    #[test]
    fn a_file_system_that_knows_no_way_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let error = mark(dir.path(), Access::Owner, &[refuse])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("write") && error.contains(MARKER_NAME),
            "{error}"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
