//! What a source holds, in whole grains: the units in which the copy reads, skips and stores.

use std::collections::VecDeque;

use virtuozo_disk::{BlockRange, BlockSource, DiskError, RangeKind};

// Also the unit in which zeros are found.
pub(crate) use virtuozo_disk::vmdk::GRAIN_BYTES;

/// What a run of grains holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunKind {
    /// Stored bytes, perhaps zero ranges beside them: read.
    Read,
    /// Known to be zero.
    Zero,
    /// Partly absent: whether the rest must be filled from a parent is the reader's concern.
    Mixed,
}

/// Neighbouring grains of one kind. Wholly absent grains have no run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first_grain: u64,
    pub(crate) grains: u64,
    pub(crate) kind: RunKind,
}

impl Run {
    /// The run's bytes in a source of `size_bytes` (the last grain may be short).
    pub(crate) fn len_bytes(&self, size_bytes: u64) -> u64 {
        let start = self.first_grain * GRAIN_BYTES;
        (start + self.grains * GRAIN_BYTES).min(size_bytes) - start
    }
}

/// All runs of a source in order, found without reading data.
pub(crate) fn runs(source: &dyn BlockSource) -> impl Iterator<Item = Result<Run, DiskError>> + '_ {
    let mut ranges = virtuozo_disk::ranges(source);
    let mut cutter = Cutter {
        size_bytes: source.size_bytes(),
        partial: None,
        ready: VecDeque::new(),
    };
    let mut ended = false;
    std::iter::from_fn(move || {
        loop {
            if let Some(run) = cutter.ready.pop_front() {
                return Some(Ok(run));
            }
            if ended {
                return None;
            }
            match ranges.next() {
                Some(Ok(range)) => cutter.add(range),
                Some(Err(error)) => {
                    ended = true;
                    return Some(Err(error));
                }
                None => {
                    ended = true;
                    cutter.flush();
                }
            }
        }
    })
}

/// Which kinds of ranges meet in a grain.
#[derive(Debug, Clone, Copy, Default)]
struct Kinds {
    data: bool,
    zero: bool,
    absent: bool,
}

impl Kinds {
    fn with(mut self, kind: RangeKind) -> Self {
        match kind {
            RangeKind::Data => self.data = true,
            RangeKind::Zero => self.zero = true,
            RangeKind::Absent => self.absent = true,
        }
        self
    }

    fn run_kind(self) -> Option<RunKind> {
        match self {
            Self {
                absent: true,
                data: false,
                zero: false,
            } => None,
            Self { absent: true, .. } => Some(RunKind::Mixed),
            Self { data: true, .. } => Some(RunKind::Read),
            Self { zero: true, .. } => Some(RunKind::Zero),
            Self { .. } => None,
        }
    }
}

struct Cutter {
    size_bytes: u64,
    partial: Option<(u64, Kinds)>,
    ready: VecDeque<Run>,
}

impl Cutter {
    fn add(&mut self, range: BlockRange) {
        let end = range.end_bytes();
        let mut at = range.offset_bytes;
        if let Some((grain, kinds)) = self.partial {
            self.partial = Some((grain, kinds.with(range.kind)));
            let grain_end = ((grain + 1) * GRAIN_BYTES).min(self.size_bytes);
            if end < grain_end {
                return;
            }
            self.flush();
            at = grain_end;
        }
        let whole_end = if end == self.size_bytes {
            end.div_ceil(GRAIN_BYTES)
        } else {
            end / GRAIN_BYTES
        };
        let first_grain = at / GRAIN_BYTES;
        let kinds = Kinds::default().with(range.kind);
        if at < end && whole_end > first_grain {
            self.push(first_grain, whole_end - first_grain, kinds);
        }
        if at < end && end != self.size_bytes && !end.is_multiple_of(GRAIN_BYTES) {
            self.partial = Some((end / GRAIN_BYTES, kinds));
        }
    }

    fn flush(&mut self) {
        if let Some((grain, kinds)) = self.partial.take() {
            self.push(grain, 1, kinds);
        }
    }

    fn push(&mut self, first_grain: u64, grains: u64, kinds: Kinds) {
        if let Some(kind) = kinds.run_kind() {
            self.ready.push_back(Run {
                first_grain,
                grains,
                kind,
            });
        }
    }
}
