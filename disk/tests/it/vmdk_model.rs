//! Disks, deltas, merges and backups of them held against a plain run of bytes.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use tempfile::TempDir;
use virtuozo_disk::{
    BlockSource, RangeKind, ranges,
    vmdk::{
        Chain, CreateOptions, DiskKind, GRAIN_BYTES, Layer, ParentLink, SparseOptions,
        SparseWriter, WritableDisk, create, create_delta, merge_into_parent, set_parent,
    },
};

use crate::common::{Rng, chain_bytes, create_options, source_bytes};

#[derive(Debug, Clone)]
enum Step {
    /// Sectors from a place, of random bytes or of zeros.
    Write { from: u64, len: u64, zeros: bool },
    /// A new delta on top.
    Delta,
    /// The newest delta into its parent, perhaps twice.
    MergeTop { twice: bool },
    /// The delta above the base into the base, with the one above it re-pointed.
    MergeBottom,
    /// The writer closes the disk and opens it again.
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0_u64..4000, 1_u64..400, any::<bool>())
            .prop_map(|(from, len, zeros)| Step::Write { from, len, zeros }),
        2 => Just(Step::Delta),
        1 => any::<bool>().prop_map(|twice| Step::MergeTop { twice }),
        1 => Just(Step::MergeBottom),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..24)
}

fn kinds() -> impl Strategy<Value = DiskKind> {
    prop_oneof![
        Just(DiskKind::MonolithicSparse),
        Just(DiskKind::MonolithicFlat),
        Just(DiskKind::TwoGbMaxExtentSparse),
        Just(DiskKind::TwoGbMaxExtentFlat),
    ]
}

/// A disk with its deltas, and what the guest should see.
struct Lab {
    dir: TempDir,
    /// Base first.
    links: Vec<PathBuf>,
    made: usize,
    open: Option<WritableDisk>,
    model: Vec<u8>,
    rng: Rng,
}

impl Lab {
    fn new(kind: DiskKind, sectors: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let base = dir.path().join("a.vmdk");
        let options = CreateOptions {
            // Parts that end inside a grain.
            max_extent_sectors: Some(1501),
            ..create_options(kind, sectors * 512)
        };
        create(&base, &options).unwrap();
        Self {
            dir,
            links: vec![base],
            made: 0,
            open: None,
            model: vec![0; sectors as usize * 512],
            rng: Rng(sectors),
        }
    }

    fn top(&self) -> &Path {
        self.links.last().unwrap()
    }

    fn step(&mut self, step: &Step) {
        if !matches!(step, Step::Write { .. }) {
            self.open = None;
        }
        match step {
            Step::Write { from, len, zeros } => self.write(*from, *len, *zeros),
            Step::Delta => {
                self.made += 1;
                let child = self.dir.path().join(format!("a-{:06}.vmdk", self.made));
                create_delta(&child, self.top()).unwrap();
                self.links.push(child);
            }
            Step::MergeTop { twice } if self.links.len() > 1 => {
                let child = self.links.pop().unwrap();
                merge_into_parent(&child).unwrap();
                if *twice {
                    merge_into_parent(&child).unwrap();
                }
                self.remove(&child);
            }
            Step::MergeBottom if self.links.len() > 2 => {
                let child = self.links.remove(1);
                merge_into_parent(&child).unwrap();
                set_parent(&self.links[1], &self.links[0]).unwrap();
                self.remove(&child);
            }
            Step::MergeTop { .. } | Step::MergeBottom | Step::Reopen => {}
        }
    }

    fn write(&mut self, from: u64, len: u64, zeros: bool) {
        let sectors = self.model.len() as u64 / 512;
        let from = from % sectors;
        let len = len.min(sectors - from);
        let bytes = (from * 512) as usize..((from + len) * 512) as usize;
        if zeros {
            self.model[bytes.clone()].fill(0);
        } else {
            self.rng.fill(&mut self.model[bytes.clone()]);
        }
        if self.open.is_none() {
            self.open = Some(WritableDisk::open(self.top()).unwrap());
        }
        let disk = self.open.as_mut().unwrap();
        disk.write_at(from * 512, &self.model[bytes]).unwrap();
    }

    fn remove(&self, path: &Path) {
        for file in Layer::open(path).unwrap().files() {
            std::fs::remove_file(file).unwrap();
        }
    }

    fn check(&self) {
        if let Some(disk) = &self.open {
            let mut bytes = vec![0xaa; self.model.len()];
            disk.read_at(0, &mut bytes).unwrap();
            assert!(bytes == self.model, "the writer sees something else");
        }
        let chain = Chain::open(self.top(), &[]).unwrap();
        assert!(source_bytes(&chain) == self.model, "the chain differs");
        check_ranges(&chain, &self.model);
    }
}

/// Ranges cover the disk without gaps, and those that hold no data are zeros in `bytes`.
fn check_ranges(source: &dyn BlockSource, bytes: &[u8]) {
    let mut at = 0;
    for range in ranges(source) {
        let range = range.unwrap();
        assert_eq!(range.offset_bytes, at);
        at = range.end_bytes();
        let inside = &bytes[range.offset_bytes as usize..at as usize];
        if range.kind != RangeKind::Data {
            assert!(inside.iter().all(|byte| *byte == 0), "{range:?}");
        }
    }
    assert_eq!(at, source.size_bytes());
}

