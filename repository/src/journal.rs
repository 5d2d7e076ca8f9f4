//! What a copy has made durable, noted beside it: a successor of the same instant takes that over
//! instead of reading it from the source once more.
//!
//! The journal lies in the partial directory and goes before the point is sealed. It only ever grows,
//! by lines; each line has a hash of its own, and reading ends at the first that is torn or damaged.
//! A line is written after what it tells of was synced. The bytes themselves are believed only where
//! a whole chunk of the stored file still has the hash that the journal gives.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Read, Write as _},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use virtuozo_disk::BlockSource;

use crate::{
    CopyObserver, Digest, FileFormat, FileSpec, NewPoint, PointMode, RepositoryError, Result,
    durable,
    hash::{self, CHUNK_BYTES},
    names::{self, JOURNAL_NAME},
};

/// The time between two checkpoints: what a crash costs at most, against one sync each.
pub(crate) const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);

/// How many blocks or chunks one line holds at most.
const LINE_ITEMS: usize = 512;

/// A longer line was not written by this program.
const LINE_LIMIT_BYTES: u64 = 1024 * 1024;

/// Hexadecimal digits of BLAKE3 before each line.
const CHECK_DIGITS: usize = 16;

/// The instant that is being copied: what is taken over must be of the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Subject {
    guest_run_id: Uuid,
    taken_at: DateTime<Utc>,
    mode: PointMode,
}

impl Subject {
    fn of(point: &NewPoint) -> Self {
        Self {
            guest_run_id: point.guest_run_id,
            taken_at: point.taken_at,
            mode: point.mode,
        }
    }
}

/// The file that the lines after this one are about, and the state of its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subfile {
    name: String,
    parent: Option<String>,
    capacity_bytes: u64,
    fingerprint: String,
}

impl Subfile {
    /// None for a source of which nobody can tell whether it has changed.
    pub(crate) fn of(spec: &FileSpec, source: &dyn BlockSource) -> Option<Self> {
        let parent = match &spec.format {
            FileFormat::Raw => None,
            FileFormat::Disk { parent, .. } => parent.clone(),
        };
        Some(Self {
            name: spec.name.clone(),
            parent,
            capacity_bytes: source.size_bytes(),
            fingerprint: source.fingerprint()?,
        })
    }
}

/// A block of the source and where its bytes went. What is not among the writes is zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Block {
    pub(crate) first_grain: u64,
    pub(crate) len_bytes: u64,
    /// Offset in the stored file, length, and offset in the block, in bytes.
    pub(crate) writes: Vec<(u64, u64, u64)>,
}

/// Something that was written, though perhaps not synced.
#[derive(Debug)]
pub(crate) enum Note {
    Block(Block),
    /// A whole chunk of the stored file and its hash.
    Chunk(u64, Digest),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Point(Subject),
    File(Subfile),
    Durable {
        blocks: Vec<Block>,
        chunks: Vec<(u64, Digest)>,
    },
}

/// Writes the journal of one partial point. The file comes into being with the first checkpoint, so
/// a short copy has none.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: Option<File>,
    every: Duration,
    due: Instant,
    /// Lines whose data is durable, or will be after the next sync of the present file.
    lines: Vec<Line>,
    blocks: Vec<Block>,
    chunks: Vec<(u64, Digest)>,
    /// Chunks of the present file that were noted.
    known: HashSet<u64>,
}

impl Journal {
    pub(crate) fn new(dir: &Path, point: &NewPoint) -> Self {
        Self {
            path: dir.join(JOURNAL_NAME),
            file: None,
            every: CHECKPOINT_EVERY,
            due: Instant::now() + CHECKPOINT_EVERY,
            lines: vec![Line::Point(Subject::of(point))],
            blocks: Vec::new(),
            chunks: Vec::new(),
            known: HashSet::new(),
        }
    }

    pub(crate) fn set_every(&mut self, every: Duration) {
        self.every = every;
        self.due = Instant::now() + every;
    }

    /// What is noted from now on is about this file.
    pub(crate) fn begin_file(&mut self, file: Subfile) {
        self.close_line();
        self.known.clear();
        self.lines.push(Line::File(file));
    }

