//! Damaged, truncated and hostile images: a typed error, never a panic, a short read or a huge
//! allocation.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use proptest::prelude::*;
use tempfile::TempDir;
use virtuozo_disk::{
    BlockSource, DiskError, RangeKind, RawFile, ranges,
    vmdk::{
        Chain, DiskKind, Layer, SparseOptions, SparseWriter, WritableDisk, create, create_delta,
        estimate_bytes, merge_into_parent,
    },
};

use crate::common::{Rng, chain_bytes, create_options, random_writes};

const SIZE: u64 = 3 * 1024 * 1024;

/// A base with data and a delta with data and a file per part; the path of the delta.
fn chain_of_two(dir: &Path, kind: DiskKind) -> (PathBuf, Vec<u8>) {
    let (base, delta) = (dir.join("a.vmdk"), dir.join("b.vmdk"));
    let mut model = vec![0; SIZE as usize];
    create(&base, &create_options(kind, SIZE)).unwrap();
    let mut rng = Rng(5);
    random_writes(
        &mut rng,
        &mut WritableDisk::open(&base).unwrap(),
        &mut model,
        4,
    );
    create_delta(&delta, &base).unwrap();
    random_writes(
        &mut rng,
        &mut WritableDisk::open(&delta).unwrap(),
        &mut model,
        4,
    );
    (delta, model)
}

/// Name and content of each file of [`chain_of_two`], made once for each kind.
type Files = Vec<(OsString, Vec<u8>)>;

fn copy_of_chain(dir: &Path, kind: DiskKind) -> PathBuf {
    static MADE: Mutex<Vec<(DiskKind, Files)>> = Mutex::new(Vec::new());
    let mut made = MADE.lock();
    if !made.iter().any(|(have, _)| *have == kind) {
        let new = TempDir::new().unwrap();
        chain_of_two(new.path(), kind);
        let files = fs::read_dir(new.path()).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name(), fs::read(entry.path()).unwrap())
        });
        made.push((kind, files.collect()));
    }
    let (_, files) = made.iter().find(|(have, _)| *have == kind).unwrap();
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).unwrap();
    }
    dir.join("b.vmdk")
}

/// Reads everything there is; the first error ends it.
fn use_up(path: &Path) -> Result<(), DiskError> {
    let chain = Chain::open(path, &[])?;
    let mut bytes = vec![0; 1 << 20];
    for range in ranges(&chain) {
        let range = range?;
        let mut at = range.offset_bytes;
        // Hostile sizes are real but need not be read to the end.
        let end = range.end_bytes().min(at + (8 << 20));
        while at < end {
            let len = (end - at).min(bytes.len() as u64);
            chain.read_at(at, &mut bytes[..len as usize])?;
            at += len;
        }
    }
    Ok(())
}

fn flip(path: &Path, at: usize, value: u8) {
    let mut bytes = fs::read(path).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= value;
    fs::write(path, bytes).unwrap();
}

fn patch(path: &Path, at: u64, new: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, new, at).unwrap();
}

fn error_of(path: &Path) -> String {
    use_up(path).unwrap_err().to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_and_cut_off_files_never_panic(
        kind in prop_oneof![
            Just(DiskKind::MonolithicSparse),
            Just(DiskKind::TwoGbMaxExtentSparse),
            Just(DiskKind::TwoGbMaxExtentFlat),
        ],
        // Most of them in the metadata, where they matter.
        flips in prop::collection::vec((any::<u16>(), 0..40_000_usize, 1_u8..), 0..6),
        cut in prop::option::of((any::<u16>(), any::<u32>())),
    ) {
        let dir = TempDir::new().unwrap();
        let delta = copy_of_chain(dir.path(), kind);
        let mut files: Vec<PathBuf> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        for (file, at, value) in flips {
            flip(&files[file as usize % files.len()], at, value);
        }
        if let Some((file, len)) = cut {
            let file = fs::OpenOptions::new()
                .write(true)
                .open(&files[file as usize % files.len()])
                .unwrap();
            let now = file.metadata().unwrap().len();
            file.set_len(u64::from(len) % now).unwrap();
        }
        _ = use_up(&delta);
        // Writing over damage must be as calm.
        if let Ok(mut disk) = WritableDisk::open(&delta) {
            _ = disk.write_at(0, &[1; 4096]);
        }
        _ = merge_into_parent(&delta);
    }

    #[test]
    fn any_text_is_a_descriptor_or_an_error(text in "(# Disk DescriptorFile\n)?(([a-zA-Z.]{1,12}|CID|createType|RW|RW 12 FLAT|RW 1 ZERO)[ =\"]{0,3}[a-zA-Z0-9\"./-]{0,20}\n){0,12}") {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a.vmdk");
        fs::write(&path, text).unwrap();
        _ = use_up(&path);
    }
}

