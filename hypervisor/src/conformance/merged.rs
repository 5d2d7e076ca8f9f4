//! A disk of an image as the guest saw it, whatever number of links it has.

use virtuozo_disk::{BlockRange, BlockSource, DiskError, RangeKind};

use crate::{GuestImage, ImageFile, ImageFormat};

/// A link of an image and all its parents, read as the guest saw them.
pub struct Merged<'a> {
    /// Newest first, never empty.
    links: Vec<&'a ImageFile>,
}

impl<'a> Merged<'a> {
    /// The chain whose newest link has this name; none if the image does not hold it all.
    pub fn of(image: &'a GuestImage, newest: &str) -> Option<Self> {
        let mut links = Vec::new();
        let mut wanted = Some(newest);
        while let Some(name) = wanted {
            let link = image.files.iter().find(|file| file.name == name)?;
            wanted = match &link.format {
                ImageFormat::Disk { parent, .. } if links.len() < image.files.len() => {
                    parent.as_deref()
                }
                _ => return None,
            };
            links.push(link);
        }
        Some(Self { links })
    }

    /// The link that holds the byte at an offset, and up to where.
    fn holder(&self, offset_bytes: u64) -> Result<(BlockRange, Option<&'a ImageFile>), DiskError> {
        let mut merged = BlockRange {
            offset_bytes,
            len_bytes: u64::MAX - offset_bytes,
            kind: RangeKind::Absent,
        };
        for link in &self.links {
            let range = link.source.range_at(offset_bytes)?;
            merged.len_bytes = merged.len_bytes.min(range.len_bytes);
            merged.kind = range.kind;
            if range.kind != RangeKind::Absent {
                return Ok((merged, Some(link)));
            }
        }
        Ok((merged, None))
    }
}

impl BlockSource for Merged<'_> {
    fn size_bytes(&self) -> u64 {
        self.links
            .first()
            .map_or(0, |link| link.source.size_bytes())
    }

    fn range_at(&self, offset_bytes: u64) -> Result<BlockRange, DiskError> {
        Ok(self.holder(offset_bytes)?.0)
    }

    fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let mut at = offset_bytes;
        let mut rest = buf;
        while !rest.is_empty() {
            let (range, holder) = self.holder(at)?;
            let len =
                usize::try_from(range.len_bytes).map_or(rest.len(), |len| len.min(rest.len()));
            let (piece, tail) = rest.split_at_mut(len);
            match holder {
                Some(link) => link.source.read_at(at, piece)?,
                None => piece.fill(0),
            }
            at += len as u64;
            rest = tail;
        }
        Ok(())
    }
}