    /// Takes notes about `data`, syncs it from time to time and writes them down then, until nobody
    /// has anything to tell any more.
    pub(crate) fn keep(
        &mut self,
        notes: &Receiver<Note>,
        data: &File,
        data_path: &Path,
        observer: &dyn CopyObserver,
    ) -> Result<()> {
        loop {
            let is_empty = self.blocks.is_empty() && self.chunks.is_empty();
            let wait = self.due.saturating_duration_since(Instant::now());
            let next = if is_empty {
                notes.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                notes.recv_timeout(wait)
            };
            match next {
                Ok(note) => self.add(note),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if Instant::now() >= self.due {
                data.sync_data()
                    .map_err(RepositoryError::io("sync", data_path))?;
                self.write_down()?;
                observer.durable();
            }
        }
    }

    fn add(&mut self, note: Note) {
        match note {
            Note::Block(block) => self.blocks.push(block),
            Note::Chunk(index, digest) if self.known.insert(index) => {
                self.chunks.push((index, digest));
            }
            Note::Chunk(..) => {}
        }
        if self.blocks.len() + self.chunks.len() >= LINE_ITEMS {
            self.close_line();
        }
    }

    fn close_line(&mut self) {
        let (blocks, chunks) = (
            std::mem::take(&mut self.blocks),
            std::mem::take(&mut self.chunks),
        );
        if !blocks.is_empty() || !chunks.is_empty() {
            self.lines.push(Line::Durable { blocks, chunks });
        }
    }

    /// The present file is complete and synced, with these hashes.
    pub(crate) fn end_file(&mut self, chunks: &[Digest]) -> Result<()> {
        for (index, digest) in (0..).zip(chunks) {
            self.add(Note::Chunk(index, *digest));
        }
        if Instant::now() >= self.due {
            self.write_down()?;
        }
        Ok(())
    }

    fn write_down(&mut self) -> Result<()> {
        self.close_line();
        let failed = |action| RepositoryError::io(action, &self.path);
        let mut text = String::new();
        for line in self.lines.drain(..) {
            let json = serde_json::to_string(&line)
                .map_err(std::io::Error::from)
                .map_err(failed("write"))?;
            text.push_str(&check_digits(json.as_bytes()));
            text.push(' ');
            text.push_str(&json);
            text.push('\n');
        }
        let is_new = self.file.is_none();
        let file = match &mut self.file {
            Some(file) => file,
            empty => empty.insert(
                OpenOptions::new()
                    .append(true)
                    .create_new(true)
                    .open(&self.path)
                    .map_err(failed("create"))?,
            ),
        };
        file.write_all(text.as_bytes()).map_err(failed("write"))?;
        file.sync_data().map_err(failed("sync"))?;
        if is_new && let Some(dir) = self.path.parent() {
            durable::sync_dir(dir)?;
        }
        self.due = Instant::now() + self.every;
        Ok(())
    }

    /// Takes the journal away: the point is about to be sealed.
    pub(crate) fn remove(self) -> Result<()> {
        match self.file {
            Some(_) => {
                fs::remove_file(&self.path).map_err(RepositoryError::io("remove", &self.path))
            }
            None => Ok(()),
        }
    }
}

fn check_digits(json: &[u8]) -> String {
    let mut digits = blake3::hash(json).to_hex().to_string();
    digits.truncate(CHECK_DIGITS);
    digits
}

/// What an earlier attempt has left of the same instant.
#[derive(Debug)]
pub(crate) struct Earlier {
    dir: PathBuf,
    files: HashMap<String, EarlierFile>,
    durable_bytes: u64,
}

#[derive(Debug)]
struct EarlierFile {
    about: Subfile,
    /// By their first grain, in order.
    blocks: Vec<Block>,
    chunks: HashMap<u64, Digest>,
}

impl Earlier {
    /// Looks through the guest's folder for attempts of this run under lower fences. The one that
    /// got furthest with the same instant is given; nobody needs the others, so they are removed.
    pub(crate) fn find(folder: &Path, point: &NewPoint) -> Result<Option<Self>> {
        let mut best: Option<Self> = None;
        for name in durable::dirs(folder)? {
            let earlier = names::parse_partial(&name)
                .is_some_and(|(run, fence)| run == point.guest_run_id && fence < point.fence);
            if !earlier {
                continue;
            }
            let dir = folder.join(name);
            let found = Self::read(&dir, point);
            let useless = match (found, &best) {
                (Some(found), Some(so_far)) if found.durable_bytes <= so_far.durable_bytes => {
                    Some(found.dir)
                }
                (Some(found), _) => best.replace(found).map(|so_far| so_far.dir),
                (None, _) => Some(dir),
            };
            if let Some(dir) = useless {
                discard(&dir);
            }
        }
        Ok(best)
    }

    /// None where there is no journal of this instant, or nothing in it.
    fn read(dir: &Path, point: &NewPoint) -> Option<Self> {
        let mut lines = BufReader::new(File::open(dir.join(JOURNAL_NAME)).ok()?);
        if !matches!(next_line(&mut lines)?, Line::Point(subject) if subject == Subject::of(point))
        {
            return None;
        }
        let mut earlier = Self {
            dir: dir.to_owned(),
            files: HashMap::new(),
            durable_bytes: 0,
        };
        let mut present: Option<EarlierFile> = None;
        while let Some(line) = next_line(&mut lines) {
            match (line, &mut present) {
                (Line::File(about), present) => {
                    let next = EarlierFile {
                        about,
                        blocks: Vec::new(),
                        chunks: HashMap::new(),
                    };
                    earlier.keep(present.replace(next));
                }
                (Line::Durable { blocks, chunks }, Some(file)) => {
                    file.chunks.extend(chunks);
                    for block in blocks {
                        if file
                            .blocks
                            .last()
                            .is_none_or(|last| last.first_grain < block.first_grain)
                        {
                            earlier.durable_bytes =
                                earlier.durable_bytes.saturating_add(block.len_bytes);
                            file.blocks.push(block);
                        }
                    }
                }
                (Line::Durable { .. } | Line::Point(_), _) => break,
            }
        }
        earlier.keep(present);
        (earlier.durable_bytes > 0).then_some(earlier)
    }