/// Writes one link as a backup does: whole grains of the ranges that are not absent.
fn back_up(link: &Layer, target: &Path, parent: Option<ParentLink>) {
    let options = SparseOptions {
        file_name: "copy.vmdk".to_owned(),
        capacity_bytes: link.size_bytes(),
        content_id: link.descriptor().content_id(),
        parent,
        adapter_type: "lsilogic".to_owned(),
        hardware_version: 7,
        ddb: link.descriptor().ddb().clone(),
    };
    let sink = File::create_new(target).unwrap();
    let mut writer = SparseWriter::new(sink, target, &options).unwrap();
    for grain in 0..link.size_bytes().div_ceil(GRAIN_BYTES) {
        let start = grain * GRAIN_BYTES;
        let len = GRAIN_BYTES.min(link.size_bytes() - start);
        match link.range_at(start).unwrap().kind {
            RangeKind::Absent => {}
            RangeKind::Zero => writer.zero_grain(grain).unwrap(),
            RangeKind::Data => {
                let mut bytes = vec![0; len as usize];
                link.read_at(start, &mut bytes).unwrap();
                writer.write_grain(grain, &bytes).unwrap();
            }
        }
    }
    writer.finish().unwrap().sync_all().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_disk_always_shows_what_its_guest_wrote(
        kind in kinds(),
        sectors in 300_u64..4000,
        steps in steps(),
    ) {
        let mut lab = Lab::new(kind, sectors);
        for step in &steps {
            lab.step(step);
            if !matches!(step, Step::Write { .. }) {
                lab.check();
            }
        }
        lab.check();
    }

    #[test]
    fn a_backup_of_every_link_is_the_same_disk(steps in steps(), sectors in 300_u64..4000) {
        // A split disk with parts inside grains has ranges that begin inside grains, so one file.
        let mut lab = Lab::new(DiskKind::MonolithicSparse, sectors);
        for step in &steps {
            lab.step(step);
        }
        let target = TempDir::new().unwrap();
        let mut parent = None;
        for (index, path) in lab.links.iter().enumerate() {
            let link = Layer::open(path).unwrap();
            let name = format!("copy-{index}.vmdk");
            back_up(&link, &target.path().join(&name), parent);
            parent = Some(ParentLink {
                content_id: link.descriptor().content_id(),
                hint: name,
            });
        }
        let newest = target.path().join(parent.unwrap().hint);
        prop_assert!(chain_bytes(&newest) == lab.model);
        let chain = Chain::open(&newest, &[]).unwrap();
        prop_assert_eq!(chain.layers().len(), lab.links.len());
    }
}

#[test]
fn a_merge_that_stopped_half_way_is_completed_by_repeating_it() {
    let mut lab = Lab::new(DiskKind::MonolithicSparse, 2000);
    lab.write(0, 1000, false);
    lab.step(&Step::Delta);
    lab.write(500, 1000, false);
    lab.open = None;
    // Half of what the merge does, without its end: the parent keeps its content id.
    let base = lab.links[0].clone();
    let whole = std::fs::read(&base).unwrap();
    merge_into_parent(lab.top()).unwrap();
    let mut torn = std::fs::read(&base).unwrap();
    torn[512..512 + 10240].copy_from_slice(&whole[512..512 + 10240]);
    std::fs::write(&base, torn).unwrap();
    lab.check();
    merge_into_parent(lab.top()).unwrap();
    lab.links.pop();
    lab.check();
}

#[test]
fn zeros_of_a_delta_still_hide_the_base_after_a_merge() {
    // Once into a delta that has the mark for zero grains, once into one that must store zeros.
    for with_mark in [true, false] {
        let mut lab = Lab::new(DiskKind::MonolithicSparse, 1024);
        lab.write(0, 1024, false);
        lab.open = None;
        let options = |parent: &Path, file_name: &str| SparseOptions {
            file_name: file_name.to_owned(),
            capacity_bytes: 1024 * 512,
            content_id: 7,
            parent: Some(ParentLink {
                content_id: Layer::open(parent).unwrap().descriptor().content_id(),
                hint: parent.file_name().unwrap().to_str().unwrap().to_owned(),
            }),
            ..SparseOptions::default()
        };
        let add_zeros = |lab: &mut Lab, name: &str, grains: &[u64]| {
            let path = lab.dir.path().join(name);
            let sink = File::create_new(&path).unwrap();
            let mut writer = SparseWriter::new(sink, &path, &options(lab.top(), name)).unwrap();
            for grain in grains {
                writer.zero_grain(*grain).unwrap();
                let start = (grain * GRAIN_BYTES) as usize;
                lab.model[start..start + GRAIN_BYTES as usize].fill(0);
            }
            writer.finish().unwrap();
            lab.links.push(path);
        };
        add_zeros(&mut lab, "b.vmdk", if with_mark { &[2, 3] } else { &[] });
        lab.check();
        add_zeros(&mut lab, "c.vmdk", &[0, 3, 4]);
        lab.check();
        lab.step(&Step::MergeTop { twice: true });
        lab.check();
        let kind = Layer::open(lab.top()).unwrap().range_at(0).unwrap().kind;
        let want = if with_mark {
            RangeKind::Zero
        } else {
            RangeKind::Data
        };
        assert_eq!(kind, want);
        lab.step(&Step::MergeTop { twice: true });
        lab.check();
    }
}