#[test]
fn a_truncated_file_is_an_error_not_a_short_read() {
    for kind in [DiskKind::MonolithicSparse, DiskKind::MonolithicFlat] {
        let dir = TempDir::new().unwrap();
        let (delta, _) = chain_of_two(dir.path(), kind);
        let base = Layer::open(dir.path().join("a.vmdk")).unwrap();
        let data = base.files().last().unwrap();
        let file = fs::OpenOptions::new().write(true).open(data).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        drop(base);
        let error = error_of(&delta);
        assert!(error.contains("cut off"), "{kind:?}: {error}");
    }
}

#[test]
fn a_flat_file_that_shrinks_while_in_use_is_no_run_of_zeros() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.vmdk");
    create(&path, &create_options(DiskKind::MonolithicFlat, SIZE)).unwrap();
    let layer = Layer::open(&path).unwrap();
    assert_eq!(layer.range_at(0).unwrap().kind, RangeKind::Zero);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&layer.files()[1])
        .unwrap();
    file.set_len(SIZE / 2).unwrap();
    assert!(layer.range_at(0).is_err());
}

#[test]
fn a_damaged_grain_directory_is_made_up_for_by_the_redundant_one() {
    let dir = TempDir::new().unwrap();
    let (delta, model) = chain_of_two(dir.path(), DiskKind::MonolithicSparse);
    let base = dir.path().join("a.vmdk");
    let header = fs::read(&base).unwrap();
    let directory = u64::from_le_bytes(header[56..64].try_into().unwrap()) * 512;
    for nonsense in [u32::MAX, 1, directory as u32 / 512] {
        patch(&base, directory, &nonsense.to_le_bytes());
        assert!(chain_bytes(&delta) == model, "{nonsense}");
    }
    // Writing would make the damage worse.
    let error = merge_into_parent(&delta).unwrap_err().to_string();
    assert!(error.contains("grain table"), "{error}");
    // With both gone nothing helps.
    let redundant = u64::from_le_bytes(header[48..56].try_into().unwrap()) * 512;
    patch(&base, redundant, &u32::MAX.to_le_bytes());
    assert!(error_of(&delta).contains("lies on other metadata"));
}

#[test]
fn the_redundant_tables_of_a_backup_are_complete() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.vmdk");
    let options = SparseOptions {
        file_name: "a.vmdk".to_owned(),
        capacity_bytes: SIZE,
        ..SparseOptions::default()
    };
    let sink = fs::File::create(&path).unwrap();
    let mut writer = SparseWriter::new(sink, &path, &options).unwrap();
    let mut model = vec![0; SIZE as usize];
    for grain in [5, 0, 47] {
        let bytes = grain * 65536..(grain + 1) * 65536;
        model[bytes.clone()].fill(grain as u8 + 1);
        writer.write_grain(grain as u64, &model[bytes]).unwrap();
    }
    writer.finish().unwrap();
    let header = fs::read(&path).unwrap();
    let directory = u64::from_le_bytes(header[56..64].try_into().unwrap()) * 512;
    patch(&path, directory, &u32::MAX.to_le_bytes());
    assert!(chain_bytes(&path) == model);
}

