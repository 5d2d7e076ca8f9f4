//! The copy engine: reads what a source holds, drops zeros, stores and hashes, each on its own thread.
//!
//! ```text
//! reader ──blocks──▶ writer (the caller's thread) ──what was written where──▶ hasher ──notes──▶ journal
//!    ▲                                                                          │
//!    └──────────────────────────── empty buffers ◀──────────────────────────────┘
//! ```
//!
//! The buffers bound the memory: the reader waits until the hasher gives one back.

use std::{
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread,
};

use virtuozo_disk::{BlockSource, RangeKind, vmdk::Chain};

use crate::{
    CopyObserver, FileEntry, FileFormat, FileSpec, RepositoryError, Result, StoredFormat,
    grains::{self, GRAIN_BYTES, Run, RunKind},
    hash::{ChunkHasher, is_zero},
    journal::{Block as NotedBlock, Journal, Note, Subfile, TakeOver},
    plan,
    sink::{Sink, Target, Write},
    stored::PointFiles,
};

/// What is read at once: large enough that hand-overs cost nothing, small enough to stay in the cache.
const BLOCK_GRAINS: u64 = 16;

/// Buffers of one block each that are on their way.
const BUFFERS: usize = 8;

/// A file that was stored.
pub(crate) struct StoredFile {
    pub(crate) entry: FileEntry,
    /// How much of it was taken over from an earlier attempt instead of being read from the source.
    pub(crate) resumed_bytes: u64,
}

/// Copies `source` into a new file below `target.dir` and syncs it.
pub(crate) fn store(
    target: &Target<'_>,
    journal: &mut Journal,
    spec: &FileSpec,
    source: &dyn BlockSource,
    observer: &dyn CopyObserver,
) -> Result<StoredFile> {
    let path = target.dir.join(&spec.name);
    let total_bytes = plan::read_bytes(spec, source)?;
    let (mut sink, data) = Sink::create(&path, target, spec, source.size_bytes())?;
    let holes_stay = sink.holes_stay();
    let about = Subfile::of(spec, source);
    let is_noted = about.is_some();
    let take_over = about.as_ref().and_then(|about| target.earlier?.file(about));
    if let Some(about) = about {
        journal.begin_file(about);
    }
    let (note, notes) = channel();
    let note = is_noted.then_some(note);

    let (empty, empties) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // Cannot fail: the receiver exists and its buffer is not full.
        let _ = empty.send(Vec::new());
    }
    let (filled, blocks) = sync_channel(BUFFERS);
    let (stored, to_hash) = sync_channel(BUFFERS);
    let reader = Reader {
        spec,
        source,
        observer,
        below: target
            .parent
            .as_ref()
            .map(|parent| (target.dir.to_owned(), parent.hint.clone())),
        parent: None,
        take_over,
        empties,
        filled,
    };
    let mut resumed_bytes = 0;
    let (file, data_bytes, hasher) = thread::scope(|scope| {
        let hashing = thread::Builder::new()
            .name("copy-hash".to_owned())
            .spawn_scoped(scope, move || {
                hash(holes_stay, &to_hash, &empty, note.as_ref())
            })
            .map_err(RepositoryError::io("start a thread to hash", &path))?;
        let keeping = thread::Builder::new()
            .name("copy-journal".to_owned())
            .spawn_scoped(scope, {
                let (journal, path) = (&mut *journal, &path);
                move || journal.keep(&notes, &data, path, observer)
            })
            .map_err(RepositoryError::io("start a thread to sync", &path))?;
        thread::Builder::new()
            .name("copy-read".to_owned())
            .spawn_scoped(scope, move || reader.run())
            .map_err(RepositoryError::io("start a thread to read for", &path))?;
        let mut copied_bytes = 0;
        observer.progress(spec.label(), copied_bytes, total_bytes);
        for block in blocks {
            match block? {
                Block::Zeros(run) => sink.zeros(run.first_grain, run.grains)?,
                Block::Data(data) => {
                    copied_bytes += data.bytes.len() as u64;
                    if data.is_resumed {
                        resumed_bytes += data.bytes.len() as u64;
                    }
                    let writes = sink.write(data.first_grain, &data.bytes, data.zero_grains)?;
                    // Fails only if the hasher panicked, which joining it reports.
                    let _ = stored.send(Stored {
                        first_grain: Some(data.first_grain),
                        bytes: data.bytes,
                        writes,
                    });
                    observer.progress(spec.label(), copied_bytes, total_bytes);
                }
            }
        }
        let (file, data_bytes, writes) = sink.finish()?;
        let _ = stored.send(Stored {
            first_grain: None,
            bytes: Vec::new(),
            writes,
        });
        drop(stored);
        let hasher = hashing
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        keeping
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, RepositoryError>((file, data_bytes, hasher))
    })?;

    let size_bytes = file
        .metadata()
        .map_err(RepositoryError::io("read the size of", &path))?
        .len();
    let hash = hasher
        .finish(size_bytes, |offset, buf| file.read_exact_at(buf, offset))
        .map_err(RepositoryError::io("read back", &path))?;
    observer.sync_begins(&path);
    file.sync_all()
        .map_err(RepositoryError::io("sync", &path))?;
    observer.sync_ended();
    if is_noted {
        journal.end_file(&hash.chunks)?;
    }
    let (format, parent) = match &spec.format {
        FileFormat::Raw => (StoredFormat::Raw, None),
        FileFormat::Disk { parent, .. } => (StoredFormat::Vmdk, parent.clone()),
    };
    let entry = FileEntry {
        name: spec.name.clone(),
        device: spec.device.clone(),
        format,
        parent,
        size_bytes,
        capacity_bytes: source.size_bytes(),
        data_bytes,
        blake3: hash.blake3,
        chunks: hash.chunks,
    };
    Ok(StoredFile {
        entry,
        resumed_bytes,
    })
}

