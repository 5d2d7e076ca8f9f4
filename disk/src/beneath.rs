//! Opens files by names that others chose: regular files below directories that the caller names, wherever
//! links and `..` in between lead.
//!
//! A path is walked component by component. Each directory on the way is held open and the next component is
//! opened in it without following links; links are read and walked the same way. So nothing that is exchanged
//! meanwhile leads elsewhere, and what was checked is the open file that is read. Opening never waits for the
//! other end of a pipe.

mod spelling;

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, open, openat, readlinkat, stat, statat},
    io::Errno,
};

use crate::{DiskError, MachineRoots, OpenFile, open_file::FilePlace};

/// As many links and steps above a root as the system itself follows in one path.
const MAX_TURNS: u32 = 40;

/// Directories below which files are opened. The root of the file system is none, since everything lies
/// below it.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    directories: Vec<PathBuf>,
    refuses_links: bool,
    in_any_case: bool,
    allowed: Option<MachineRoots>,
}

impl Roots {
    /// Absolute directories, which need not exist; others are left out. Where one lies in another the inner
    /// one counts for what is below it.
    pub fn new(directories: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut directories: Vec<PathBuf> = directories
            .into_iter()
            .filter(|directory| directory.is_absolute() && directory.parent().is_some())
            .collect();
        directories.sort_by_key(|directory| std::cmp::Reverse(directory.components().count()));
        directories.dedup();
        Self {
            directories,
            refuses_links: false,
            in_any_case: false,
            allowed: None,
        }
    }

    /// The same directories, in which a name that is not there is found in another case, as on Windows.
    #[must_use]
    pub fn in_any_case(self, in_any_case: bool) -> Self {
        Self {
            in_any_case,
            ..self
        }
    }

    /// The same directories, as far as they lie where the machine's own configuration allows.
    #[must_use]
    pub fn within(self, allowed: MachineRoots) -> Self {
        Self {
            allowed: Some(allowed),
            ..self
        }
    }

    /// The same directories, in which links are refused wherever they lead.
    #[must_use]
    pub fn without_links(self) -> Self {
        Self {
            refuses_links: true,
            ..self
        }
    }

    /// Opens a regular file for reading. A name that is not there is looked for in the bytes of older encodings.
    ///
    /// # Errors
    /// [`DiskError::Outside`] for a path that lies below none of the directories, or leads out of them;
    /// [`DiskError::Unsupported`] for what is not a regular file; [`DiskError::Io`].
    pub fn open(&self, path: &Path) -> Result<OpenFile, DiskError> {
        let mut walk = Walk::new(self, path);
        let file = walk.file()?;
        let place = FilePlace {
            path: walk.real_path(),
            id: file.1,
            directories: walk.held.iter().map(|held| held.id).collect(),
            linked_from: walk.linked_from,
        };
        Ok(OpenFile {
            file: file.0,
            size_bytes: file.2,
            place,
        })
    }

    /// The names in a directory, in no order.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn list(&self, directory: &Path) -> Result<Vec<OsString>, DiskError> {
        let mut walk = Walk::new(self, directory);
        let held = walk.directory()?;
        let failed = |error: Errno| DiskError::io("list", directory)(error.into());
        match spelling::names(held.as_fd()) {
            Err(Errno::TOOBIG) => Err(DiskError::Unsupported {
                path: directory.to_owned(),
                reason: format!("it has more than {} entries", spelling::MAX_NAMES),
            }),
            names => names.map_err(failed),
        }
    }

    /// Whether a path lies below one of the directories by its text.
    pub fn hold(&self, path: &Path) -> bool {
        self.root_of(path).is_some()
    }

    /// The innermost directory that a path lies below by its text.
    fn root_of(&self, path: &Path) -> Option<&Path> {
        self.directories
            .iter()
            .map(PathBuf::as_path)
            .find(|directory| path.starts_with(directory))
    }
}

/// Which file this is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl From<&Stat> for FileId {
    fn from(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

/// A directory on the way.
struct Held {
    fd: OwnedFd,
    id: FileId,
    name: OsString,
}

struct Walk<'a> {
    roots: &'a Roots,
    /// What the caller asked for; errors name it.
    asked: &'a Path,
    root: PathBuf,
    /// The root, and the directories below it that the walk is in.
    held: Vec<Held>,
    /// What is still to be walked, the next component last.
    rest: Vec<OsString>,
    /// Name of the file, once it is found.
    name: OsString,
    /// The directory in which the name stood that was a link.
    linked_from: Option<FileId>,
    turns: u32,
}