#[test]
fn a_damaged_grain_table_is_made_up_for_by_the_redundant_one() {
    let dir = TempDir::new().unwrap();
    let (delta, model) = chain_of_two(dir.path(), DiskKind::MonolithicSparse);
    let bytes = fs::read(&delta).unwrap();
    let directory = u64::from_le_bytes(bytes[56..64].try_into().unwrap()) as usize * 512;
    let table = u32::from_le_bytes(bytes[directory..directory + 4].try_into().unwrap());
    let table = u64::from(table) * 512;
    // Beyond the end, on the header, on a table; then the same grain twice.
    for nonsense in [u32::MAX, 1, (table / 512) as u32] {
        patch(&delta, table + 8, &nonsense.to_le_bytes());
        assert!(chain_bytes(&delta) == model, "{nonsense}");
    }
    let used = bytes[table as usize..table as usize + 2048]
        .chunks(4)
        .find(|entry| **entry != [0; 4])
        .unwrap();
    patch(&delta, table, used);
    patch(&delta, table + 4, used);
    assert!(chain_bytes(&delta) == model);
}

#[test]
fn what_cannot_be_read_says_why() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.vmdk");
    let head = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n";
    let cases: [(Vec<u8>, &str); 14] = [
        (b"".to_vec(), "empty"),
        (b"COWD".to_vec(), "vmfsSparse"),
        (0xcafe_babe_u64.to_le_bytes().to_vec(), "seSparse"),
        (b"hello world\n".to_vec(), "first line"),
        (vec![0; 2 << 20], "neither a descriptor"),
        (b"KDMV".to_vec(), "only 4 bytes"),
        (head.into(), "no createType"),
        (
            format!("{head}createType=\"vmfsSparse\"\nRW 1 VMFSSPARSE \"x\"\n").into(),
            "vmfsSparse",
        ),
        (
            format!("{head}createType=\"seSparse\"\nRW 1 SESPARSE \"x\"\n").into(),
            "seSparse",
        ),
        (
            format!("{head}createType=\"custom\"\nRW 1 VMFSRDM \"x\"\n").into(),
            "VMFSRDM",
        ),
        (
            format!("{head}createType=\"custom\"\n").into(),
            "no extents",
        ),
        (
            format!("{head}createType=\"custom\"\nRW 0 ZERO\n").into(),
            "line 6",
        ),
        (
            format!("{head}createType=\"custom\"\nRW {} ZERO\n", u64::MAX).into(),
            "larger than any disk",
        ),
        (
            format!("{head}createType=\"custom\"\nNOACCESS 1 ZERO\n").into(),
            "NOACCESS",
        ),
    ];
    for (bytes, want) in cases {
        fs::write(&path, &bytes).unwrap();
        let error = error_of(&path);
        assert!(error.contains(want), "{want}: {error}");
    }
    let error = error_of(dir.path());
    assert!(error.contains("not a regular file"), "{error}");
}

#[test]
fn a_part_of_a_split_disk_is_not_opened_as_a_disk() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.vmdk");
    create(&path, &create_options(DiskKind::TwoGbMaxExtentSparse, SIZE)).unwrap();
    let error = error_of(&dir.path().join("a-s001.vmdk"));
    assert!(error.contains("open the disk by its descriptor"), "{error}");
}

#[test]
fn a_chain_that_runs_in_a_circle_is_an_error() {
    let dir = TempDir::new().unwrap();
    let text = |parent: &str| {
        format!(
            "# Disk DescriptorFile\nCID=7\nparentCID=7\ncreateType=\"custom\"\n\
             parentFileNameHint=\"{parent}\"\nRW 8 ZERO\n"
        )
    };
    fs::write(dir.path().join("a.vmdk"), text("b.vmdk")).unwrap();
    fs::write(dir.path().join("b.vmdk"), text("./a.vmdk")).unwrap();
    let error = error_of(&dir.path().join("a.vmdk"));
    assert!(error.contains("its own parent"), "{error}");
}

