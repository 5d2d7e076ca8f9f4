//! Verification: reads a restore point whole and reports everything that is not as it was written.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use parking_lot::Mutex;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use virtuozo_disk::DiskError;

use crate::{
    Authenticity, CopyObserver, FileEntry, Manifest, ManifestKeys, ReadBack, ReadManifest,
    Recorded, Repository, RepositoryError, Result,
    hash::{self, CHUNK_BYTES, Digest},
    names::{self, MANIFEST_NAME},
    read_back::FreshFile,
    stored::{PointFiles, unopened},
};

mod disks;

/// Threads that read and hash at the same time.
const THREADS: usize = 4;

/// One thing that is wrong with a restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Name of the file.
    pub file: String,
    /// Where in it, in bytes; none if the file as a whole is meant.
    pub offset_bytes: Option<u64>,
    /// What is wrong, as a sentence.
    pub what: String,
}

/// The outcome of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// No problem was found.
    pub ok: bool,
    /// Files of the manifest that were looked at.
    pub files_checked: usize,
    /// Bytes that were read and hashed.
    pub bytes: u64,
    /// All problems, by file and offset.
    pub problems: Vec<Problem>,
    /// Where the bytes came from, the weakest of all files; none: there were none to read.
    pub read_back: Option<ReadBack>,
    /// Whether somebody who has a key of this machine wrote the manifest; none: it cannot be read.
    pub authenticity: Option<Authenticity>,
    /// BLAKE3 of the manifest's text; none: it cannot be read.
    pub manifest_blake3: Option<Digest>,
}

impl Repository {
    /// Reads the restore point at `path` below the repository: every chunk's hash, file sizes, missing
    /// and unexpected files, that the disks are there and each chain opens, and that it is the one that the
    /// catalogue has `recorded`.
    ///
    /// # Errors
    /// [`RepositoryError::NotFound`] without such a directory, [`RepositoryError::Linked`], [`RepositoryError::NewerFormat`],
    /// [`RepositoryError::Stopped`]. Damage is no error: it is in the report.
    pub fn verify(
        &self,
        path: &Path,
        recorded: Option<&Recorded>,
        observer: &dyn CopyObserver,
    ) -> Result<VerifyReport> {
        names::check_point_path(path)?;
        verify_dir(&self.place(path)?, recorded, &self.keys, observer)
    }

