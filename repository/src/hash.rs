//! BLAKE3 per chunk and per file from one pass, in whatever order the file is written.
//!
//! A chunk's hash is its chaining value in the BLAKE3 tree of the whole file (BLAKE3 paper, §2.1), so
//! the file's hash, the one `b3sum` prints, is merged from the chunks' without reading anything twice.

use std::{fmt, io};

use blake3::{
    Hasher,
    hazmat::{HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Bytes in one chunk of a stored file. A power of two, so that each chunk is a subtree.
pub const CHUNK_BYTES: u64 = 4 * 1024 * 1024;

const CHUNK_LEN: usize = CHUNK_BYTES as usize;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// A BLAKE3 hash or chaining value; written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        // One spelling, so that no changed byte of a manifest goes unnoticed.
        let read = hex::decode_to_slice(&text, &mut bytes);
        let digest = Self(bytes);
        if read.is_err() || digest.to_string() != text {
            return Err(D::Error::custom(
                "a BLAKE3 hash has 64 hexadecimal digits in lower case",
            ));
        }
        Ok(digest)
    }
}

/// The hashes of one stored file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileHash {
    pub(crate) blake3: Digest,
    pub(crate) chunks: Vec<Digest>,
}

/// Is every byte zero?
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Comparing slices becomes memcmp, which is fast in unoptimised builds too.
    bytes
        .chunks(ZEROS.len())
        .all(|part| ZEROS.get(..part.len()) == Some(part))
}

/// How many chunks a file of this size has.
pub(crate) fn chunk_count(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(CHUNK_BYTES)
}

/// Hashes bytes that are a whole file.
pub(crate) fn hash_bytes(bytes: &[u8]) -> FileHash {
    FileHash {
        blake3: Digest(*blake3::hash(bytes).as_bytes()),
        chunks: bytes
            .chunks(CHUNK_LEN)
            .zip(0..)
            .map(|(part, index)| hash_chunk(index, part))
            .collect(),
    }
}

/// The chaining value of the chunk with this index. `bytes` is not empty and at most a chunk long.
pub(crate) fn hash_chunk(index: u64, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(index * CHUNK_BYTES);
    hasher.update(bytes);
    Digest(hasher.finalize_non_root())
}

/// The whole file's hash from its chunks'. None where it cannot be had from them: a file of at most
/// one chunk (its hash is another one than its chunk's), or a wrong number of chunks.
pub(crate) fn merge(chunks: &[Digest], size_bytes: u64) -> Option<Digest> {
    if chunks.len() < 2 || chunks.len() as u64 != chunk_count(size_bytes) {
        return None;
    }
    let (left, right, left_bytes) = split(chunks, size_bytes)?;
    let left = subtree(left, left_bytes)?;
    let right = subtree(right, size_bytes - left_bytes)?;
    let root = merge_subtrees_root(&left, &right, Mode::Hash);
    Some(Digest(*root.as_bytes()))
}

fn subtree(chunks: &[Digest], len_bytes: u64) -> Option<[u8; 32]> {
    if let [chunk] = chunks {
        return Some(chunk.0);
    }
    let (left, right, left_bytes) = split(chunks, len_bytes)?;
    Some(merge_subtrees_non_root(
        &subtree(left, left_bytes)?,
        &subtree(right, len_bytes - left_bytes)?,
        Mode::Hash,
    ))
}

fn split(chunks: &[Digest], len_bytes: u64) -> Option<(&[Digest], &[Digest], u64)> {
    let left_bytes = left_subtree_len(len_bytes);
    let (left, right) = chunks.split_at_checked((left_bytes / CHUNK_BYTES) as usize)?;
    Some((left, right, left_bytes))
}

/// Hashes a file while it is written, chunk by chunk. What was not seen in order from a chunk's
/// beginning is read again at the end.
pub(crate) struct ChunkHasher {
    hasher: Hasher,
    at: u64,
    /// The current chunk was seen from its beginning up to `at`.
    whole: bool,
    chunks: Vec<Option<Digest>>,
    gaps_are_zero: bool,
}

impl ChunkHasher {
    /// `gaps_are_zero`: bytes that are skipped by feeding further on stay holes.
    pub(crate) fn new(gaps_are_zero: bool) -> Self {
        Self {
            hasher: Hasher::new(),
            at: 0,
            whole: true,
            chunks: Vec::new(),
            gaps_are_zero,
        }
    }

