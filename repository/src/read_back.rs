//! Reading what was stored from the medium, and not from the memory that it was written through.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{Advice, OFlags, fadvise, fcntl_getfl, fcntl_setfl, fstatfs},
    io::{Errno, ReadWriteFlags, preadv2},
};
use serde::{Deserialize, Serialize};

/// Direct reads begin, end, and lie in memory at multiples of this.
const ALIGNMENT: usize = 4096;

/// Where the bytes of a verification came from; the weaker is the lesser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadBack {
    /// Perhaps from the memory of this machine.
    Cache,
    /// From the server of a network file system, perhaps from its memory.
    Server,
    /// From the device that they are stored on.
    Medium,
}

impl ReadBack {
    /// The word for it in the database and in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Server => "server",
            Self::Medium => "medium",
        }
    }
}

/// A stored file that is read past the memory of this machine, where the place allows.
pub(crate) struct FreshFile<'a> {
    file: &'a File,
    is_direct: AtomicBool,
    /// Where its bytes come from.
    pub(crate) read_back: ReadBack,
}

impl<'a> FreshFile<'a> {
    /// Drops what the machine has of a synced file in memory, and reads directly from now on where the file system can.
    pub(crate) fn of(file: &'a File) -> Self {
        // What is not dropped is noticed below.
        let _ = fadvise(file, 0, None, Advice::DontNeed);
        let is_direct = set_direct(file, true);
        Self {
            file,
            is_direct: AtomicBool::new(is_direct),
            read_back: read_back(file, is_direct),
        }
    }

    /// Reads exactly `len_bytes` at a multiple of the chunk size.
    ///
    /// # Errors
    /// As [`FileExt::read_exact_at`].
    pub(crate) fn read<'b>(
        &self,
        offset_bytes: u64,
        len_bytes: usize,
        buf: &'b mut Vec<u8>,
    ) -> io::Result<&'b [u8]> {
        let room = len_bytes.next_multiple_of(ALIGNMENT);
        buf.resize(room + ALIGNMENT, 0);
        let start = buf.as_ptr().align_offset(ALIGNMENT);
        let aligned = buf
            .get_mut(start..)
            .and_then(|rest| rest.get_mut(..room))
            .ok_or(io::ErrorKind::OutOfMemory)?;
        match self.fill(offset_bytes, len_bytes, aligned) {
            // The device wants another alignment.
            Err(error)
                if Errno::from_io_error(&error) == Some(Errno::INVAL)
                    && self.is_direct.swap(false, Ordering::Relaxed) =>
            {
                set_direct(self.file, false);
                self.fill(offset_bytes, len_bytes, aligned)?;
            }
            outcome => outcome?,
        }
        aligned
            .get(..len_bytes)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Fills the beginning of `aligned`, which is longer than `len_bytes` up to the alignment.
    fn fill(&self, offset_bytes: u64, len_bytes: usize, aligned: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < len_bytes {
            let rest = aligned.get_mut(done..).unwrap_or_default();
            match self.file.read_at(rest, offset_bytes + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether the file is read directly then.
fn set_direct(file: &File, direct: bool) -> bool {
    let set = fcntl_getfl(file).and_then(|mut flags| {
        flags.set(OFlags::DIRECT, direct);
        fcntl_setfl(file, flags)
    });
    set.is_ok() && direct
}

/// Where a file's bytes come from, once its memory was dropped.
fn read_back(file: &File, is_direct: bool) -> ReadBack {
    let Ok(place) = fstatfs(file) else {
        return ReadBack::Cache;
    };
    let fresh = is_direct || !is_in_memory(file);
    match place.f_type as u32 {
        // tmpfs, ramfs, hugetlbfs: memory is all there is. ZFS keeps a memory of its own.
        0x0102_1994 | 0x8584_58f6 | 0x9584_58f6 | 0x2fc1_2fc1 => ReadBack::Cache,
        _ if !fresh => ReadBack::Cache,
        // NFS, SMB (three numbers), FUSE, 9p, Ceph, AFS (two numbers), Coda, NCP.
        0x6969 | 0x517b | 0xff53_4d42 | 0xfe53_4d42 | 0x6573_5546 | 0x0102_1997 | 0x00c3_6400
        | 0x5346_414f | 0x6b41_4653 | 0x7375_7245 | 0x564c => ReadBack::Server,
        _ => ReadBack::Medium,
    }
}

/// Whether the beginning of a file, which is not read directly, is in memory; also where the system does not say.
fn is_in_memory(file: &File) -> bool {
    let mut byte = [0];
    let read = preadv2(
        file,
        &mut [IoSliceMut::new(&mut byte)],
        0,
        ReadWriteFlags::NOWAIT,
    );
    read != Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_is_read_as_it_is_at_any_length_and_its_end_is_told() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..10_001_u32).map(|at| (at * 7) as u8).collect();
        file.write_all(&bytes).unwrap();
        file.sync_all().unwrap();
        let fresh = FreshFile::of(&file);
        let mut buf = Vec::new();
        for (offset, len) in [(0, 10_001), (0, 1), (4096, 5905), (8192, 1809)] {
            let read = fresh.read(offset as u64, len, &mut buf).unwrap();
            assert_eq!(read, &bytes[offset..offset + len]);
        }
        for (offset, len) in [(0, 10_002), (12_288, 1)] {
            let error = fresh.read(offset, len, &mut buf).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn what_is_read_from_the_medium_is_not_taken_from_memory() {
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all(&vec![7; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        assert!(is_in_memory(&file), "what was just written is in memory");
        let read_back = FreshFile::of(&file).read_back;
        set_direct(&file, false);
        assert_eq!(is_in_memory(&file), read_back == ReadBack::Cache);
    }

    #[test]
    fn the_weaker_is_the_lesser() {
        assert!(ReadBack::Cache < ReadBack::Server && ReadBack::Server < ReadBack::Medium);
    }
}
