//! Makes new disks and deltas that hold nothing yet.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use super::{
    layer::Layer,
    template::{ParentLink, Template, TemplateExtent, sectors_of},
    writer::{SparseOptions, SparseWriter},
};
use crate::{BlockSource, DiskError, SECTOR_BYTES};

/// Sectors in one part of a split disk, as VMware cuts them: 2047 MiB.
const PART_SECTORS: u64 = 4_192_256;
/// Adapter of a delta whose parent names none.
const DEFAULT_ADAPTER: &str = "lsilogic";
/// Hardware version of a delta whose parent names none: Workstation 6 and Server 2.
const DEFAULT_HARDWARE_VERSION: u32 = 7;

/// The kinds of disk that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskKind {
    /// One growing file.
    MonolithicSparse,
    /// A descriptor and one file of full size.
    MonolithicFlat,
    /// A descriptor and growing parts.
    TwoGbMaxExtentSparse,
    /// A descriptor and parts of full size.
    TwoGbMaxExtentFlat,
}

impl DiskKind {
    fn create_type(self) -> &'static str {
        match self {
            Self::MonolithicSparse => "monolithicSparse",
            Self::MonolithicFlat => "monolithicFlat",
            Self::TwoGbMaxExtentSparse => "twoGbMaxExtentSparse",
            Self::TwoGbMaxExtentFlat => "twoGbMaxExtentFlat",
        }
    }
}

/// What a new disk is to be.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// Kind.
    pub kind: DiskKind,
    /// Size in bytes, whole sectors.
    pub capacity_bytes: u64,
    /// `ddb.adapterType`, for example `lsilogic`.
    pub adapter_type: String,
    /// `ddb.virtualHWVersion`.
    pub hardware_version: u32,
    /// Content id.
    pub content_id: u32,
    /// Sectors in one part of a split disk; none for VMware's 2047 MiB.
    pub max_extent_sectors: Option<u64>,
}

/// Makes an empty disk; its descriptor comes last. Refuses to replace files.
///
/// # Errors
/// [`DiskError::Io`], also where a file exists; [`DiskError::Refused`] for sizes that cannot be.
pub fn create(path: impl AsRef<Path>, options: &CreateOptions) -> Result<(), DiskError> {
    let path = path.as_ref();
    let new = NewDisk {
        path,
        content_id: options.content_id,
        parent: None,
        adapter_type: &options.adapter_type,
        hardware_version: options.hardware_version,
    };
    let sectors = sectors_of(path, options.capacity_bytes)?;
    if options.kind == DiskKind::MonolithicSparse {
        return new.write_monolithic(options.capacity_bytes);
    }
    let part = match options.kind {
        DiskKind::MonolithicFlat => sectors,
        _ => options.max_extent_sectors.unwrap_or(PART_SECTORS),
    };
    if part == 0 || sectors == 0 {
        return Err(DiskError::Refused {
            path: path.to_owned(),
            reason: "a disk or a part of one cannot have 0 sectors".to_owned(),
        });
    }
    let parts = (0..sectors.div_ceil(part)).map(|index| part.min(sectors - index * part));
    new.write_parts(options.kind, parts)
}

/// Makes an empty delta at `child_path` on top of the disk at `parent_path`: in parts like the
/// parent if that is split, else of one file. The delta has the parent's content, so it begins with
/// its content id.
///
/// # Errors
/// Those of [`Layer::open`] for the parent and of [`create`] for the delta.
pub fn create_delta(
    child_path: impl AsRef<Path>,
    parent_path: impl AsRef<Path>,
) -> Result<(), DiskError> {
    let (path, parent_path) = (child_path.as_ref(), parent_path.as_ref());
    let parent = Layer::open(parent_path)?;
    let descriptor = parent.descriptor();
    let link = ParentLink {
        content_id: descriptor.content_id(),
        hint: parent_hint(path, parent_path)?,
    };
    let new = NewDisk {
        path,
        content_id: descriptor.content_id(),
        parent: Some(link),
        adapter_type: descriptor.adapter_type().unwrap_or(DEFAULT_ADAPTER),
        hardware_version: descriptor
            .hardware_version()
            .unwrap_or(DEFAULT_HARDWARE_VERSION),
    };
    let kind = descriptor.create_type().to_ascii_lowercase();
    if kind.contains("gbmaxextent") {
        new.write_parts(DiskKind::TwoGbMaxExtentSparse, parent.extent_sectors())
    } else {
        new.write_monolithic(parent.size_bytes())
    }
}

