//! Verification: reads a restore point whole and reports everything that is not as it was written.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use parking_lot::Mutex;
use rustix::io::Errno;
use serde::Serialize;
use virtuozo_disk::{BlockSource, DiskError, vmdk::Chain};

use crate::{
    CopyObserver, FileEntry, Manifest, Repository, RepositoryError, Result, StoredFormat,
    hash::{self, CHUNK_BYTES, Digest},
    names::{self, MANIFEST_NAME},
    stored::{PointFiles, unopened},
};

/// Threads that read and hash at the same time.
const THREADS: usize = 4;

/// One thing that is wrong with a restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Name of the file.
    pub file: String,
    /// Where in it, in bytes; none if the file as a whole is meant.
    pub offset_bytes: Option<u64>,
    /// What is wrong, as a sentence.
    pub what: String,
}

/// The outcome of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// No problem was found.
    pub ok: bool,
    /// Files of the manifest that were looked at.
    pub files_checked: usize,
    /// Bytes that were read and hashed.
    pub bytes: u64,
    /// All problems, by file and offset.
    pub problems: Vec<Problem>,
}

impl Repository {
    /// Reads the restore point at `path` below the repository: every chunk's hash, file sizes, missing
    /// and unexpected files, and that each disk chain opens.
    ///
    /// # Errors
    /// [`RepositoryError::NotFound`] without such a directory, [`RepositoryError::NewerFormat`],
    /// [`RepositoryError::Stopped`]. Damage is no error: it is in the report.
    pub fn verify(&self, path: &Path, observer: &dyn CopyObserver) -> Result<VerifyReport> {
        names::check_point_path(path)?;
        verify_dir(&self.root().join(path), observer)
    }
}

fn verify_dir(dir: &Path, observer: &dyn CopyObserver) -> Result<VerifyReport> {
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
    };
    let manifest = match Manifest::read(dir) {
        Ok(manifest) => manifest,
        Err(error @ (RepositoryError::Damaged { .. } | RepositoryError::NotFound { .. })) => {
            report.problem(MANIFEST_NAME, None, error.to_string());
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    let stored = PointFiles::of(dir)?;
    report.find_unexpected(dir, &manifest)?;
    for entry in &manifest.files {
        report.check_file(&stored, &dir.join(&entry.name), entry, observer)?;
        report.files_checked += 1;
    }
    report.check_chains(&stored, &manifest);
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
        for (offset_bytes, what) in checked.bad {
            self.problem(&entry.name, Some(offset_bytes), what);
        }
        Ok(())
    }

    /// Each chain is opened at its newest link, so every link is opened.
    fn check_chains(&mut self, stored: &PointFiles, manifest: &Manifest) {
        let parents: HashSet<&str> = manifest
            .files
            .iter()
            .filter_map(|file| file.parent.as_deref())
            .collect();
        let disks = manifest
            .files
            .iter()
            .filter(|file| file.format == StoredFormat::Vmdk);
        for entry in disks.filter(|file| !parents.contains(file.name.as_str())) {
            match stored.chain(&entry.name) {
                Ok(chain) => self.check_links(&chain, entry, manifest),
                Err(error) => self.problem(
                    &entry.name,
                    None,
                    format!("does not open as a disk: {error}"),
                ),
            }
        }
    }

    fn check_links(&mut self, chain: &Chain, newest: &FileEntry, manifest: &Manifest) {
        if chain.size_bytes() != newest.capacity_bytes {
            self.problem(
                &newest.name,
                None,
                format!(
                    "is a disk of {} bytes instead of {}",
                    chain.size_bytes(),
                    newest.capacity_bytes
                ),
            );
        }
        let mut expected = Some(newest);
        for layer in chain.layers() {
            let found = layer.path().file_name().and_then(|name| name.to_str());
            if found != expected.map(|file| file.name.as_str()) {
                self.problem(
                    &newest.name,
                    None,
                    format!(
                        "has {} in its chain, unlike the manifest",
                        layer.path().display()
                    ),
                );
                return;
            }
            let parent = expected.and_then(|file| file.parent.as_deref());
            expected = parent.and_then(|name| manifest.files.iter().find(|file| file.name == name));
        }
        if let Some(missing) = expected {
            self.problem(
                &newest.name,
                None,
                format!(
                    "does not have {} in its chain, unlike the manifest",
                    missing.name
                ),
            );
        }
    }
}

/// What was found in the chunks of one file.
pub(crate) struct Checked {
    pub(crate) bytes: u64,
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
        file,
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
        bytes: check.done_bytes.into_inner(),
        bad,
    })
}

struct ChunkCheck<'a, T> {
    path: PathBuf,
    file: &'a File,
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
            buf.resize(
                self.entry
                    .size_bytes
                    .saturating_sub(offset_bytes)
                    .min(CHUNK_BYTES) as usize,
                0,
            );
            match self.file.read_exact_at(&mut buf, offset_bytes) {
                Ok(()) if self.fits(index, &buf, expected) => (self.take)(offset_bytes, &buf)?,
                Ok(()) => self.bad(offset_bytes, "does not have its hash".to_owned()),
                // A medium that cannot give the bytes back has lost them.
                Err(error) if is_loss(&error) => {
                    self.bad(offset_bytes, format!("cannot be read: {error}"));
                }
                Err(error) => return Err(RepositoryError::io("read", &self.path)(error)),
            }
            let len_bytes = buf.len() as u64;
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
