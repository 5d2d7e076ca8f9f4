//! Below which directories a machine's own configuration lets work read, or write.

use std::{
    fmt, io,
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The system's own directories, where nothing is read or written that others name unless the configuration
/// says so.
const SYSTEM: [&str; 15] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root",
    "/run", "/sbin", "/sys", "/usr", "/var",
];
/// Places in those where guests and backups are kept nevertheless.
const IN_SYSTEM: [&str; 6] = [
    "/root/vmware",
    "/run/media",
    "/var/backups",
    "/var/lib/vmware",
    "/var/lib/virtuozo/repository",
    "/var/tmp",
];

/// Directories that a machine's own configuration names, under one of its settings. Without any, all but those
/// of the system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRoots {
    setting: String,
    machine: String,
    named: Vec<PathBuf>,
    own: Vec<PathBuf>,
    restore_points: Option<RestorePoints>,
}

/// What tells the directory of a restore point from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePoints {
    /// Names of files of which such a directory has one.
    pub files: Vec<String>,
    /// A file in the repository, three directories above.
    pub marker: String,
}

impl MachineRoots {
    /// The directories `named` under `setting` on this machine.
    pub fn new(
        setting: impl Into<String>,
        machine: impl Into<String>,
        named: Vec<PathBuf>,
    ) -> Self {
        Self {
            setting: setting.into(),
            machine: machine.into(),
            named,
            own: Vec::new(),
            restore_points: None,
        }
    }

    /// The same directories, but for the files and directories of the program itself (its key, its database) and for the
    /// directories of restore points: nothing of those is read or written for others, wherever they lie.
    #[must_use]
    pub fn without(self, own: Vec<PathBuf>, restore_points: RestorePoints) -> Self {
        Self {
            own,
            restore_points: Some(restore_points),
            ..self
        }
    }

    /// What belongs to the program itself.
    pub(crate) fn own(&self) -> &[PathBuf] {
        &self.own
    }

    /// What tells directories of restore points, of which nothing is read.
    pub(crate) fn restore_points(&self) -> Option<&RestorePoints> {
        self.restore_points.as_ref()
    }

