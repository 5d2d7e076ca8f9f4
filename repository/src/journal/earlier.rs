//! Reads the journal of an earlier attempt, and the blocks of its partial copy that can be taken over.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{Block, CODE_DIGITS, Line, LineCodes, Subfile, Subject};
use crate::{
    Digest, ManifestKeys, NewPoint, Result, durable,
    hash::{self, CHUNK_BYTES},
    names::{self, JOURNAL_NAME},
    stored::PointFiles,
};

/// A longer line was not written by this program.
const LINE_LIMIT_BYTES: u64 = 1024 * 1024;

/// The partial copy of an earlier attempt at the same instant.
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
    /// Finds the partial copies of this run under lower fences. Returns the one that has most of the same instant, and
    /// removes the others.
    pub(crate) fn find(
        folder: &Path,
        point: &NewPoint,
        keys: &ManifestKeys,
    ) -> Result<Option<Self>> {
        let mut best: Option<Self> = None;
        for name in durable::dirs(folder)? {
            let earlier = names::parse_partial(&name)
                .is_some_and(|(run, fence)| run == point.guest_run_id && fence < point.fence);
            if !earlier {
                continue;
            }
            let dir = folder.join(name);
            let found = Self::read(&dir, point, keys);
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

    /// `None` if there is no journal of this instant by a holder of the site's key, or it is empty.
    fn read(dir: &Path, point: &NewPoint, keys: &ManifestKeys) -> Option<Self> {
        let mut codes = LineCodes::new(keys);
        let mut lines = BufReader::new(
            PointFiles::of(dir)
                .ok()?
                .open_own(JOURNAL_NAME)
                .ok()?
                .into_file(),
        );
        if !matches!(next_line(&mut lines, &mut codes)?, Line::Point(subject) if subject == Subject::of(point))
        {
            return None;
        }
        let mut earlier = Self {
            dir: dir.to_owned(),
            files: HashMap::new(),
            durable_bytes: 0,
        };
        let mut present: Option<EarlierFile> = None;
        while let Some(line) = next_line(&mut lines, &mut codes) {
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

    /// The stored part of this file, if its source has not changed since.
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
            stored: PointFiles::of(&self.dir)
                .ok()?
                .open(&about.name)
                .ok()?
                .into_file(),
            earlier,
            chunk: None,
        })
    }

    /// Removes it. If the earlier attempt still writes, that may fail; a later sweep removes it then.
    pub(crate) fn discard(self) {
        discard(&self.dir);
    }
}

fn discard(dir: &Path) {
    if let Err(error) = durable::remove_dir(dir) {
        tracing::debug!(%error, "partial copy of an earlier attempt could not be removed; a later sweep removes it");
    }
}

/// The next line; none at the end, or where the journal is torn, damaged or by somebody else.
fn next_line(lines: &mut impl BufRead, codes: &mut LineCodes) -> Option<Line> {
    let mut bytes = Vec::new();
    lines
        .by_ref()
        .take(LINE_LIMIT_BYTES)
        .read_until(b'\n', &mut bytes)
        .ok()?;
    let (code, json) = bytes.strip_suffix(b"\n")?.split_at_checked(CODE_DIGITS)?;
    let json = json.strip_prefix(b" ")?;
    if codes.next(json).as_bytes() != code {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// Reads what an earlier attempt has stored of one file.
pub(crate) struct TakeOver<'a> {
    stored: File,
    earlier: &'a EarlierFile,
    /// The chunk that was read last, if it has its hash. Blocks are taken from this buffer, so that a process which still
    /// writes to the file cannot change checked bytes.
    chunk: Option<(u64, Vec<u8>)>,
}

impl TakeOver<'_> {
    /// Fills `buf` with the block that begins at this grain. Returns whether it could; otherwise the content of `buf` is
    /// meaningless.
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