#[test]
fn a_parent_of_another_size_is_an_error() {
    let dir = TempDir::new().unwrap();
    let (delta, _) = chain_of_two(dir.path(), DiskKind::MonolithicSparse);
    let id = Layer::open(dir.path().join("a.vmdk"))
        .unwrap()
        .descriptor()
        .content_id();
    let other = format!(
        "# Disk DescriptorFile\nCID={id:x}\nparentCID=ffffffff\ncreateType=\"custom\"\nRW 8 ZERO\n"
    );
    fs::write(dir.path().join("a.vmdk"), other).unwrap();
    assert!(
        error_of(&delta).contains("its parent"),
        "{}",
        error_of(&delta)
    );
}

#[test]
fn a_parent_is_found_beside_its_delta_and_in_the_given_directories() {
    let dir = TempDir::new().unwrap();
    let (delta, model) = chain_of_two(dir.path(), DiskKind::MonolithicFlat);
    let moved = dir.path().join("moved");
    fs::create_dir(&moved).unwrap();
    let new_delta = moved.join("b.vmdk");
    fs::rename(&delta, &new_delta).unwrap();
    assert!(error_of(&new_delta).contains("cannot find the parent"));
    let chain = Chain::open(&new_delta, &[dir.path().to_owned()]).unwrap();
    assert!(crate::common::source_bytes(&chain) == model);
    // As a Windows host names it, and then copied beside the delta.
    let bytes = fs::read(&new_delta).unwrap();
    let text = String::from_utf8_lossy(&bytes[512..1536]).into_owned();
    let new = text.replace("Hint=\"a.vmdk\"", r#"Hint="D:\VMs\a.vmdk""#);
    patch(&new_delta, 512, &new.as_bytes()[..1024]);
    for name in ["a.vmdk", "a-flat.vmdk"] {
        fs::rename(dir.path().join(name), moved.join(name)).unwrap();
    }
    assert!(chain_bytes(&new_delta) == model);
}

#[test]
fn a_descriptor_in_another_encoding_and_with_windows_line_ends_is_read_and_kept() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.vmdk");
    create(&path, &create_options(DiskKind::MonolithicFlat, SIZE)).unwrap();
    fs::rename(
        dir.path().join("a-flat.vmdk"),
        dir.path().join("Küche-flat.vmdk"),
    )
    .unwrap();
    let text = b"# Disk DescriptorFile\r\nversion = 1\r\nencoding=\"windows-1252\"\r\nCID=0ab\r\n\
        parentCID=ffffffff\r\ncreateType=\"monolithicFlat\"\r\nRW 6144 FLAT \"K\xfcche-flat.vmdk\" 0\r\n\
        ddb.longContentID = \"00112233445566778899aabb000000ab\"\r\nddb.toolsVersion = \"1\"\r\n";
    fs::write(&path, text).unwrap();
    let layer = Layer::open(&path).unwrap();
    assert_eq!(layer.descriptor().content_id(), 0xab);
    assert_eq!(layer.files()[1], dir.path().join("Küche-flat.vmdk"));
    WritableDisk::open(&path)
        .unwrap()
        .write_at(0, &[7; 512])
        .unwrap();
    let id = Layer::open(&path).unwrap().descriptor().content_id();
    assert_ne!(id, 0xab);
    let want = [
        &text[..text.windows(7).position(|part| part == b"CID=0ab").unwrap()],
        format!("CID={id:08x}\r\n").as_bytes(),
        b"parentCID=ffffffff\r\ncreateType=\"monolithicFlat\"\r\nRW 6144 FLAT \"K\xfcche-flat.vmdk\" 0\r\n",
        format!("ddb.longContentID=\"00112233445566778899aabb{id:08x}\"\r\n").as_bytes(),
        b"ddb.toolsVersion = \"1\"\r\n",
    ]
    .concat();
    assert_eq!(
        fs::read(&path).unwrap().escape_ascii().to_string(),
        want.escape_ascii().to_string()
    );
}

