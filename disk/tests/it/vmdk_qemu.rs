//! VMDK images held against qemu: those it made are read here, those made here are read by it.

use std::{path::Path, process::Command};

use tempfile::TempDir;
use virtuozo_disk::{
    BlockSource, RangeKind, ranges,
    vmdk::{
        Chain, DiskKind, GRAIN_BYTES, Layer, ParentLink, SparseOptions, SparseWriter, WritableDisk,
        create, create_delta, merge_into_parent,
    },
};

use crate::common::{Rng, chain_bytes, create_options, random_writes, source_bytes};

const MIB: u64 = 1024 * 1024;
const SUBFORMATS: [&str; 4] = [
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
];
const KINDS: [DiskKind; 4] = [
    DiskKind::MonolithicSparse,
    DiskKind::MonolithicFlat,
    DiskKind::TwoGbMaxExtentSparse,
    DiskKind::TwoGbMaxExtentFlat,
];

/// Runs a program of qemu in `dir`; a failure, or a missing program, fails the test.
fn qemu(dir: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap_or_else(|error| {
            panic!("{program} cannot be run ({error}); install qemu-utils, which these tests need")
        });
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

fn qemu_img(dir: &Path, arguments: &[&str]) -> String {
    qemu(dir, "qemu-img", arguments)
}

/// What qemu reads from an image.
fn qemu_bytes(dir: &Path, name: &str) -> Vec<u8> {
    qemu_img(
        dir,
        &["convert", "-f", "vmdk", "-O", "raw", name, "qemu.raw"],
    );
    std::fs::read(dir.join("qemu.raw")).unwrap()
}

/// Writes patterns into an image with qemu: bytes of one value over each run.
fn qemu_write(dir: &Path, name: &str, runs: &[(u64, u64, u8)]) {
    let mut arguments = vec!["-f".to_owned(), "vmdk".to_owned()];
    for (offset, len, value) in runs {
        arguments.push("-c".to_owned());
        arguments.push(match value {
            0 => format!("write -z {offset} {len}"),
            value => format!("write -P {value} {offset} {len}"),
        });
    }
    arguments.push(name.to_owned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    qemu(dir, "qemu-io", &arguments);
}

/// Data in the first grain, over a grain border, unaligned to grains, and at the very end.
fn pattern(size: u64) -> Vec<(u64, u64, u8)> {
    vec![
        (0, 512, 0x11),
        (GRAIN_BYTES - 1024, 2048, 0x22),
        (5 * GRAIN_BYTES, 3 * GRAIN_BYTES, 0x33),
        (40 * GRAIN_BYTES + 512, 512, 0x44),
        (size - 512, 512, 0x55),
    ]
}

fn expected(size: u64, layers: &[&[(u64, u64, u8)]]) -> Vec<u8> {
    let mut bytes = vec![0; size as usize];
    for (offset, len, value) in layers.concat() {
        bytes[offset as usize..(offset + len) as usize].fill(value);
    }
    bytes
}

#[test]
fn every_subformat_that_qemu_writes_is_read_equal() {
    let size = 34 * MIB + 3 * 512;
    for subformat in SUBFORMATS {
        let dir = TempDir::new().unwrap();
        let options = format!("subformat={subformat},adapter_type=lsilogic,hwversion=9");
        let size_text = size.to_string();
        let create = [
            "create", "-q", "-f", "vmdk", "-o", &options, "a.vmdk", &size_text,
        ];
        qemu_img(dir.path(), &create);
        qemu_write(dir.path(), "a.vmdk", &pattern(size));
        let layer = Layer::open(dir.path().join("a.vmdk")).unwrap();
        assert!(
            source_bytes(&layer) == expected(size, &[&pattern(size)]),
            "{subformat}"
        );
        assert!(!layer.is_delta());
        assert_eq!(layer.descriptor().create_type(), subformat);
        assert_eq!(layer.descriptor().adapter_type(), Some("lsilogic"));
        assert_eq!(layer.descriptor().hardware_version(), Some(9));
        let files = if subformat == "monolithicSparse" {
            1
        } else {
            2
        };
        assert_eq!(layer.files().len(), files, "{:?}", layer.files());
        let data: u64 = ranges(&layer)
            .map(Result::unwrap)
            .filter(|range| range.kind == RangeKind::Data)
            .map(|range| range.len_bytes)
            .sum();
        assert!(data < MIB, "{subformat}: {data} bytes of data for 7 grains");
    }
}

#[test]
fn a_disk_that_qemu_split_into_parts_is_read_over_their_borders() {
    let size = 5 * 1024 * MIB;
    for subformat in ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"] {
        let dir = TempDir::new().unwrap();
        let options = format!("subformat={subformat}");
        qemu_img(
            dir.path(),
            &["create", "-q", "-f", "vmdk", "-o", &options, "a.vmdk", "5G"],
        );
        let border = 2048 * MIB;
        qemu_write(dir.path(), "a.vmdk", &[(border - MIB, 2 * MIB, 0x77)]);
        let layer = Layer::open(dir.path().join("a.vmdk")).unwrap();
        assert_eq!(layer.size_bytes(), size);
        assert_eq!(layer.files().len(), 4);
        let mut bytes = vec![0; 4 * MIB as usize];
        layer.read_at(border - 2 * MIB, &mut bytes).unwrap();
        let mut want = vec![0; 4 * MIB as usize];
        want[MIB as usize..3 * MIB as usize].fill(0x77);
        assert!(bytes == want, "{subformat}");
        let data: u64 = ranges(&layer)
            .map(Result::unwrap)
            .filter(|range| range.kind == RangeKind::Data)
            .map(|range| range.len_bytes)
            .sum();
        // qemu also stores the first block of each flat file.
        assert!(
            (2 * MIB..2 * MIB + GRAIN_BYTES).contains(&data),
            "{subformat}: {data}"
        );
    }
}

#[test]
fn a_delta_of_qemu_with_zeroed_grains_hides_its_parent() {
    let dir = TempDir::new().unwrap();
    let size = 8 * MIB;
    let base = [(0, 2 * MIB, 0x61), (6 * MIB, 2 * MIB, 0x62)];
    let delta = [
        (MIB, GRAIN_BYTES, 0),
        (6 * MIB, 512, 0x63),
        (4 * MIB, 512, 0x64),
    ];
    let zeroed = ["create", "-q", "-f", "vmdk", "-o", "zeroed_grain=on"];
    qemu_img(dir.path(), &[&zeroed[..], &["a.vmdk", "8M"]].concat());
    qemu_write(dir.path(), "a.vmdk", &base);
    let on_base = ["-b", "a.vmdk", "-F", "vmdk", "b.vmdk"];
    qemu_img(dir.path(), &[&zeroed[..], &on_base].concat());
    qemu_write(dir.path(), "b.vmdk", &delta);

    let chain = Chain::open(dir.path().join("b.vmdk"), &[]).unwrap();
    assert_eq!(chain.layers().len(), 2);
    assert!(source_bytes(&chain) == expected(size, &[&base, &delta]));
    assert!(source_bytes(&chain) == qemu_bytes(dir.path(), "b.vmdk"));
    let link = &chain.layers()[0];
    assert!(link.is_delta());
    assert_eq!(link.range_at(0).unwrap().kind, RangeKind::Absent);
    assert_eq!(link.range_at(MIB).unwrap().kind, RangeKind::Zero);
    assert_eq!(link.range_at(6 * MIB).unwrap().kind, RangeKind::Data);
    assert_eq!(chain.range_at(MIB).unwrap().kind, RangeKind::Zero);
    assert_eq!(chain.range_at(0).unwrap().kind, RangeKind::Data);
    assert_eq!(chain.range_at(3 * MIB).unwrap().kind, RangeKind::Absent);

    // Merging it gives the same disk, and qemu agrees.
    let before = source_bytes(&chain);
    merge_into_parent(dir.path().join("b.vmdk")).unwrap();
    assert!(qemu_bytes(dir.path(), "a.vmdk") == before);
    qemu_img(dir.path(), &["check", "-f", "vmdk", "a.vmdk"]);
}

#[test]
fn a_stream_optimized_disk_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let options = "subformat=streamOptimized";
    qemu_img(
        dir.path(),
        &["create", "-q", "-f", "vmdk", "-o", options, "a.vmdk", "1M"],
    );
    let error = Layer::open(dir.path().join("a.vmdk")).unwrap_err();
    assert!(error.to_string().contains("streamOptimized"), "{error}");
}

