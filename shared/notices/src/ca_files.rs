//! The file with issuers of certificates that the settings name: what of it this machine reads.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use virtuozo_disk::MachineRoots;
use virtuozo_store::workers;

/// The system's directories for certificates.
const SYSTEM: [&str; 4] = [
    "/etc/pki",
    "/etc/ssl",
    "/usr/local/share/ca-certificates",
    "/usr/share/ca-certificates",
];
/// The most that a file of issuers may hold.
const MAX_BYTES: u64 = 1 << 20;

/// The files of issuers that a machine reads: whoever writes to the database names one, but where it may lie the
/// machine's own configuration says.
#[derive(Debug, Clone)]
pub struct CaFiles {
    read_roots: MachineRoots,
}

impl Default for CaFiles {
    fn default() -> Self {
        Self::new(MachineRoots::new(
            "read_roots",
            workers::machine(),
            Vec::new(),
        ))
    }
}

impl CaFiles {
    /// Files below the machine's `read_roots`. The system's directories for certificates and the directory of the key file
    /// count always.
    pub fn new(read_roots: MachineRoots) -> Self {
        Self { read_roots }
    }

    /// Reads a file of at most 1 MiB, wherever links lead to it. Waits for nobody: what is no regular file is not opened.
    /// Blocks.
    ///
    /// # Errors
    /// Why this machine does not read it, as a sentence.
    pub(crate) fn read(&self, path: &Path, key_file: &Path) -> Result<Vec<u8>, String> {
        let failed = |e: io::Error| {
            format!(
                "the file {} (ca_file) cannot be read on the machine {}: {e}",
                path.display(),
                workers::machine()
            )
        };
        let refused = |why: &str| {
            format!(
                "the file {} (ca_file) {why} on the machine {}: name a file with certificates in PEM form with `virtuozo \
                 notice settings set ca_file`",
                path.display(),
                workers::machine()
            )
        };
        // Looked at before it is opened, since that alone has effects on some devices.
        let found = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| failed(e.into()))?;
        let stat = fstat(&found).map_err(|e| failed(e.into()))?;
        let itself = itself(&found);
        let real = fs::read_link(&itself).map_err(failed)?;
        if !self.hold(&real, key_file) {
            return Err(format!(
                "{}. Files of certificates (ca_file) may also lie beside its key file, {}, or below {}",
                self.read_roots.refusal("read", path),
                key_file.display(),
                SYSTEM.join(", ")
            ));
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(refused("is no regular file"));
        }
        let file = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32)
            .open(&itself)
            .map_err(failed)?;
        match read_bounded(file).map_err(failed)? {
            Some(bytes) => Ok(bytes),
            None => Err(refused("is larger than 1 MiB")),
        }
    }

    fn hold(&self, real: &Path, key_file: &Path) -> bool {
        let lies_below = |directory: &Path| {
            let directory = directory.canonicalize();
            directory.is_ok_and(|it| it.parent().is_some() && real.starts_with(it))
        };
        self.read_roots.hold(real)
            || SYSTEM.iter().any(|one| lies_below(Path::new(one)))
            || key_file.parent().is_some_and(lies_below)
    }
}

/// The name by which an open file is opened again, whatever has become of its path.
fn itself(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// A file's content; none: it is too large.
fn read_bounded(file: File) -> io::Result<Option<Vec<u8>>> {
    if file.metadata()?.len() > MAX_BYTES {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_BYTES).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, mknodat};
    use tempfile::TempDir;

    use super::*;

    fn read(files: &CaFiles, path: &Path) -> Result<Vec<u8>, String> {
        files.read(path, Path::new("/nowhere/key"))
    }

    #[test]
    fn only_a_small_regular_file_is_read() {
        let dir = TempDir::new().unwrap();
        let file = |name: &str, len: u64| {
            let path = dir.path().join(name);
            File::create(&path).unwrap().set_len(len).unwrap();
            path
        };
        let all = CaFiles::default();
        assert_eq!(read(&all, &file("fits", MAX_BYTES)).unwrap().len(), 1 << 20);
        let link = dir.path().join("link");
        symlink(dir.path().join("fits"), &link).unwrap();
        assert!(read(&all, &link).is_ok(), "links are followed");
        let pipe = dir.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        for (path, words) in [
            (file("large", MAX_BYTES + 1), "larger than 1 MiB"),
            (file("sparse", 1 << 40), "larger than 1 MiB"),
            (pipe, "no regular file"),
            (dir.path().to_owned(), "no regular file"),
            (dir.path().join("gone"), "cannot be read"),
        ] {
            let why = read(&all, &path).unwrap_err();
            for part in [words, path.to_str().unwrap(), &workers::machine()] {
                assert!(why.contains(part), "{part}: {why}");
            }
        }
    }

    #[test]
    fn a_file_elsewhere_than_the_machine_allows_is_not_read() {
        let dir = TempDir::new().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        for one in [&inside, &outside] {
            fs::create_dir(one).unwrap();
            fs::write(one.join("ca.pem"), "issuer").unwrap();
        }
        symlink(outside.join("ca.pem"), inside.join("link")).unwrap();
        let roots = MachineRoots::new("read_roots", workers::machine(), vec![inside.clone()]);
        let bounded = CaFiles::new(roots);
        assert!(read(&bounded, &inside.join("ca.pem")).is_ok());
        for path in [
            outside.join("ca.pem"),
            inside.join("link"),
            "/etc/passwd".into(),
        ] {
            let why = read(&bounded, &path).unwrap_err();
            for part in ["read_roots", "/etc/ssl", &workers::machine()] {
                assert!(why.contains(part), "{part}: {why}");
            }
        }
        let beside = bounded.read(&outside.join("ca.pem"), &outside.join("key"));
        assert!(beside.is_ok(), "it lies beside the key file");
        for path in ["/etc/passwd", "/dev/zero", "/proc/self/environ"] {
            let why = read(&CaFiles::default(), Path::new(path)).unwrap_err();
            assert!(why.contains("read_roots"), "{why}");
        }
    }
}
