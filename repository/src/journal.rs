//! The journal of a copy: which parts are durable. A later attempt that copies the same instant takes them over instead of
//! reading them from the source again.
//!
//! The journal lies in the partial directory and is deleted before the point is sealed. Lines are only appended; each has
//! a hash, and reading ends at the first torn or damaged line. A line is written after the data that it describes was
//! synced. Data is taken over only if a whole chunk of the stored file has the hash in the journal.

mod earlier;

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use virtuozo_disk::BlockSource;

pub(crate) use self::earlier::{Earlier, TakeOver};
use crate::{
    Access, CopyObserver, Digest, FileFormat, FileSpec, ManifestKeys, NewPoint, PointMode,
    RepositoryError, Result, durable, names::JOURNAL_NAME,
};

/// The time between two checkpoints. A crash loses at most this much work; each checkpoint costs a sync.
pub(crate) const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);

/// How many blocks or chunks one line holds at most.
const LINE_ITEMS: usize = 512;

/// Hexadecimal digits of its code before each line.
const CODE_DIGITS: usize = 32;

/// The codes of the lines of a journal. Each is over all lines so far, so none is left out, moved, or of another journal;
/// and where the site has a key nobody else can make one, as the manifest will say what the journal does.
#[derive(Debug)]
struct LineCodes(blake3::Hasher);

impl LineCodes {
    fn new(keys: &ManifestKeys) -> Self {
        Self(keys.journal_hasher())
    }

    /// The code of the next line.
    fn next(&mut self, json: &[u8]) -> String {
        self.0.update(json).update(b"\n");
        let mut digits = self.0.finalize().to_hex().to_string();
        digits.truncate(CODE_DIGITS);
        digits
    }
}

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
    /// `None` for a source whose changes cannot be detected.
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
    access: Access,
    codes: LineCodes,
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
    pub(crate) fn new(dir: &Path, point: &NewPoint, access: Access, keys: &ManifestKeys) -> Self {
        Self {
            path: dir.join(JOURNAL_NAME),
            access,
            codes: LineCodes::new(keys),
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

    /// Receives notes about `data`; syncs it from time to time, and appends the notes then, until the senders are dropped.
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
                observer.sync_begins(data_path);
                data.sync_data()
                    .map_err(RepositoryError::io("sync", data_path))?;
                observer.sync_ended();
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
            text.push_str(&self.codes.next(json.as_bytes()));
            text.push(' ');
            text.push_str(&json);
            text.push('\n');
        }
        let is_new = self.file.is_none();
        let file = match &mut self.file {
            Some(file) => file,
            empty => empty.insert(
                self.access
                    .create_file(&self.path)
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

    /// Deletes the journal, before the point is sealed.
    pub(crate) fn remove(self) -> Result<()> {
        match self.file {
            Some(_) => {
                fs::remove_file(&self.path).map_err(RepositoryError::io("remove", &self.path))
            }
            None => Ok(()),
        }
    }
}