impl<'a> Walk<'a> {
    fn new(roots: &'a Roots, asked: &'a Path) -> Self {
        Self {
            roots,
            asked,
            root: PathBuf::new(),
            held: Vec::new(),
            rest: Vec::new(),
            name: OsString::new(),
            linked_from: None,
            turns: 0,
        }
    }

    /// Walks to a regular file: opened, which it is, and its size in bytes.
    fn file(&mut self) -> Result<(File, FileId, u64), DiskError> {
        self.begin_at(self.asked.to_owned())?;
        while let Some(name) = self.rest.pop() {
            if name == ".." {
                self.up()?;
            } else if self.rest.is_empty() {
                let Some(parent) = self.held.last() else {
                    break;
                };
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match openat(&parent.fd, &name, flags, Mode::empty()) {
                    Ok(found) => {
                        let stat = fstat(&found).map_err(|error| self.failed(error))?;
                        match FileType::from_raw_mode(stat.st_mode) {
                            FileType::RegularFile => {
                                let file = self.reopen(parent, &name, &found, &stat)?;
                                self.name = name;
                                self.check_not_own(FileId::from(&stat))?;
                                let size_bytes = u64::try_from(stat.st_size).unwrap_or(0);
                                return Ok((file, FileId::from(&stat), size_bytes));
                            }
                            FileType::Symlink => {
                                self.linked_from = self.linked_from.or(Some(parent.id));
                                let target = readlinkat(found.as_fd(), "", Vec::new());
                                self.follow(
                                    target.map_err(|error| self.failed(error))?.as_bytes(),
                                )?;
                            }
                            // Opening a device may already do something.
                            _ => return Err(self.not_regular()),
                        }
                    }
                    Err(Errno::NOENT) => self.respell(&name)?,
                    Err(error) => return Err(self.failed(error)),
                }
            } else {
                self.down(name)?;
            }
        }
        Err(self.not_regular())
    }

