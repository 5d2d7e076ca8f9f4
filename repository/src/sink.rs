//! The target file of the copy engine: a sparse VMDK or a plain file, with a log of its writes.

use std::{cell::RefCell, fs::File, io, mem, path::Path, path::PathBuf, rc::Rc};

use virtuozo_disk::vmdk::{ParentLink, SparseOptions, SparseWriter, WriteAt};

use crate::{
    Access, FileFormat, FileSpec, RepositoryError, Result, durable, grains::GRAIN_BYTES,
    journal::Earlier,
};

/// The writes since the log was last taken: offset and length in bytes.
type Log = Rc<RefCell<Vec<(u64, u64)>>>;

/// Where a file is to be stored.
pub(crate) struct Target<'a> {
    /// The restore point's directory.
    pub(crate) dir: &'a Path,
    /// Who may read it.
    pub(crate) access: Access,
    /// Content id of the disk, if it is one.
    pub(crate) content_id: u32,
    /// The stored parent, for a delta.
    pub(crate) parent: Option<ParentLink>,
    /// The partial copy of an earlier attempt.
    pub(crate) earlier: Option<&'a Earlier>,
}

/// One write to the stored file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// Offset in the file.
    pub(crate) offset_bytes: u64,
    /// Length.
    pub(crate) len_bytes: u64,
    /// Offset of the bytes in the block; `None` if they are not from it.
    pub(crate) from: Option<usize>,
}

/// A file that logs its writes, because only the writer of the disk knows where it puts a grain.
struct LoggedFile {
    file: File,
    log: Log,
}

impl WriteAt for LoggedFile {
    fn write_at(&mut self, offset_bytes: u64, buf: &[u8]) -> io::Result<()> {
        self.file.write_at(offset_bytes, buf)?;
        self.log.borrow_mut().push((offset_bytes, buf.len() as u64));
        Ok(())
    }
}

enum Format {
    Raw {
        file: LoggedFile,
        size_bytes: u64,
    },
    Vmdk {
        disk: SparseWriter<LoggedFile>,
        is_delta: bool,
    },
}

/// A file of a restore point while it is written.
pub(crate) struct Sink {
    format: Format,
    log: Log,
    name: String,
    path: PathBuf,
    data_bytes: u64,
}

impl Sink {
    /// Creates the file. Also returns a handle to sync it while it is written.
    pub(crate) fn create(
        path: &Path,
        target: &Target<'_>,
        spec: &FileSpec,
        size_bytes: u64,
    ) -> Result<(Self, File)> {
        let log = Log::default();
        let file = durable::create_file(path, target.access)?;
        let data = file
            .try_clone()
            .map_err(RepositoryError::io("open", path))?;
        let file = LoggedFile {
            file,
            log: Rc::clone(&log),
        };
        let format = match &spec.format {
            FileFormat::Raw => Format::Raw { file, size_bytes },
            FileFormat::Disk { parent, properties } => {
                let options = SparseOptions {
                    file_name: spec.name.clone(),
                    capacity_bytes: size_bytes,
                    content_id: target.content_id,
                    parent: target.parent.clone(),
                    ddb: properties.disk_database(),
                    ..SparseOptions::default()
                };
                let disk = SparseWriter::new(file, path, &options)
                    .map_err(|source| unwritable(&spec.name, source))?;
                Format::Vmdk {
                    disk,
                    is_delta: parent.is_some(),
                }
            }
        };
        let sink = Self {
            format,
            log,
            name: spec.name.clone(),
            path: path.to_owned(),
            data_bytes: 0,
        };
        Ok((sink, data))
    }

    /// Whether unwritten parts stay holes, which read as zeros.
    pub(crate) fn holes_stay(&self) -> bool {
        matches!(self.format, Format::Raw { .. })
    }

    /// Stores grains of zeros.
    pub(crate) fn zeros(&mut self, first_grain: u64, grains: u64) -> Result<()> {
        if let Format::Vmdk {
            disk,
            is_delta: true,
        } = &mut self.format
        {
            for grain in first_grain..first_grain + grains {
                disk.zero_grain(grain)
                    .map_err(|source| unwritable(&self.name, source))?;
            }
        }
        Ok(())
    }

    /// Stores adjacent grains; bit n of `zero_grains` is set if the n-th is all zero. Returns the writes.
    pub(crate) fn write(
        &mut self,
        first_grain: u64,
        bytes: &[u8],
        zero_grains: u32,
    ) -> Result<Vec<Write>> {
        let mut writes = Vec::new();
        let mut from = 0;
        for (grain, number) in bytes.chunks(GRAIN_BYTES as usize).zip(0_u32..) {
            let index = first_grain + u64::from(number);
            if zero_grains & (1 << number) == 0 {
                match &mut self.format {
                    Format::Raw { file, .. } => file
                        .write_at(index * GRAIN_BYTES, grain)
                        .map_err(RepositoryError::io("write", &self.path))?,
                    Format::Vmdk { disk, .. } => disk
                        .write_grain(index, grain)
                        .map_err(|source| unwritable(&self.name, source))?,
                }
                self.data_bytes += grain.len() as u64;
                self.note(from, grain.len() as u64, &mut writes);
            } else {
                self.zeros(index, 1)?;
            }
            from += grain.len();
        }
        Ok(writes)
    }

    /// Completes the file. Returns it, the bytes of data in it, and the last writes.
    pub(crate) fn finish(self) -> Result<(File, u64, Vec<Write>)> {
        let file = match self.format {
            Format::Raw { file, size_bytes } => {
                file.file
                    .set_len(size_bytes)
                    .map_err(RepositoryError::io("set the size of", &self.path))?;
                file.file
            }
            Format::Vmdk { disk, .. } => {
                disk.finish()
                    .map_err(|source| unwritable(&self.name, source))?
                    .file
            }
        };
        let writes = self
            .log
            .take()
            .into_iter()
            .map(|(offset_bytes, len_bytes)| Write {
                offset_bytes,
                len_bytes,
                from: None,
            })
            .collect();
        Ok((file, self.data_bytes, writes))
    }

    /// Moves the log of one grain into `writes`, joining adjacent ones.
    fn note(&mut self, from: usize, grain_bytes: u64, writes: &mut Vec<Write>) {
        let logged = mem::take(&mut *self.log.borrow_mut());
        // One write of exactly the grain: its bytes went there as they are.
        let plain = matches!(logged.as_slice(), [(_, len_bytes)] if *len_bytes == grain_bytes);
        for (offset_bytes, len_bytes) in logged {
            let from = plain.then_some(from);
            match writes.last_mut() {
                Some(last)
                    if plain
                        && last.offset_bytes + last.len_bytes == offset_bytes
                        && last
                            .from
                            .map(|last_from| last_from + last.len_bytes as usize)
                            == from =>
                {
                    last.len_bytes += len_bytes;
                }
                _ => writes.push(Write {
                    offset_bytes,
                    len_bytes,
                    from,
                }),
            }
        }
    }
}

fn unwritable(name: &str, source: virtuozo_disk::DiskError) -> RepositoryError {
    RepositoryError::Stored {
        name: name.to_owned(),
        source,
    }
}