    /// What is missing of the restore point at `path` that the catalogue has `recorded`, as far as that is seen without
    /// reading its files; none: it is there, and each file has its size.
    ///
    /// # Errors
    /// [`RepositoryError::NewerFormat`], [`RepositoryError::Io`].
    pub fn missing(&self, path: &Path, recorded: &Recorded) -> Result<Option<String>> {
        let found = match self.manifest(path) {
            Ok(found) => found,
            Err(error @ (RepositoryError::Damaged { .. } | RepositoryError::NotFound { .. })) => {
                return Ok(Some(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        if let Some(difference) = found.difference(recorded) {
            return Ok(Some(difference));
        }
        for entry in &found.manifest.files {
            let path = self.place(path)?.join(&entry.name);
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_file() && metadata.len() == entry.size_bytes => {}
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(RepositoryError::io("read the size of", path)(error));
                }
                _ => {
                    return Ok(Some(format!(
                        "{} is missing or has another size",
                        entry.name
                    )));
                }
            }
        }
        Ok(None)
    }
}

fn verify_dir(
    dir: &Path,
    recorded: Option<&Recorded>,
    keys: &ManifestKeys,
    observer: &dyn CopyObserver,
) -> Result<VerifyReport> {
    if !dir.is_dir() {
        return Err(RepositoryError::NotFound {
            what: "restore point",
            path: dir.to_owned(),
        });
    }
    let mut report = VerifyReport {
        ok: false,
        files_checked: 0,
        bytes: 0,
        problems: Vec::new(),
        read_back: None,
        authenticity: None,
        manifest_blake3: None,
    };
    let found = match ReadManifest::read(dir, keys) {
        Ok(found) => found,
        Err(error @ (RepositoryError::Damaged { .. } | RepositoryError::NotFound { .. })) => {
            report.problem(MANIFEST_NAME, None, error.to_string());
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    let stored = PointFiles::of(dir)?;
    report.authenticity = Some(found.authenticity.clone());
    report.manifest_blake3 = Some(found.blake3);
    if let Some(difference) = recorded.and_then(|recorded| found.difference(recorded)) {
        report.problem(MANIFEST_NAME, None, difference);
    }
    let manifest = found.manifest;
    report.find_unexpected(dir, &manifest)?;
    for entry in &manifest.files {
        report.check_file(&stored, &dir.join(&entry.name), entry, observer)?;
        report.files_checked += 1;
    }
    report.check_disks(&stored, &manifest);
    report.ok = report.problems.is_empty();
    Ok(report)
}

impl VerifyReport {
    fn problem(&mut self, file: &str, offset_bytes: Option<u64>, what: impl Into<String>) {
        self.problems.push(Problem {
            file: file.to_owned(),
            offset_bytes,
            what: what.into(),
        });
    }

    fn find_unexpected(&mut self, dir: &Path, manifest: &Manifest) -> Result<()> {
        let expected: HashSet<&str> = manifest
            .files
            .iter()
            .map(|file| file.name.as_str())
            .chain([MANIFEST_NAME])
            .collect();
        let entries = fs::read_dir(dir).map_err(RepositoryError::io("list", dir))?;
        for entry in entries {
            let name = entry
                .map_err(RepositoryError::io("list", dir))?
                .file_name()
                .to_string_lossy()
                .into_owned();
            if !expected.contains(name.as_str()) {
                self.problem(&name, None, "is not in the manifest");
            }
        }
        Ok(())
    }

    fn check_file(
        &mut self,
        stored: &PointFiles,
        path: &Path,
        entry: &FileEntry,
        observer: &dyn CopyObserver,
    ) -> Result<()> {
        let opened = match stored.open(&entry.name) {
            Ok(opened) => opened,
            Err(error) if error.is_not_found() => {
                self.problem(&entry.name, None, "is missing");
                return Ok(());
            }
            Err(DiskError::Unsupported { .. } | DiskError::Outside { .. }) => {
                self.problem(&entry.name, None, "is not a plain file");
                return Ok(());
            }
            Err(error) => return Err(unopened(path, error)),
        };
        let size_bytes = opened.size_bytes();
        if size_bytes != entry.size_bytes {
            self.problem(
                &entry.name,
                Some(size_bytes.min(entry.size_bytes)),
                format!("has {size_bytes} bytes instead of {}", entry.size_bytes),
            );
        }
        let checked = check_chunks(path, opened.file(), entry, observer, |_, _| Ok(()))?;
        self.bytes += checked.bytes;
        if entry.size_bytes > 0 {
            let read_back = self
                .read_back
                .map_or(checked.read_back, |so_far| so_far.min(checked.read_back));
            self.read_back = Some(read_back);
        }
        for (offset_bytes, what) in checked.bad {
            self.problem(&entry.name, Some(offset_bytes), what);
        }
        Ok(())
    }
}

/// What was found in the chunks of one file.
pub(crate) struct Checked {
    pub(crate) bytes: u64,
    /// Where they came from.
    pub(crate) read_back: ReadBack,
    /// Offset and what is wrong there, in order.
    pub(crate) bad: Vec<(u64, String)>,
}

/// Cores of this machine; the system is asked once, as it takes its time.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

/// Reads all chunks of a file, several at a time, and hands each that has its hash to `take` with its
/// offset.
pub(crate) fn check_chunks(
    path: &Path,
    file: &File,
    entry: &FileEntry,
    observer: &dyn CopyObserver,
    take: impl Fn(u64, &[u8]) -> Result<()> + Sync,
) -> Result<Checked> {
    let check = ChunkCheck {
        path: path.to_owned(),
        file: FreshFile::of(file),
        entry,
        observer,
        take,
        next: AtomicU64::new(0),
        done_bytes: AtomicU64::new(0),
        bad: Mutex::new(Vec::new()),
    };
    let threads = cores().min(THREADS).min(entry.chunks.len());
    observer.progress(entry.label(), 0, entry.size_bytes);
    thread::scope(|scope| {
        let mut helpers = Vec::new();
        for _ in 1..threads {
            helpers.push(
                thread::Builder::new()
                    .name("hash".to_owned())
                    .spawn_scoped(scope, || check.run())
                    .map_err(RepositoryError::io("start a thread to read", path))?,
            );
        }
        let mut outcome = check.run();
        for helper in helpers {
            let helped = helper
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcome = outcome.and(helped);
        }
        outcome
    })?;
    let mut bad = check.bad.into_inner();
    bad.sort_unstable();
    Ok(Checked {
        read_back: check.file.read_back,
        bytes: check.done_bytes.into_inner(),
        bad,
    })
}

struct ChunkCheck<'a, T> {
    path: PathBuf,
    file: FreshFile<'a>,
    entry: &'a FileEntry,
    observer: &'a dyn CopyObserver,
    take: T,
    next: AtomicU64,
    done_bytes: AtomicU64,
    bad: Mutex<Vec<(u64, String)>>,
}

impl<T: Fn(u64, &[u8]) -> Result<()> + Sync> ChunkCheck<'_, T> {
    fn run(&self) -> Result<()> {
        let outcome = self.claim_chunks();
        if outcome.is_err() {
            // The others end after the chunk they are at.
            self.next
                .store(self.entry.chunks.len() as u64, Ordering::Relaxed);
        }
        outcome
    }

    fn claim_chunks(&self) -> Result<()> {
        let mut buf = Vec::new();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let offset_bytes = index.saturating_mul(CHUNK_BYTES);
            let Some(expected) = self.entry.chunks.get(index as usize) else {
                return Ok(());
            };
            self.observer.wait_allowed()?;
            let rest_bytes = self.entry.size_bytes.saturating_sub(offset_bytes);
            let len_bytes = rest_bytes.min(CHUNK_BYTES);
            match self.file.read(offset_bytes, len_bytes as usize, &mut buf) {
                Ok(bytes) if self.fits(index, bytes, expected) => (self.take)(offset_bytes, bytes)?,
                Ok(_) => self.bad(offset_bytes, "does not have its hash".to_owned()),
                // A medium that cannot give the bytes back has lost them.
                Err(error) if is_loss(&error) => {
                    self.bad(offset_bytes, format!("cannot be read: {error}"));
                }
                Err(error) => return Err(RepositoryError::io("read", &self.path)(error)),
            }
            let done_bytes = self.done_bytes.fetch_add(len_bytes, Ordering::Relaxed) + len_bytes;
            self.observer
                .progress(self.entry.label(), done_bytes, self.entry.size_bytes);
        }
    }

    fn fits(&self, index: u64, bytes: &[u8], expected: &Digest) -> bool {
        // The hash of a file of one chunk does not follow from its chunk's.
        let whole = bytes.len() as u64 == self.entry.size_bytes;
        hash::hash_chunk(index, bytes) == *expected
            && (!whole || hash::hash_bytes(bytes).blake3 == self.entry.blake3)
    }

    fn bad(&self, offset_bytes: u64, what: String) {
        self.bad.lock().push((offset_bytes, what));
    }
}

fn is_loss(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof || Errno::from_io_error(error) == Some(Errno::IO)
}