/// How a delta names its parent: by base name in the same directory, else by absolute path.
pub(super) fn parent_hint(child_path: &Path, parent_path: &Path) -> Result<String, DiskError> {
    let parent = parent_path
        .canonicalize()
        .map_err(DiskError::io("open", parent_path))?;
    let child_dir = match child_path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let child_dir = child_dir
        .canonicalize()
        .map_err(DiskError::io("open", child_dir))?;
    let hint = match (parent.parent(), parent.file_name()) {
        (Some(dir), Some(name)) if dir == child_dir => Path::new(name),
        _ => parent.as_path(),
    };
    hint.to_str()
        .map(str::to_owned)
        .ok_or_else(|| DiskError::Refused {
            path: child_path.to_owned(),
            reason: format!("the path of its parent, {}, is not UTF-8", hint.display()),
        })
}

/// A disk that is being made.
struct NewDisk<'a> {
    path: &'a Path,
    content_id: u32,
    parent: Option<ParentLink>,
    adapter_type: &'a str,
    hardware_version: u32,
}

impl NewDisk<'_> {
    fn write_monolithic(self, capacity_bytes: u64) -> Result<(), DiskError> {
        let options = SparseOptions {
            file_name: self.file_name("")?,
            capacity_bytes,
            content_id: self.content_id,
            parent: self.parent,
            adapter_type: self.adapter_type.to_owned(),
            hardware_version: self.hardware_version,
            ddb: BTreeMap::new(),
        };
        SparseWriter::new(create_file(self.path)?, self.path, &options)?.finish()?;
        Ok(())
    }

    fn write_parts(
        self,
        kind: DiskKind,
        parts: impl Iterator<Item = u64>,
    ) -> Result<(), DiskError> {
        let is_flat = kind != DiskKind::TwoGbMaxExtentSparse;
        let mut extents = Vec::new();
        for (number, sectors) in (1..).zip(parts) {
            let file_name = self.file_name(&match kind {
                DiskKind::TwoGbMaxExtentSparse => format!("-s{number:03}"),
                DiskKind::TwoGbMaxExtentFlat => format!("-f{number:03}"),
                DiskKind::MonolithicFlat | DiskKind::MonolithicSparse => "-flat".to_owned(),
            })?;
            let part_path = self.path.with_file_name(&file_name);
            let file = create_file(&part_path)?;
            if is_flat {
                file.set_len(sectors * SECTOR_BYTES)
                    .map_err(DiskError::io("set the size of", part_path))?;
            } else {
                SparseWriter::new_part(file, part_path, sectors)?.finish()?;
            }
            extents.push(TemplateExtent {
                sectors,
                is_flat,
                file_name,
            });
        }
        let text = Template {
            create_type: kind.create_type(),
            content_id: self.content_id,
            parent: self.parent.as_ref(),
            extents,
            adapter_type: self.adapter_type,
            hardware_version: self.hardware_version,
            ddb: &BTreeMap::new(),
        }
        .render(self.path)?;
        create_file(self.path)?
            .write_all(text.as_bytes())
            .map_err(DiskError::io("write", self.path))
    }

    /// The name of the disk's file with `suffix` before its extension.
    fn file_name(&self, suffix: &str) -> Result<String, DiskError> {
        let stem = self.path.file_stem().and_then(|stem| stem.to_str());
        match stem {
            Some(stem) => Ok(format!("{stem}{suffix}.vmdk")),
            None => Err(DiskError::Refused {
                path: self.path.to_owned(),
                reason: "its name is not UTF-8".to_owned(),
            }),
        }
    }
}

fn create_file(path: &Path) -> Result<File, DiskError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(DiskError::io("create", PathBuf::from(path)))
}