/// A part of the source, in order.
enum Block {
    /// Grains known to be zero.
    Zeros(Run),
    /// Grains that were read.
    Data(DataBlock),
}

struct DataBlock {
    first_grain: u64,
    bytes: Vec<u8>,
    /// Bit n: the n-th grain of the block is all zero.
    zero_grains: u32,
    /// Taken over from an earlier attempt, not read from the source.
    is_resumed: bool,
}

/// Bytes that were written, and where which of them went.
struct Stored {
    /// Where the block begins in the source; none for what completes the file.
    first_grain: Option<u64>,
    bytes: Vec<u8>,
    writes: Vec<Write>,
}

fn hash(
    holes_stay: bool,
    to_hash: &Receiver<Stored>,
    empty: &SyncSender<Vec<u8>>,
    note: Option<&Sender<Note>>,
) -> ChunkHasher {
    let mut hasher = ChunkHasher::new(holes_stay);
    let mut noted_chunks = 0;
    for Stored {
        first_grain,
        bytes,
        writes,
    } in to_hash
    {
        for write in &writes {
            let part = write
                .from
                .and_then(|from| bytes.get(from..from + write.len_bytes as usize));
            match part {
                Some(part) => hasher.feed(write.offset_bytes, part),
                None => hasher.forget(write.offset_bytes, write.len_bytes),
            }
        }
        // What completes the file changes chunks once more: those are noted when it is done.
        if let (Some(first_grain), Some(note)) = (first_grain, note) {
            let (chunks, next) = hasher.whole_since(noted_chunks);
            noted_chunks = next;
            let chunks = chunks
                .into_iter()
                .map(|(index, digest)| Note::Chunk(index, digest));
            let block = block_of(first_grain, bytes.len() as u64, &writes).map(Note::Block);
            for one in block.into_iter().chain(chunks) {
                // Fails only if syncing failed, which joining that thread reports.
                let _ = note.send(one);
            }
        }
        // Fails once the reader has read everything.
        let _ = empty.send(bytes);
    }
    hasher
}

/// None where something was written that is not in the block as it is, such as a filled-up last grain.
fn block_of(first_grain: u64, len_bytes: u64, writes: &[Write]) -> Option<NotedBlock> {
    let writes: Option<Vec<_>> = writes
        .iter()
        .map(|write| Some((write.offset_bytes, write.len_bytes, write.from? as u64)))
        .collect();
    Some(NotedBlock {
        first_grain,
        len_bytes,
        writes: writes?,
    })
}