#[test]
fn a_writer_refuses_what_the_format_cannot_hold() {
    let dir = TempDir::new().unwrap();
    let options = |capacity_bytes: u64, name: &str| SparseOptions {
        file_name: name.to_owned(),
        capacity_bytes,
        adapter_type: "ide".to_owned(),
        ..SparseOptions::default()
    };
    let begin = |options: &SparseOptions| {
        let path = dir.path().join("a.vmdk");
        SparseWriter::new(fs::File::create(&path).unwrap(), path, options)
    };
    for (capacity, name) in [
        (0, "a"),
        (513, "a"),
        (u64::MAX - 511, "a"),
        (512, "a\"b"),
        (512, "a\nb"),
    ] {
        let error = begin(&options(capacity, name)).unwrap_err();
        assert!(
            matches!(error, DiskError::Refused { .. }),
            "{capacity} {name}: {error}"
        );
    }
    let mut writer = begin(&options(65536 + 512, "a")).unwrap();
    writer.write_grain(0, &[1; 65536]).unwrap();
    for (grain, len) in [(0, 65536), (1, 65536), (1, 511), (2, 65536)] {
        let error = writer.write_grain(grain, &vec![1; len]).unwrap_err();
        assert!(
            matches!(error, DiskError::Refused { .. }),
            "{grain} {len}: {error}"
        );
    }
    writer.write_grain(1, &[2; 512]).unwrap();
    let start = writer.data_start_bytes();
    let file = writer.finish().unwrap();
    assert_eq!(file.metadata().unwrap().len(), start + 2 * 65536);
    assert_eq!(estimate_bytes(65536 + 512, 2), start + 2 * 65536);
}

#[test]
fn a_file_left_by_a_writer_that_did_not_finish_is_no_disk() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.vmdk");
    let options = SparseOptions {
        file_name: "a.vmdk".to_owned(),
        capacity_bytes: SIZE,
        adapter_type: "ide".to_owned(),
        ..SparseOptions::default()
    };
    let sink = fs::File::create(&path).unwrap();
    let mut writer = SparseWriter::new(sink, &path, &options).unwrap();
    writer.write_grain(0, &[1; 65536]).unwrap();
    drop(writer);
    assert!(matches!(
        Layer::open(&path),
        Err(DiskError::Malformed { .. })
    ));
}

#[test]
fn writes_of_parts_of_sectors_or_past_the_end_are_refused_and_change_nothing() {
    let dir = TempDir::new().unwrap();
    let (delta, _) = chain_of_two(dir.path(), DiskKind::MonolithicSparse);
    let before = fs::read(&delta).unwrap();
    let mut disk = WritableDisk::open(&delta).unwrap();
    for (at, len) in [
        (1, 512),
        (0, 100),
        (SIZE, 512),
        (SIZE - 512, 1024),
        (u64::MAX - 511, 512),
    ] {
        disk.write_at(at, &vec![9; len]).unwrap_err();
    }
    assert!(fs::read(&delta).unwrap() == before);
}

#[test]
fn the_holes_of_a_raw_file_are_zero_ranges() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("state");
    let file = fs::File::create(&path).unwrap();
    file.set_len(SIZE).unwrap();
    patch(&path, 1 << 20, &[7; 4096]);
    let found: Vec<_> = ranges(&RawFile::open(&path).unwrap())
        .map(|range| {
            range
                .map(|range| (range.offset_bytes, range.len_bytes, range.kind))
                .unwrap()
        })
        .collect();
    let data_end = (1 << 20) + 4096;
    assert_eq!(
        found,
        [
            (0, 1 << 20, RangeKind::Zero),
            (1 << 20, 4096, RangeKind::Data),
            (data_end, SIZE - data_end, RangeKind::Zero),
        ]
    );
}

#[test]
fn a_sparse_file_does_not_grow_beyond_two_tebibytes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.vmdk");
    create(&path, &create_options(DiskKind::MonolithicSparse, SIZE)).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len((2 << 40) - 65536).unwrap();
    let mut disk = WritableDisk::open(&path).unwrap();
    disk.write_at(0, &[1; 512]).unwrap();
    let error = disk.write_at(1 << 20, &[2; 512]).unwrap_err();
    assert!(error.to_string().contains("2 TiB"), "{error}");
    let bytes = chain_bytes(&path);
    assert!(bytes[..512] == [1; 512] && bytes[512..].iter().all(|byte| *byte == 0));
}