    /// A directory that may be named.
    ///
    /// # Errors
    /// Why it may not, as a part of a sentence.
    pub fn parse(text: &str) -> Result<PathBuf, String> {
        let path = Path::new(text);
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return Err(format!("{text:?} is not an absolute path without \"..\""));
        }
        if path.parent().is_none() {
            return Err("the root of the file system would allow everything".to_owned());
        }
        Ok(path.to_owned())
    }

    /// Whether a path without links lies below one of the directories, and is none of the program's own.
    pub fn hold(&self, real: &Path) -> bool {
        !self.is_own(real) && self.hold_of_any(real)
    }

    fn is_own(&self, real: &Path) -> bool {
        self.own.iter().any(|own| {
            real.starts_with(own) || own.canonicalize().is_ok_and(|own| real.starts_with(own))
        })
    }

    fn hold_of_any(&self, real: &Path) -> bool {
        let is_in = |all: &[&str]| all.iter().any(|directory| real.starts_with(directory));
        if self.named.is_empty() {
            return real.parent().is_some() && (!is_in(&SYSTEM) || is_in(&IN_SYSTEM));
        }
        self.named.iter().any(|root| {
            real.starts_with(root)
                || root
                    .canonicalize()
                    .is_ok_and(|root| root.parent().is_some() && real.starts_with(root))
        })
    }

    /// Whether a path lies below one of the directories when its links are followed, as far as it is there.
    /// Blocks.
    ///
    /// # Errors
    /// The path cannot be looked at.
    pub fn hold_place(&self, path: &Path) -> io::Result<bool> {
        let is_plain = |part: Component<'_>| {
            matches!(
                part,
                Component::Normal(_) | Component::RootDir | Component::CurDir
            )
        };
        if !path.is_absolute() || !path.components().all(is_plain) {
            return Ok(false);
        }
        for there in path.ancestors() {
            match there.canonicalize() {
                Ok(real) => {
                    let below = path.strip_prefix(there).unwrap_or(Path::new(""));
                    return Ok(self.hold(&real.join(below)));
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    // A link that leads nowhere would be followed when the path is made.
                    if there.is_symlink() {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// What to say of a path that they do not hold; `what` is what is not done with it, such as "read". Blocks.
    pub fn refusal(&self, what: &str, path: &Path) -> String {
        let real = path.ancestors().find_map(|there| there.canonicalize().ok());
        if real.is_some_and(|real| self.is_own(&real)) {
            return self.refusal_of_own(what, path);
        }
        format!(
            "the machine {} does not {what} {}: it lies below none of its {} ({self}); whoever may configure \
             that machine can add the directory there",
            self.machine,
            path.display(),
            self.setting
        )
    }
}

impl MachineRoots {
    /// What to say of a path that leads to what belongs to the program itself.
    pub(crate) fn refusal_of_own(&self, what: &str, path: &Path) -> String {
        format!(
            "the machine {} does not {what} {}: it belongs to Virtuozo itself (its key, its configuration, its database, or a \
             restore point), whatever {} says",
            self.machine,
            path.display(),
            self.setting
        )
    }
}

impl fmt::Display for MachineRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.named.is_empty() {
            return f.write_str("all directories but those of the system");
        }
        let named: Vec<String> = self
            .named
            .iter()
            .map(|root| root.display().to_string())
            .collect();
        f.write_str(&named.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn roots(named: &[&Path]) -> MachineRoots {
        let named = named.iter().map(|path| path.to_path_buf()).collect();
        MachineRoots::new("read_roots", "rack2", named)
    }

    #[test]
    fn without_names_everything_is_held_but_the_system() {
        let all = roots(&[]);
        for path in [
            "/srv/vm",
            "/mnt/a",
            "/home/me/vm",
            "/vm",
            "/run/media/me/usb",
            "/var/lib/vmware/x",
        ] {
            assert!(all.hold(Path::new(path)), "{path}");
        }
        for path in [
            "/",
            "/etc",
            "/etc/virtuozo",
            "/proc/self",
            "/root/.ssh",
            "/usr/share",
            "/var/lib/postgresql",
        ] {
            assert!(!all.hold(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn with_names_only_what_lies_below_them_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        fs::create_dir_all(real.join("in/sub")).unwrap();
        fs::create_dir(real.join("out")).unwrap();
        symlink(real.join("out"), real.join("in/link")).unwrap();
        symlink(real.join("gone"), real.join("in/dangling")).unwrap();
        symlink(real.join("in"), real.join("alias")).unwrap();
        let held = |root: &str, path: &str| {
            let root = real.join(root);
            roots(&[&root]).hold_place(&real.join(path)).unwrap()
        };
        for path in ["in", "in/sub", "in/new/below", "in/link/../sub"] {
            assert_eq!(held("in", path), !path.contains(".."), "{path}");
        }
        for path in [
            "out",
            "in/link",
            "in/link/x",
            "in/dangling",
            "in/dangling/x",
            "inside",
            "",
        ] {
            assert!(!held("in", path), "{path}");
        }
        assert!(held("alias", "in/sub") && held("alias", "alias/sub"));
        let why = roots(&[&real.join("in")]).refusal("read", Path::new("/etc"));
        assert!(why.contains("rack2") && why.contains("read_roots"), "{why}");
    }

    #[test]
    fn the_root_of_the_file_system_may_not_be_named() {
        assert!(MachineRoots::parse("/").is_err());
        assert!(MachineRoots::parse("//").is_err());
        assert!(MachineRoots::parse("srv").is_err());
        assert!(MachineRoots::parse("/srv/..").is_err());
        assert_eq!(MachineRoots::parse("/srv").unwrap(), Path::new("/srv"));
    }
}