#[test]
fn a_reader_sees_what_was_there_when_it_opened_a_disk_that_goes_on_growing() {
    let mut lab = Lab::new(DiskKind::MonolithicSparse, 4000);
    lab.write(0, 200, false);
    let then = lab.model.clone();
    let reader = Layer::open(lab.top()).unwrap();
    lab.write(3000, 500, false);
    let mut bytes = vec![0; 200 * 512];
    reader.read_at(0, &mut bytes).unwrap();
    assert!(bytes == then[..200 * 512]);
    // What was added meanwhile is absent or whole, never an error.
    check_ranges(&reader, &{
        let mut seen = vec![0; then.len()];
        reader.read_at(0, &mut seen).unwrap();
        seen
    });
}

#[test]
fn a_write_to_a_parent_makes_its_deltas_invalid() {
    let mut lab = Lab::new(DiskKind::TwoGbMaxExtentSparse, 2000);
    lab.step(&Step::Delta);
    let child = lab.links.pop().unwrap();
    assert!(Chain::open(&child, &[]).is_ok());
    lab.write(0, 1, false);
    let error = Chain::open(&child, &[]).unwrap_err();
    assert!(
        matches!(
            error,
            virtuozo_disk::DiskError::ContentId {
                expected: 0x1234_abcd,
                ..
            }
        ),
        "{error}"
    );
    let error = merge_into_parent(&child).unwrap_err();
    assert!(
        matches!(error, virtuozo_disk::DiskError::ContentId { .. }),
        "{error}"
    );
}

#[test]
fn a_delta_of_a_split_disk_has_parts_of_the_same_sizes() {
    let mut lab = Lab::new(DiskKind::TwoGbMaxExtentFlat, 4000);
    lab.step(&Step::Delta);
    let delta = Layer::open(lab.top()).unwrap();
    assert_eq!(delta.descriptor().create_type(), "twoGbMaxExtentSparse");
    let names: Vec<_> = delta
        .files()
        .iter()
        .map(|file| file.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "a-000001.vmdk",
            "a-000001-s001.vmdk",
            "a-000001-s002.vmdk",
            "a-000001-s003.vmdk"
        ]
    );
}

#[test]
fn the_few_grains_of_a_disk_of_two_tebibytes_are_found() {
    let capacity = 2 << 40;
    let dir = TempDir::new().unwrap();
    let source = dir.path().join("a.vmdk");
    create(
        &source,
        &create_options(DiskKind::MonolithicSparse, capacity),
    )
    .unwrap();
    let mut disk = WritableDisk::open(&source).unwrap();
    let places = [0, 1 << 40, capacity - 512];
    for place in places {
        disk.write_at(place, &[0x5a; 512]).unwrap();
    }
    let link = Layer::open(&source).unwrap();
    let data: Vec<_> = ranges(&link)
        .map(Result::unwrap)
        .filter(|range| range.kind == RangeKind::Data)
        .collect();
    assert_eq!(data.len(), 3);
    for (range, place) in data.iter().zip(places) {
        assert_eq!(range.offset_bytes, place / GRAIN_BYTES * GRAIN_BYTES);
        assert_eq!(range.len_bytes, GRAIN_BYTES);
    }
}

#[test]
fn a_fingerprint_tells_a_write_into_any_file_of_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    for (number, kind) in [
        DiskKind::MonolithicSparse,
        DiskKind::MonolithicFlat,
        DiskKind::TwoGbMaxExtentSparse,
    ]
    .into_iter()
    .enumerate()
    {
        let path = dir.path().join(format!("{number}.vmdk"));
        let capacity_bytes = 4 << 20;
        virtuozo_disk::vmdk::create(&path, &create_options(kind, capacity_bytes)).unwrap();
        let before = Layer::open(&path).unwrap().fingerprint().unwrap();
        assert_eq!(
            Layer::open(&path).unwrap().fingerprint(),
            Some(before.clone())
        );
        for file in Layer::open(&path).unwrap().files() {
            // As a write does that changes no size, a second later.
            let file = std::fs::File::options().write(true).open(file).unwrap();
            let was = file.metadata().unwrap().modified().unwrap();
            file.set_modified(was + std::time::Duration::from_secs(1))
                .unwrap();
            let after = Layer::open(&path).unwrap().fingerprint().unwrap();
            assert_ne!(after, before, "{kind:?}");
            file.set_modified(was).unwrap();
        }
        assert_eq!(Layer::open(&path).unwrap().fingerprint(), Some(before));
    }
}