    /// Opens for reading what was found to be a regular file; without /proc by its name, held against what was found.
    fn reopen(
        &self,
        parent: &Held,
        name: &OsStr,
        found: &OwnedFd,
        stat: &Stat,
    ) -> Result<File, DiskError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let of_descriptor = format!("/proc/self/fd/{}", found.as_raw_fd());
        let opened = match open(of_descriptor, flags, Mode::empty()) {
            Err(Errno::NOENT) => openat(&parent.fd, name, flags | OFlags::NOFOLLOW, Mode::empty()),
            opened => opened,
        };
        let opened = opened.map_err(|error| self.failed(error))?;
        let now = fstat(&opened).map_err(|error| self.failed(error))?;
        if FileId::from(&now) != FileId::from(stat) {
            return Err(self.not_regular());
        }
        Ok(File::from(opened))
    }

    /// Walks to a directory.
    fn directory(&mut self) -> Result<OwnedFd, DiskError> {
        self.begin_at(self.asked.to_owned())?;
        while let Some(name) = self.rest.pop() {
            if name == ".." {
                self.up()?;
            } else {
                self.down(name)?;
            }
        }
        let last = self.held.pop().ok_or_else(|| self.failed(Errno::NOENT))?;
        Ok(last.fd)
    }

    /// Begins at the root that a path lies below; what comes after the path is left to walk as it was.
    fn begin_at(&mut self, path: PathBuf) -> Result<(), DiskError> {
        let Some((root, below)) = self.split(&path) else {
            return Err(self.outside());
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = open(&root, flags, Mode::empty()).map_err(|error| self.failed(error))?;
        self.check_allowed(&fd, &root)?;
        let stat = fstat(&fd).map_err(|error| self.failed(error))?;
        self.held = vec![Held {
            fd,
            id: FileId::from(&stat),
            name: OsString::new(),
        }];
        self.root = root;
        self.add(&below);
        Ok(())
    }

    /// Asks the machine's configuration about the directory that was opened, wherever links led.
    fn check_allowed(&self, opened: &OwnedFd, root: &Path) -> Result<(), DiskError> {
        let Some(allowed) = &self.roots.allowed else {
            return Ok(());
        };
        let of_descriptor = fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        let real = of_descriptor
            .or_else(|_| root.canonicalize())
            .map_err(DiskError::io("open", root))?;
        if allowed.hold(&real) {
            return Ok(());
        }
        Err(DiskError::NotAllowed {
            path: self.asked.to_owned(),
            why: allowed.refusal("read", self.asked),
        })
    }

    /// Refuses what belongs to the program itself: its own files and directories by what they are, whatever their names, and
    /// the files of restore points.
    fn check_not_own(&self, file: FileId) -> Result<(), DiskError> {
        let Some(allowed) = &self.roots.allowed else {
            return Ok(());
        };
        let is_own = |own: &PathBuf| {
            stat(own).is_ok_and(|own| {
                let own = FileId::from(&own);
                own == file || self.held.iter().any(|held| held.id == own)
            })
        };
        let in_point = || {
            let (points, folder) = (allowed.restore_points()?, self.held.last()?);
            let has = |name: &str| statat(&folder.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
            let marker = format!("../../../{}", points.marker);
            Some(points.files.iter().any(|name| has(name)) && has(&marker))
        };
        if allowed.own().iter().any(is_own) || in_point() == Some(true) {
            return Err(DiskError::NotAllowed {
                path: self.asked.to_owned(),
                why: allowed.refusal_of_own("read", self.asked),
            });
        }
        Ok(())
    }

    /// A path as a root and what comes below it. A link may name a root by its real path.
    fn split(&self, path: &Path) -> Option<(PathBuf, PathBuf)> {
        if let Some(root) = self.roots.root_of(path) {
            return Some((root.to_owned(), path.strip_prefix(root).ok()?.to_owned()));
        }
        if self.turns == 0 {
            return None;
        }
        self.roots.directories.iter().find_map(|root| {
            let real = root.canonicalize().ok()?;
            let below = path.strip_prefix(real).ok()?;
            Some((root.clone(), below.to_owned()))
        })
    }

    /// Adds components to what is to be walked next.
    fn add(&mut self, path: &Path) {
        let components = path.components().rev().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
        });
        self.rest.extend(components);
    }

    fn down(&mut self, name: OsString) -> Result<(), DiskError> {
        let Some(parent) = self.held.last() else {
            return Err(self.outside());
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat(&parent.fd, &name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return self.respell(&name),
            Err(error) => return Err(self.failed(error)),
        };
        let stat = fstat(&fd).map_err(|error| self.failed(error))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let id = FileId::from(&stat);
                self.held.push(Held { fd, id, name });
                Ok(())
            }
            FileType::Symlink => {
                let target = readlinkat(fd.as_fd(), "", Vec::new());
                self.follow(target.map_err(|error| self.failed(error))?.as_bytes())
            }
            _ => Err(self.failed(Errno::NOTDIR)),
        }
    }

    /// Goes on with what a name that is not in the directory is called there.
    fn respell(&mut self, name: &OsStr) -> Result<(), DiskError> {
        let any_case = self.roots.in_any_case;
        let other = self
            .held
            .last()
            .and_then(|parent| spelling::other(parent.fd.as_fd(), name, any_case));
        match other {
            Some(other) => {
                // What is gone again is not looked for without end.
                self.turn()?;
                self.rest.push(other);
                Ok(())
            }
            None => Err(self.failed(Errno::NOENT)),
        }
    }

    fn up(&mut self) -> Result<(), DiskError> {
        if self.held.len() > 1 {
            self.held.pop();
            return Ok(());
        }
        // Above this root may be another.
        self.turn()?;
        let above = self.root.parent().map(Path::to_owned);
        let mut path = above.ok_or_else(|| self.outside())?;
        while let Some(name) = self.rest.pop() {
            if name == ".." {
                path.pop();
            } else {
                path.push(name);
            }
        }
        self.begin_at(path)
    }

    fn follow(&mut self, target: &[u8]) -> Result<(), DiskError> {
        if self.roots.refuses_links {
            return Err(DiskError::Unsupported {
                path: self.asked.to_owned(),
                reason: "it is not a regular file, or lies behind a link".to_owned(),
            });
        }
        self.turn()?;
        let target = Path::new(std::ffi::OsStr::from_bytes(target)).to_owned();
        if target.is_absolute() {
            self.begin_at(target)
        } else {
            self.add(&target);
            Ok(())
        }
    }

    fn turn(&mut self) -> Result<(), DiskError> {
        self.turns += 1;
        if self.turns > MAX_TURNS {
            return Err(self.failed(Errno::LOOP));
        }
        Ok(())
    }

    fn real_path(&self) -> PathBuf {
        let mut path = self.root.clone();
        path.extend(self.held.iter().skip(1).map(|held| &held.name));
        path.push(&self.name);
        path
    }

    fn failed(&self, error: Errno) -> DiskError {
        DiskError::io("open", self.asked)(io::Error::from(error))
    }

    fn outside(&self) -> DiskError {
        DiskError::Outside {
            path: self.asked.to_owned(),
        }
    }

    fn not_regular(&self) -> DiskError {
        DiskError::not_regular(self.asked)
    }
}

#[cfg(test)]
mod tests;
