//! A link and all its parents, read as the guest sees them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    files::{DiskFiles, Named, OwnFiles},
    layer::Layer,
    malformed,
};
use crate::{
    BlockRange, BlockSource, DiskError, OpenFile, RangeKind, open_file::Access,
    source::check_bounds,
};

/// How an error names this format.
const FORMAT: &str = "chain of VMDK deltas";
/// No product makes chains this long; guards against ever longer ones.
const MAX_LINKS: usize = 256;

/// A disk with all its links, newest first.
#[derive(Debug)]
pub struct Chain {
    layers: Vec<Arc<Layer>>,
    size_bytes: u64,
}

impl Chain {
    /// Opens the newest link at `path` and all its parents, read-only. A parent that is not where
    /// its delta says is looked for in `search_dirs`, then beside the delta. Nobody else may have chosen the
    /// names in the links: see [`open_in`](Self::open_in).
    ///
    /// # Errors
    /// Those of [`Layer::open`]; [`DiskError::ContentId`] where a parent was changed after its
    /// delta was made.
    pub fn open(path: impl AsRef<Path>, search_dirs: &[PathBuf]) -> Result<Self, DiskError> {
        let files = OwnFiles {
            search_dirs,
            access: Access::Read,
        };
        Self::open_in(OpenFile::at(path.as_ref())?, &files)
    }

    /// As [`open`](Self::open), with the files that `files` finds.
    ///
    /// # Errors
    /// As [`open`](Self::open), and what `files` says.
    pub fn open_in(newest: OpenFile, files: &dyn DiskFiles) -> Result<Self, DiskError> {
        let top = open_link(newest, files)?;
        let parents = open_parents(&top, files)?;
        let size_bytes = top.size_bytes();
        let mut layers = vec![top];
        layers.extend(parents);
        Ok(Self { layers, size_bytes })
    }

    /// The links, newest first; each can be read on its own.
    pub fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }
}

impl BlockSource for Chain {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn range_at(&self, offset_bytes: u64) -> Result<BlockRange, DiskError> {
        check_bounds(offset_bytes, 1, self.size_bytes)?;
        let mut merged = BlockRange {
            offset_bytes,
            len_bytes: self.size_bytes - offset_bytes,
            kind: RangeKind::Absent,
        };
        for layer in &self.layers {
            let range = layer.range_at(offset_bytes)?;
            merged.len_bytes = merged.len_bytes.min(range.len_bytes);
            merged.kind = range.kind;
            if range.kind != RangeKind::Absent {
                break;
            }
        }
        Ok(merged)
    }

    fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        check_bounds(offset_bytes, buf.len() as u64, self.size_bytes)?;
        read_links(&self.layers, offset_bytes, buf)
    }
}

/// Reads what the newest of some links shows; without links zeros.
pub(super) fn read_links(
    links: &[Arc<Layer>],
    offset_bytes: u64,
    buf: &mut [u8],
) -> Result<(), DiskError> {
    match links.split_first() {
        Some((top, below)) => read_through(top, below, offset_bytes, buf),
        None => {
            buf.fill(0);
            Ok(())
        }
    }
}

/// Reads `top`, and the links below it where `top` holds nothing.
pub(super) fn read_through(
    top: &Layer,
    below: &[Arc<Layer>],
    offset_bytes: u64,
    buf: &mut [u8],
) -> Result<(), DiskError> {
    let mut at = offset_bytes;
    let mut rest = buf;
    while !rest.is_empty() {
        let range = top.range_at(at)?;
        let len = range.len_bytes.min(rest.len() as u64);
        let (piece, tail) = rest.split_at_mut(len as usize);
        match range.kind {
            RangeKind::Data => top.read_at(at, piece)?,
            RangeKind::Zero => piece.fill(0),
            RangeKind::Absent => read_links(below, at, piece)?,
        }
        rest = tail;
        at += len;
    }
    Ok(())
}

fn open_link(opened: OpenFile, files: &dyn DiskFiles) -> Result<Arc<Layer>, DiskError> {
    if let Some(known) = files.known(opened.place().id()) {
        return Ok(known);
    }
    let link = Arc::new(Layer::open_in(opened, files)?);
    files.learn(&link);
    Ok(link)
}

/// Opens all links below `top`, newest first.
pub(super) fn open_parents(
    top: &Layer,
    files: &dyn DiskFiles,
) -> Result<Vec<Arc<Layer>>, DiskError> {
    let mut parents: Vec<Arc<Layer>> = Vec::new();
    let mut seen = vec![top.found().id()];
    loop {
        let child = parents.last().map_or(top, |layer| &**layer);
        let Some(expected) = child.descriptor().parent_content_id() else {
            return Ok(parents);
        };
        let opened = files.open(Named::Parent, hint_of(child)?, child.found())?;
        let (path, id) = (opened.path().to_owned(), opened.place().id());
        if seen.contains(&id) {
            return Err(malformed(
                top.path(),
                FORMAT,
                format!("{} is its own parent", path.display()),
            ));
        }
        let parent = open_link(opened, files)?;
        seen.push(id);
        if seen.len() > MAX_LINKS {
            return Err(malformed(
                top.path(),
                FORMAT,
                format!("it has more than {MAX_LINKS} links"),
            ));
        }
        check_content_id(child, &parent, expected)?;
        check_size(child, &parent)?;
        parents.push(parent);
    }
}

pub(super) fn check_content_id(
    child: &Layer,
    parent: &Layer,
    expected: u32,
) -> Result<(), DiskError> {
    let found = parent.descriptor().content_id();
    if found == expected {
        return Ok(());
    }
    Err(DiskError::ContentId {
        child: child.path().to_owned(),
        parent: parent.path().to_owned(),
        expected,
        found,
    })
}

pub(super) fn check_size(child: &Layer, parent: &Layer) -> Result<(), DiskError> {
    if child.size_bytes() == parent.size_bytes() {
        return Ok(());
    }
    Err(malformed(
        child.path(),
        FORMAT,
        format!(
            "it has {} bytes, but its parent {} has {}",
            child.size_bytes(),
            parent.path().display(),
            parent.size_bytes()
        ),
    ))
}

/// How a delta names its parent.
pub(super) fn hint_of(child: &Layer) -> Result<&str, DiskError> {
    child.descriptor().parent_hint().ok_or_else(|| {
        malformed(
            child.path(),
            FORMAT,
            "it is a delta but does not name its parent",
        )
    })
}
