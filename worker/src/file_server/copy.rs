//! Copies a guest's image into a partial restore point, and seals it.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use virtuozo_child_process::{InWait, Line};
use virtuozo_disk::{BlockRange, BlockSource, DiskError};
use virtuozo_hypervisor::{GuestImage, ImageFormat, SmallFile};
use virtuozo_model::text;
use virtuozo_repository::{
    CopyObserver, CopyPlan, DiskProperties, FileFormat, FileSpec, PointWriter, Repository,
    RepositoryError, SealedPoint, Stopped,
};

use super::teller::Teller;
use crate::{
    error::StepError,
    file_work::{CopyOrder, FileNews, FileQuestion, SpaceNeeded, StopPlace},
};

/// Copies an image. Blocks.
pub(crate) fn copy(
    image: GuestImage,
    order: CopyOrder,
    line: &Line,
) -> Result<SealedPoint, StepError> {
    let observer = Observer::new(line, &order);
    let prepared = Prepared::new(image, order, line)?;
    let space = FileQuestion::Space(prepared.space);
    if line.ask(&space) != Ok(true.into()) {
        // What was begun holds nothing yet, and the next attempt begins anew.
        prepared.writer.discard();
        return Err(StepError::retry("the copy was given up"));
    }
    prepared.copy(line, &observer)
}

/// A copy whose extent is known, and of which nothing is written yet.
struct Prepared {
    writer: PointWriter,
    small: Vec<SmallFile>,
    files: Vec<PlannedFile>,
    space: SpaceNeeded,
    /// What writes are called when they do not answer.
    writes: String,
}

/// A large file, or a link of a disk, that is to be copied.
struct PlannedFile {
    spec: FileSpec,
    source: Box<dyn BlockSource>,
    read_bytes: u64,
    fingerprint: Option<String>,
    /// What reads of it are called when they do not answer.
    reads: String,
}

impl PlannedFile {
    /// What its progress is told by.
    fn label(&self) -> String {
        let label = self.spec.device.as_deref().unwrap_or(&self.spec.name);
        label.to_owned()
    }
}

impl Prepared {
    fn new(image: GuestImage, order: CopyOrder, line: &Line) -> Result<Self, StepError> {
        let mut plan = CopyPlan::new();
        for file in &image.small {
            plan.add_small(file.bytes.len() as u64);
        }
        let mut files = Vec::with_capacity(image.files.len());
        for file in image.files {
            let format = match file.format {
                ImageFormat::Raw => FileFormat::Raw,
                ImageFormat::Disk { parent, properties } => FileFormat::Disk {
                    parent,
                    properties: DiskProperties {
                        adapter: properties.adapter,
                        geometry: properties
                            .geometry
                            .map(|g| [g.cylinders, g.heads, g.sectors]),
                        uuid: properties.uuid,
                        back_end: properties.back_end,
                    },
                },
            };
            let spec = FileSpec {
                name: file.name,
                device: file.device,
                format,
            };
            let reads = match &file.datastore {
                Some(datastore) => format!("reads from the datastore {datastore}"),
                None => format!("reads of {}", spec.name),
            };
            line.phase(reads.clone());
            let planned = PlannedFile {
                read_bytes: plan.add_file(&spec, file.source.as_ref())?,
                fingerprint: file.source.fingerprint(),
                spec,
                source: file.source,
                reads,
            };
            line.tell(&FileNews::Expected {
                label: planned.label(),
                bytes: planned.read_bytes,
            });
            files.push(planned);
        }
        let writes = format!("writes to {}", order.repository.display());
        line.phase(writes.clone());
        let repository = Repository::open(order.repository)?
            .with_access(order.access)
            .with_keys(order.keys);
        let mut point = order.point;
        let foreign = image.foreign_snapshots.iter();
        point.foreign_snapshots = foreign.map(|name| text::name(name)).collect();
        let mut writer = repository.begin(point)?;
        let mut fits = repository.check_capacity(&plan);
        // Of several partial copies one is kept: space for one copy matters more than the time that another one saves.
        if matches!(fits, Err(RepositoryError::NoSpace { .. })) && writer.discard_earlier() {
            fits = repository.check_capacity(&plan);
        }
        if let Err(error) = fits {
            writer.discard();
            return Err(error.into());
        }
        Ok(Self {
            writer,
            small: image.small,
            files,
            space: SpaceNeeded {
                device: repository.device()?,
                needed_bytes: plan.needed_bytes(),
                free_bytes: repository.free_bytes()?,
            },
            writes,
        })
    }