    fn keep(&mut self, file: Option<EarlierFile>) {
        if let Some(file) = file {
            self.files.insert(file.about.name.clone(), file);
        }
    }

    /// The bytes of this file that can be had, if its source is still what it was.
    pub(crate) fn file(&self, about: &Subfile) -> Option<TakeOver<'_>> {
        let earlier = self.files.get(&about.name)?;
        if earlier.about != *about {
            tracing::info!(
                file = about.name,
                "the source has changed since an earlier attempt; it is read from the start"
            );
            return None;
        }
        Some(TakeOver {
            stored: File::open(self.dir.join(&about.name)).ok()?,
            earlier,
            chunk: None,
        })
    }

    /// Removes it. A predecessor that still writes may be in the way; then a later sweep does it.
    pub(crate) fn discard(self) {
        discard(&self.dir);
    }
}

fn discard(dir: &Path) {
    if let Err(error) = durable::remove_dir(dir) {
        tracing::debug!(%error, "an earlier attempt is left to a later sweep");
    }
}

/// The next line; none at the end, or where the journal is torn or damaged.
fn next_line(lines: &mut impl BufRead) -> Option<Line> {
    let mut bytes = Vec::new();
    lines
        .by_ref()
        .take(LINE_LIMIT_BYTES)
        .read_until(b'\n', &mut bytes)
        .ok()?;
    let (check, json) = bytes.strip_suffix(b"\n")?.split_at_checked(CHECK_DIGITS)?;
    let json = json.strip_prefix(b" ")?;
    if check_digits(json).as_bytes() != check {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// Reads what an earlier attempt has stored of one file.
pub(crate) struct TakeOver<'a> {
    stored: File,
    earlier: &'a EarlierFile,
    /// The chunk that was read last, if it has its hash. The bytes are taken from here, so whoever
    /// still writes to the file changes nothing of what was checked.
    chunk: Option<(u64, Vec<u8>)>,
}

impl TakeOver<'_> {
    /// Fills `buf` with the block that begins with this grain. False: it cannot be had, and what is
    /// in `buf` means nothing.
    pub(crate) fn read(&mut self, first_grain: u64, buf: &mut [u8]) -> bool {
        let earlier = self.earlier;
        let Ok(at) = earlier
            .blocks
            .binary_search_by_key(&first_grain, |block| block.first_grain)
        else {
            return false;
        };
        let Some(block) = earlier.blocks.get(at) else {
            return false;
        };
        if block.len_bytes != buf.len() as u64 {
            return false;
        }
        buf.fill(0);
        block.writes.iter().all(|&(offset_bytes, len_bytes, from)| {
            let part = usize::try_from(from)
                .ok()
                .zip(usize::try_from(len_bytes).ok())
                .and_then(|(from, len)| buf.get_mut(from..from.checked_add(len)?));
            part.is_some_and(|part| self.read_stored(offset_bytes, part).is_some())
        })
    }

    fn read_stored(&mut self, offset_bytes: u64, mut part: &mut [u8]) -> Option<()> {
        let mut at = offset_bytes;
        while !part.is_empty() {
            let in_chunk = (at % CHUNK_BYTES) as usize;
            let chunk = self.chunk(at / CHUNK_BYTES)?.get(in_chunk..)?;
            let len = chunk.len().min(part.len());
            if len == 0 {
                return None;
            }
            let (now, rest) = part.split_at_mut(len);
            now.copy_from_slice(chunk.get(..len)?);
            part = rest;
            at = at.checked_add(len as u64)?;
        }
        Some(())
    }

    /// A chunk of the stored file that has the hash which the journal gives.
    fn chunk(&mut self, index: u64) -> Option<&[u8]> {
        if self.chunk.as_ref().is_none_or(|(last, _)| *last != index) {
            let digest = self.earlier.chunks.get(&index)?;
            let mut bytes = self
                .chunk
                .take()
                .map(|(_, bytes)| bytes)
                .unwrap_or_default();
            bytes.resize(CHUNK_BYTES as usize, 0);
            let len = read_up_to(&self.stored, index.checked_mul(CHUNK_BYTES)?, &mut bytes)?;
            bytes.truncate(len);
            if bytes.is_empty() || hash::hash_chunk(index, &bytes) != *digest {
                return None;
            }
            self.chunk = Some((index, bytes));
        }
        self.chunk.as_ref().map(|(_, bytes)| bytes.as_slice())
    }
}

/// Reads until the buffer is full or the file ends; how much that was.
fn read_up_to(file: &File, offset_bytes: u64, buf: &mut [u8]) -> Option<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset_bytes.checked_add(done as u64)?) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(done)
}