struct Reader<'a> {
    spec: &'a FileSpec,
    source: &'a dyn BlockSource,
    observer: &'a dyn CopyObserver,
    /// Directory and name of the stored parent.
    below: Option<(PathBuf, String)>,
    parent: Option<Chain>,
    take_over: Option<TakeOver<'a>>,
    empties: Receiver<Vec<u8>>,
    filled: SyncSender<Result<Block>>,
}

impl Reader<'_> {
    /// Ends early where nobody takes the blocks any more.
    fn run(mut self) {
        let mut at = 0;
        for run in grains::runs(self.source) {
            let run = match run.map_err(self.spec.unreadable(at)) {
                Ok(run) => run,
                Err(error) => {
                    let _ = self.filled.send(Err(error));
                    return;
                }
            };
            at = run.first_grain * GRAIN_BYTES;
            if run.kind == RunKind::Zero {
                if self.spec.is_delta() && self.filled.send(Ok(Block::Zeros(run))).is_err() {
                    return;
                }
                continue;
            }
            let end = run.first_grain + run.grains;
            for first_grain in (run.first_grain..end).step_by(BLOCK_GRAINS as usize) {
                let grains = (end - first_grain).min(BLOCK_GRAINS);
                let block = Run {
                    first_grain,
                    grains,
                    kind: run.kind,
                };
                let Ok(buf) = self.empties.recv() else { return };
                let outcome = self.read(block, buf).map(Block::Data);
                let failed = outcome.is_err();
                if self.filled.send(outcome).is_err() || failed {
                    return;
                }
            }
        }
    }

    fn read(&mut self, run: Run, mut bytes: Vec<u8>) -> Result<DataBlock> {
        self.observer.wait_allowed()?;
        let offset_bytes = run.first_grain * GRAIN_BYTES;
        bytes.resize(run.len_bytes(self.source.size_bytes()) as usize, 0);
        let is_resumed = self
            .take_over
            .as_mut()
            .is_some_and(|earlier| earlier.read(run.first_grain, &mut bytes));
        if !is_resumed {
            self.source
                .read_at(offset_bytes, &mut bytes)
                .map_err(self.spec.unreadable(offset_bytes))?;
            if run.kind == RunKind::Mixed && self.spec.is_delta() {
                self.fill_from_parent(offset_bytes, &mut bytes)?;
            }
        }
        let zero_grains = bytes
            .chunks(GRAIN_BYTES as usize)
            .enumerate()
            .fold(0, |zeros, (number, grain)| {
                zeros | (u32::from(is_zero(grain)) << number)
            });
        Ok(DataBlock {
            first_grain: run.first_grain,
            bytes,
            zero_grains,
            is_resumed,
        })
    }

    /// A delta stores whole grains. Where the source's are smaller, the rest of a grain comes from the
    /// parent, as it would when a guest writes into a part of it.
    fn fill_from_parent(&mut self, offset_bytes: u64, bytes: &mut [u8]) -> Result<()> {
        let end = offset_bytes + bytes.len() as u64;
        let mut at = offset_bytes;
        while at < end {
            let range = self.source.range_at(at).map_err(self.spec.unreadable(at))?;
            let next = range.end_bytes().min(end);
            if range.kind == RangeKind::Absent
                && let Some(hole) =
                    bytes.get_mut((at - offset_bytes) as usize..(next - offset_bytes) as usize)
            {
                self.read_parent(at, hole)?;
            }
            at = next;
        }
        Ok(())
    }

    fn read_parent(&mut self, offset_bytes: u64, buf: &mut [u8]) -> Result<()> {
        let stored = |source| RepositoryError::Stored {
            name: self.spec.name.clone(),
            source,
        };
        let parent = match (&mut self.parent, &self.below) {
            (Some(parent), _) => parent,
            (empty, Some((dir, name))) => {
                empty.insert(PointFiles::of(dir)?.chain(name).map_err(stored)?)
            }
            (None, None) => return Ok(()),
        };
        parent.read_at(offset_bytes, buf).map_err(stored)
    }
}