    fn copy(self, line: &Line, observer: &Observer<'_>) -> Result<SealedPoint, StepError> {
        line.phase(self.writes);
        let mut writer = self.writer;
        if let Err(error) = fill(&mut writer, &self.small, &self.files, line, observer) {
            // What cannot be completed must not hold the space that others need.
            if error.is_no_space() {
                writer.discard();
            }
            return Err(error.into());
        }
        // All files are checked together, since together they hold one instant.
        let changed = |file: &&PlannedFile| {
            let _reading = line.within(&file.reads, Duration::ZERO);
            file.source.fingerprint() != file.fingerprint
        };
        if let Some(file) = self.files.iter().find(changed) {
            return Err(StepError::retry(format!(
                "somebody wrote to the guest's file {} while it was copied, so the copy was not used: see \
                 whether the guest was started and stopped meanwhile, or a snapshot of it removed",
                file.spec.name
            )));
        }
        Ok(writer.seal()?)
    }
}

fn fill(
    writer: &mut PointWriter,
    small: &[SmallFile],
    files: &[PlannedFile],
    line: &Line,
    observer: &Observer<'_>,
) -> Result<(), RepositoryError> {
    for file in small {
        writer.add_small(&file.name, &file.bytes)?;
    }
    for file in files {
        let source = Reading { file, line };
        writer.add_file(&file.spec, &source, observer)?;
        line.tell(&FileNews::FileDone {
            label: file.label(),
            bytes: file.read_bytes,
        });
    }
    Ok(())
}

/// A source whose reads are told while they last.
struct Reading<'a> {
    file: &'a PlannedFile,
    line: &'a Line,
}

impl Reading<'_> {
    fn begin(&self) -> InWait<'_> {
        self.line.within(&self.file.reads, Duration::ZERO)
    }
}

impl BlockSource for Reading<'_> {
    fn size_bytes(&self) -> u64 {
        self.file.source.size_bytes()
    }

    fn range_at(&self, offset_bytes: u64) -> Result<BlockRange, DiskError> {
        let _reading = self.begin();
        self.file.source.range_at(offset_bytes)
    }

    fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let _reading = self.begin();
        self.file.source.read_at(offset_bytes, buf)
    }

    fn fingerprint(&self) -> Option<String> {
        let _reading = self.begin();
        self.file.source.fingerprint()
    }
}

/// Tells the progress of a copy, and what it syncs.
struct Observer<'a> {
    teller: Teller<'a>,
    /// Bytes copied, of all files.
    written_bytes: AtomicU64,
    /// Of the current file.
    current_bytes: AtomicU64,
    /// How many were written when the last sync began.
    synced_bytes: AtomicU64,
    syncing: Mutex<Option<(InWait<'a>, u64)>>,
}

impl<'a> Observer<'a> {
    fn new(line: &'a Line, order: &CopyOrder) -> Self {
        Self {
            teller: Teller::new(line, order.stops.clone()),
            written_bytes: AtomicU64::new(0),
            current_bytes: AtomicU64::new(0),
            synced_bytes: AtomicU64::new(0),
            syncing: Mutex::default(),
        }
    }
}

impl CopyObserver for Observer<'_> {
    fn progress(&self, device_or_file: &str, copied_bytes: u64, total_bytes: u64) {
        let before = self.current_bytes.swap(copied_bytes, Ordering::Relaxed);
        if copied_bytes > before {
            self.written_bytes
                .fetch_add(copied_bytes - before, Ordering::Relaxed);
        }
        self.teller.moved(device_or_file, copied_bytes, total_bytes);
        if copied_bytes > 0 {
            self.teller.at(StopPlace::CopyMiddle);
        }
        if copied_bytes > total_bytes / 2 {
            self.teller.not_past(StopPlace::CopyDurable);
        }
    }

    fn wait_allowed(&self) -> Result<(), Stopped> {
        self.teller.wait_allowed()
    }

    fn sync_begins(&self, file: &Path) {
        let written = self.written_bytes.load(Ordering::Relaxed);
        let unsynced = written - self.synced_bytes.load(Ordering::Relaxed).min(written);
        let waits = self.teller.line.within(
            &format!("syncs of {}", file.display()),
            Line::for_sync(unsynced),
        );
        *self.syncing.lock() = Some((waits, written));
    }

    fn sync_ended(&self) {
        if let Some((_, written)) = self.syncing.lock().take() {
            self.synced_bytes.store(written, Ordering::Relaxed);
        }
    }

    fn durable(&self) {
        self.teller.at(StopPlace::CopyDurable);
    }
}