    /// These bytes were written at this offset.
    pub(crate) fn feed(&mut self, offset_bytes: u64, bytes: &[u8]) {
        if offset_bytes < self.at {
            self.forget(offset_bytes, bytes.len() as u64);
            return;
        }
        if offset_bytes > self.at {
            self.skip_to(offset_bytes);
        }
        self.take(bytes);
    }

    /// The chunks from `first` on that were seen whole, and where to look next time.
    pub(crate) fn whole_since(&self, first: usize) -> (Vec<(u64, Digest)>, usize) {
        let whole = (first as u64..)
            .zip(self.chunks.iter().skip(first))
            .filter_map(|(index, digest)| digest.map(|digest| (index, digest)))
            .collect();
        (whole, self.chunks.len())
    }

    /// Something was written here that was not fed: these chunks must be read again.
    pub(crate) fn forget(&mut self, offset_bytes: u64, len_bytes: u64) {
        let first = offset_bytes / CHUNK_BYTES;
        let end = chunk_count(offset_bytes + len_bytes);
        let (known, touched) = (self.chunks.len(), first as usize..end as usize);
        if let Some(slots) = self.chunks.get_mut(touched.start..touched.end.min(known)) {
            slots.fill(None);
        }
        if (first..end).contains(&(self.at / CHUNK_BYTES)) {
            self.whole = false;
        }
    }

    fn skip_to(&mut self, offset_bytes: u64) {
        if self.gaps_are_zero {
            while self.at < offset_bytes {
                let len = (offset_bytes - self.at).min(ZEROS.len() as u64) as usize;
                self.take(ZEROS.get(..len).unwrap_or_default());
            }
        } else {
            self.at = offset_bytes;
            self.begin_chunk();
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = (CHUNK_BYTES - self.at % CHUNK_BYTES) as usize;
            let (part, rest) = bytes.split_at(room.min(bytes.len()));
            if self.whole {
                self.hasher.update(part);
            }
            self.at += part.len() as u64;
            bytes = rest;
            if self.at.is_multiple_of(CHUNK_BYTES) {
                self.end_chunk(self.at / CHUNK_BYTES - 1);
                self.begin_chunk();
            }
        }
    }

    fn begin_chunk(&mut self) {
        self.whole = self.at.is_multiple_of(CHUNK_BYTES);
        self.hasher = Hasher::new();
        if self.whole {
            self.hasher.set_input_offset(self.at);
        }
    }

    fn end_chunk(&mut self, index: u64) {
        let index = index as usize;
        if self.chunks.len() <= index {
            self.chunks.resize(index + 1, None);
        }
        let digest = self.whole.then(|| Digest(self.hasher.finalize_non_root()));
        if let Some(slot) = self.chunks.get_mut(index) {
            *slot = digest;
        }
    }