#[test]
fn disks_written_here_are_valid_and_equal_for_qemu() {
    for (seed, kind) in (1..).zip(KINDS) {
        let dir = TempDir::new().unwrap();
        let size = 9 * MIB + 5 * 512;
        let path = dir.path().join("a.vmdk");
        create(&path, &create_options(kind, size)).unwrap();
        let mut disk = WritableDisk::open(&path).unwrap();
        let mut model = vec![0; size as usize];
        random_writes(&mut Rng(seed), &mut disk, &mut model, 40);
        drop(disk);
        assert!(qemu_bytes(dir.path(), "a.vmdk") == model, "{kind:?}");
        assert!(chain_bytes(&path) == model, "{kind:?}");
        if kind == DiskKind::MonolithicSparse {
            qemu_img(dir.path(), &["check", "-f", "vmdk", "a.vmdk"]);
        }
    }
}

#[test]
fn deltas_written_here_are_equal_for_qemu_and_so_are_their_merged_parents() {
    for (seed, kind) in (11..).zip(KINDS) {
        let dir = TempDir::new().unwrap();
        let size = 9 * MIB + 512;
        let [base, middle, top] = ["a.vmdk", "a-000001.vmdk", "a-000002.vmdk"];
        let path = |name: &str| dir.path().join(name);
        let mut rng = Rng(seed);
        let mut model = vec![0; size as usize];
        create(path(base), &create_options(kind, size)).unwrap();
        let mut write = |name: &str, model: &mut Vec<u8>| {
            let mut disk = WritableDisk::open(path(name)).unwrap();
            random_writes(&mut rng, &mut disk, model, 12);
        };
        write(base, &mut model);
        create_delta(path(middle), path(base)).unwrap();
        write(middle, &mut model);
        create_delta(path(top), path(middle)).unwrap();
        write(top, &mut model);
        assert!(qemu_bytes(dir.path(), top) == model, "{kind:?}");
        assert!(chain_bytes(&path(top)) == model, "{kind:?}");
        merge_into_parent(path(top)).unwrap();
        assert!(qemu_bytes(dir.path(), middle) == model, "{kind:?}");
        merge_into_parent(path(middle)).unwrap();
        assert!(qemu_bytes(dir.path(), base) == model, "{kind:?}");
        assert!(chain_bytes(&path(base)) == model, "{kind:?}");
    }
}

