//! Who may read what is stored or restored: the modes of files and directories, whatever the umask of the process.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use rustix::{
    fs::{Mode, fchmod},
    io::Errno,
};
use serde::{Deserialize, Serialize};

/// Who besides their owner may read the files of restore points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Nobody: files have the mode 0600, directories 0700.
    #[default]
    Owner,
    /// The group: files have the mode 0640, directories 0750.
    Group,
}

impl Access {
    /// The access that the setting `group_may_read` gives.
    pub fn of_group(may_read: bool) -> Self {
        if may_read { Self::Group } else { Self::Owner }
    }

    fn file_mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o640,
        }
    }

    fn dir_mode(self) -> u32 {
        match self {
            Self::Owner => 0o700,
            Self::Group => 0o750,
        }
    }

    /// Creates a file that must not exist, for reading and writing.
    pub(crate) fn create_file(self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(self.file_mode())
            .open(path)?;
        set_mode(&file, self.file_mode())?;
        Ok(file)
    }

    /// Creates one directory that must not exist.
    pub(crate) fn create_dir(self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(self.dir_mode()).create(path)?;
        // What was just made is opened again: where somebody has put a link in its place, that is refused.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::DIRECTORY;
        let made = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits() as i32)
            .open(path);
        match made {
            Ok(made) => set_mode(&made, self.dir_mode()),
            // A umask that takes its own owner's rights away.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                rustix::fs::chmod(path, Mode::from_raw_mode(self.dir_mode())).map_err(Into::into)
            }
            Err(error) => Err(error),
        }
    }
}

/// Sets a mode that the umask may have cut. File systems without modes refuse that, or have the same for all.
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    match fchmod(file, Mode::from_raw_mode(mode)) {
        Err(Errno::PERM | Errno::NOTSUP | Errno::INVAL | Errno::NOSYS) => Ok(()),
        outcome => Ok(outcome?),
    }
}