    /// The hashes of the file, which is now `size_bytes` long; `read` fills a buffer from an offset
    /// of it.
    pub(crate) fn finish(
        mut self,
        size_bytes: u64,
        mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<FileHash> {
        if size_bytes <= CHUNK_BYTES {
            let mut bytes = vec![0; size_bytes as usize];
            read(0, &mut bytes)?;
            return Ok(hash_bytes(&bytes));
        }
        if self.gaps_are_zero && self.at < size_bytes {
            self.skip_to(size_bytes);
        }
        if self.at == size_bytes && !size_bytes.is_multiple_of(CHUNK_BYTES) {
            self.end_chunk(size_bytes / CHUNK_BYTES);
        }
        self.chunks.resize(chunk_count(size_bytes) as usize, None);
        let mut buf = Vec::new();
        let mut chunks = Vec::with_capacity(self.chunks.len());
        for (digest, index) in self.chunks.into_iter().zip(0..) {
            chunks.push(match digest {
                Some(digest) => digest,
                None => {
                    let offset = index * CHUNK_BYTES;
                    buf.resize((size_bytes - offset).min(CHUNK_BYTES) as usize, 0);
                    read(offset, &mut buf)?;
                    hash_chunk(index, &buf)
                }
            });
        }
        let blake3 = merge(&chunks, size_bytes)
            .ok_or_else(|| io::Error::other("the chunks' hashes do not make a whole file's"))?;
        Ok(FileHash { blake3, chunks })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 31 / 7) as u8).collect()
    }

    fn read_from(bytes: &[u8]) -> impl FnMut(u64, &mut [u8]) -> io::Result<()> + '_ {
        |offset, buf| {
            buf.copy_from_slice(&bytes[offset as usize..][..buf.len()]);
            Ok(())
        }
    }

    #[test]
    fn a_hash_has_one_spelling() {
        let digest = Digest(*blake3::hash(b"one").as_bytes());
        let written = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&written).unwrap(), digest);
        let shorter = format!("{}\"", &written[..written.len() - 2]);
        for other in [written.to_uppercase(), shorter] {
            assert!(serde_json::from_str::<Digest>(&other).is_err(), "{other}");
        }
    }

    #[test]
    fn merged_chunks_give_the_hash_of_the_whole() {
        for len in [
            0,
            1,
            CHUNK_LEN - 1,
            CHUNK_LEN,
            CHUNK_LEN + 1,
            3 * CHUNK_LEN,
            5 * CHUNK_LEN + 7,
        ] {
            let bytes = bytes(len);
            let hash = hash_bytes(&bytes);
            assert_eq!(hash.chunks.len() as u64, chunk_count(len as u64));
            if len > CHUNK_LEN {
                assert_eq!(merge(&hash.chunks, len as u64), Some(hash.blake3), "{len}");
            }
        }
    }

    #[test]
    fn a_wrong_number_of_chunks_has_no_hash() {
        let hash = hash_bytes(&bytes(3 * CHUNK_LEN));
        assert_eq!(merge(&hash.chunks, 2 * CHUNK_BYTES), None);
        assert_eq!(merge(&hash.chunks, 3 * CHUNK_BYTES + 1), None);
        assert_eq!(merge(&[], 0), None);
    }

    #[test]
    fn a_digest_that_is_not_hexadecimal_is_refused() {
        assert!(serde_json::from_str::<Digest>("\"zz\"").is_err());
        let digest = hash_bytes(b"x").blake3;
        let text = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
    }

    #[test]
    fn zero_is_told_from_almost_zero() {
        let mut bytes = vec![0; 200_000];
        assert!(is_zero(&bytes));
        assert!(is_zero(&[]));
        for at in [0, 65_535, 65_536, 199_999] {
            bytes[at] = 1;
            assert!(!is_zero(&bytes));
            bytes[at] = 0;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_order_of_writing_gives_the_hash_of_the_whole(
            writes in proptest::collection::vec((0..5 * CHUNK_LEN, 1..CHUNK_LEN), 1..8),
            order in proptest::collection::vec(any::<bool>(), 8),
        ) {
            let mut file = Vec::new();
            let mut hasher = ChunkHasher::new(false);
            for (number, (offset, len)) in writes.iter().enumerate() {
                if file.len() < offset + len {
                    file.resize(offset + len, 0);
                }
                let part = vec![number as u8 + 1; *len];
                file[*offset..offset + len].copy_from_slice(&part);
                if order[number] {
                    hasher.feed(*offset as u64, &part);
                } else {
                    hasher.forget(*offset as u64, *len as u64);
                }
            }
            let hash = hasher.finish(file.len() as u64, read_from(&file)).unwrap();
            prop_assert_eq!(hash, hash_bytes(&file));
        }

        #[test]
        fn gaps_count_as_zeros(
            mut starts in proptest::collection::vec(0..6 * CHUNK_LEN, 1..6),
            tail in 0..2 * CHUNK_LEN,
        ) {
            starts.sort_unstable();
            let mut file = Vec::new();
            let mut hasher = ChunkHasher::new(true);
            for start in starts {
                if start >= file.len() {
                    file.resize(start, 0);
                    file.extend([7; 1000]);
                    hasher.feed(start as u64, &[7; 1000]);
                }
            }
            file.resize(file.len() + tail, 0);
            let size = file.len() as u64;
            let refuse = |offset, buf: &mut [u8]| {
                // Only a file of one chunk is read again.
                assert!(size <= CHUNK_BYTES);
                read_from(&file)(offset, buf)
            };
            prop_assert_eq!(hasher.finish(size, refuse).unwrap(), hash_bytes(&file));
        }
    }
}