#[test]
fn what_the_backup_writer_writes_is_valid_and_equal_for_qemu() {
    let dir = TempDir::new().unwrap();
    let size = 40 * MIB + 7 * 512;
    let grains = size.div_ceil(GRAIN_BYTES);
    let mut model = vec![0; size as usize];
    let mut rng = Rng(99);
    let mut options = SparseOptions {
        file_name: "a.vmdk".to_owned(),
        capacity_bytes: size,
        content_id: 0x0000_beef,
        adapter_type: "ide".to_owned(),
        hardware_version: 4,
        ..SparseOptions::default()
    };
    let mut write = |name: &str, options: &SparseOptions, zero: &[u64], model: &mut [u8]| {
        let path = dir.path().join(name);
        let sink = std::fs::File::create_new(&path).unwrap();
        let mut writer = SparseWriter::new(sink, &path, options).unwrap();
        for grain in [grains - 1, 3, 2, 600, rng.below(100) + 10] {
            let from = (grain * GRAIN_BYTES) as usize;
            let to = model.len().min(from + GRAIN_BYTES as usize);
            rng.fill(&mut model[from..to]);
            writer.write_grain(grain, &model[from..to]).unwrap();
        }
        for grain in zero {
            let from = (grain * GRAIN_BYTES) as usize;
            model[from..from + GRAIN_BYTES as usize].fill(0);
            writer.zero_grain(*grain).unwrap();
        }
        writer.finish().unwrap();
    };
    write("a.vmdk", &options, &[], &mut model);
    assert!(qemu_bytes(dir.path(), "a.vmdk") == model);
    qemu_img(dir.path(), &["check", "-f", "vmdk", "a.vmdk"]);
    options.file_name = "b.vmdk".to_owned();
    options.content_id = 0x0123_4567;
    options.parent = Some(ParentLink {
        content_id: 0x0000_beef,
        hint: "a.vmdk".to_owned(),
    });
    write("b.vmdk", &options, &[0, 1, 4, 5, 6], &mut model);
    assert!(qemu_bytes(dir.path(), "b.vmdk") == model);
    qemu_img(dir.path(), &["check", "-f", "vmdk", "b.vmdk"]);
    assert!(chain_bytes(&dir.path().join("b.vmdk")) == model);
}

#[test]
fn qemu_goes_on_writing_into_a_disk_made_here() {
    let dir = TempDir::new().unwrap();
    let size = 12 * MIB;
    let path = dir.path().join("a.vmdk");
    create(&path, &create_options(DiskKind::MonolithicSparse, size)).unwrap();
    qemu_write(dir.path(), "a.vmdk", &pattern(size));
    let mut disk = WritableDisk::open(&path).unwrap();
    let more = [(7 * MIB, 4096, 0x66), (GRAIN_BYTES, 512, 0x67)];
    for (offset, len, value) in more {
        disk.write_at(offset, &vec![value; len as usize]).unwrap();
    }
    assert!(qemu_bytes(dir.path(), "a.vmdk") == expected(size, &[&pattern(size), &more]));
}
