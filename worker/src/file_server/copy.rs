//! Copies a guest's image into a partial restore point, and seals it.

use std::{
    collections::HashMap,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use virtuozo_child_process::{InWait, Line};
use virtuozo_disk::{BlockRange, BlockSource, DiskError};
use virtuozo_hypervisor::{GuestImage, ImageFormat, SmallFile};
use virtuozo_model::text;
use virtuozo_repository::{
    CopyObserver, CopyPlan, DiskProperties, FileFormat, FileSpec, PointWriter, Repository,
    RepositoryError, SealedPoint, Stopped,
};
use virtuozo_runtime::LIMITS;

use crate::{
    error::StepError,
    file_work::{CopyNews, CopyOrder, CopyPlace, CopyQuestion, SpaceNeeded},
};

/// Copies an image. Blocks.
pub(crate) fn copy(
    image: GuestImage,
    order: CopyOrder,
    line: &Line,
) -> Result<SealedPoint, StepError> {
    let observer = Observer::new(line, &order);
    let prepared = Prepared::new(image, order, line)?;
    let space = CopyQuestion::Space(prepared.space);
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
            line.tell(&CopyNews::Expected {
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
        line.tell(&CopyNews::FileDone {
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

/// Tells the progress of a copy, and waits while the copy may not go on.
struct Observer<'a> {
    line: &'a Line,
    told: Mutex<HashMap<String, Instant>>,
    began: AtomicBool,
    stops: Stops,
    /// Bytes copied, of all files.
    written_bytes: AtomicU64,
    /// Of the current file.
    current_bytes: AtomicU64,
    /// How many were written when the last sync began.
    synced_bytes: AtomicU64,
    syncing: Mutex<Option<(InWait<'a>, u64)>>,
}

/// Where failpoints are ahead.
struct Stops {
    ahead: Mutex<Vec<CopyPlace>>,
    changed: Condvar,
}

impl<'a> Observer<'a> {
    fn new(line: &'a Line, order: &CopyOrder) -> Self {
        Self {
            line,
            told: Mutex::default(),
            began: AtomicBool::new(false),
            stops: Stops {
                ahead: Mutex::new(order.stops.clone()),
                changed: Condvar::new(),
            },
            written_bytes: AtomicU64::new(0),
            current_bytes: AtomicU64::new(0),
            synced_bytes: AtomicU64::new(0),
            syncing: Mutex::default(),
        }
    }

    /// Asks whether to go on, if there is a failpoint here.
    fn at(&self, place: CopyPlace) {
        let was_ahead = {
            let mut ahead = self.stops.ahead.lock();
            let before = ahead.len();
            ahead.retain(|one| *one != place);
            before > ahead.len()
        };
        if was_ahead {
            self.stops.changed.notify_all();
            // Whoever is gone lets nothing go on.
            let _ = self.line.ask(&CopyQuestion::At(place));
        }
    }

    /// Waits until another thread reaches this place, if there is a failpoint.
    fn not_past(&self, place: CopyPlace) {
        let mut ahead = self.stops.ahead.lock();
        while ahead.contains(&place) {
            self.stops.changed.wait(&mut ahead);
        }
    }

    /// Whether it is time to tell how far a file is.
    fn is_due(&self, label: &str, copied_bytes: u64, total_bytes: u64) -> bool {
        let mut told = self.told.lock();
        let now = Instant::now();
        let is_due = copied_bytes == 0
            || copied_bytes == total_bytes
            || told
                .get(label)
                .is_none_or(|told| now - *told >= LIMITS.files.tell_every);
        if is_due {
            told.insert(label.to_owned(), now);
        }
        is_due
    }
}

impl CopyObserver for Observer<'_> {
    fn progress(&self, device_or_file: &str, copied_bytes: u64, total_bytes: u64) {
        let before = self.current_bytes.swap(copied_bytes, Ordering::Relaxed);
        if copied_bytes > before {
            self.written_bytes
                .fetch_add(copied_bytes - before, Ordering::Relaxed);
        }
        if self.is_due(device_or_file, copied_bytes, total_bytes) {
            self.line.tell(&CopyNews::Copied {
                label: device_or_file.to_owned(),
                copied_bytes,
                total_bytes,
            });
        }
        if copied_bytes > 0 && !self.began.swap(true, Ordering::Relaxed) {
            self.at(CopyPlace::Middle);
        }
        if copied_bytes > total_bytes / 2 {
            self.not_past(CopyPlace::Durable);
        }
    }

    fn wait_allowed(&self) -> Result<(), Stopped> {
        self.line.wait_allowed().map_err(|error| Stopped {
            reason: error.to_string(),
        })
    }

    fn sync_begins(&self, file: &Path) {
        let written = self.written_bytes.load(Ordering::Relaxed);
        let unsynced = written - self.synced_bytes.load(Ordering::Relaxed).min(written);
        let waits = self.line.within(
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
        self.at(CopyPlace::Durable);
    }
}
