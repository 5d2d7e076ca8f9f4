//! From sources to a restore point and back: what is stored is what was read, and nothing more.

use std::{fs, os::unix::fs::MetadataExt, process::Command};

use parking_lot::Mutex;
use proptest::prelude::*;
use virtuozo_disk::{BlockSource, RangeKind, RawFile, vmdk::Layer};
use virtuozo_repository::{
    CHUNK_BYTES, CopyObserver, CopyPlan, FileEntry, Manifest, Repository, RepositoryError,
    RestoreOptions, Stopped, Unobserved, restore,
};

use crate::support::{Memory, UNIT, new_point, raw, read_chain, tree, vmdk};

fn any_kind() -> impl Strategy<Value = RangeKind> {
    prop_oneof![
        3 => Just(RangeKind::Data),
        1 => Just(RangeKind::Zero),
        3 => Just(RangeKind::Absent),
    ]
}

/// Units in runs, so that whole grains of one kind occur as well as mixed ones.
fn any_units(units: usize) -> impl Strategy<Value = Vec<(RangeKind, u8)>> {
    proptest::collection::vec((any_kind(), 0_u8..4, 1_usize..40), units).prop_map(move |runs| {
        runs.into_iter()
            .flat_map(|(kind, fill, len)| std::iter::repeat_n((kind, fill), len))
            .take(units)
            .collect()
    })
}

fn nonzero_grain_bytes(bytes: &[u8]) -> u64 {
    let grains = bytes.chunks(65536);
    grains
        .filter(|grain| grain.iter().any(|byte| *byte != 0))
        .map(|grain| grain.len() as u64)
        .sum()
}

/// What a guest sees with `delta` on top of `base`.
fn merged(base: &[u8], delta: &Memory) -> Vec<u8> {
    let mut bytes = base.to_vec();
    for (unit, kind) in delta.kinds.iter().enumerate() {
        let range = unit * UNIT..((unit + 1) * UNIT).min(bytes.len());
        if *kind != RangeKind::Absent {
            bytes[range.clone()].copy_from_slice(&delta.bytes[range]);
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_chain_reads_the_same_in_its_source_its_point_and_its_restore(
        cut_sectors in 0_usize..8,
        base in any_units(120),
        delta in any_units(120),
        second in any_units(120),
    ) {
        let size = 120 * UNIT - cut_sectors * 512;
        let (base, delta, second) =
            (Memory::new(size, &base), Memory::new(size, &delta), Memory::new(size, &second));
        let dir = tempfile::tempdir().unwrap();
        let repo = Repository::create(dir.path().join("repo")).unwrap();
        let mut writer = repo.begin(new_point(1)).unwrap();
        let stored = writer.add_file(&vmdk("a.vmdk", None), &base, &Unobserved).unwrap();
        prop_assert_eq!(stored.data_bytes, nonzero_grain_bytes(&base.bytes));
        writer.add_file(&vmdk("a-000001.vmdk", Some("a.vmdk")), &delta, &Unobserved).unwrap();
        writer
            .add_file(&vmdk("a-000002.vmdk", Some("a-000001.vmdk")), &second, &Unobserved)
            .unwrap();
        let stored = writer.add_file(&raw("a.vmem"), &second, &Unobserved).unwrap();
        prop_assert_eq!(stored.data_bytes, nonzero_grain_bytes(&second.bytes));
        writer.add_small("a.vmx", b"").unwrap();
        let point = repo.publish(&writer.seal().unwrap()).unwrap();
        let point_dir = repo.root().join(&point.path);
        let to = dir.path().join("restored");
        restore(&point_dir, &to, &RestoreOptions::default(), &Unobserved).unwrap();

        let one = merged(&base.bytes, &delta);
        let two = merged(&one, &second);
        for dir in [&point_dir, &to] {
            prop_assert!(read_chain(&dir.join("a.vmdk")) == base.bytes);
            prop_assert!(read_chain(&dir.join("a-000001.vmdk")) == one);
            prop_assert!(read_chain(&dir.join("a-000002.vmdk")) == two);
            prop_assert!(fs::read(dir.join("a.vmem")).unwrap() == second.bytes);
        }
        let report = repo.verify(&point.path, None, &Unobserved).unwrap();
        prop_assert!(report.ok, "{:?}", report.problems);
    }
}

#[test]
fn a_delta_keeps_absent_zero_and_data_apart() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::create(dir.path()).unwrap();
    let grains = |kinds: &[RangeKind]| -> Vec<_> {
        kinds.iter().flat_map(|kind| [(*kind, 9); 16]).collect()
    };
    use RangeKind::{Absent, Data, Zero};
    let base = Memory::new(4 * 65536, &grains(&[Data; 4]));
    let mut delta = Memory::new(4 * 65536, &grains(&[Absent, Zero, Data, Data]));
    delta.bytes[3 * 65536..].fill(0);
    let mut writer = repo.begin(new_point(1)).unwrap();
    writer
        .add_file(&vmdk("a.vmdk", None), &base, &Unobserved)
        .unwrap();
    writer
        .add_file(&vmdk("b.vmdk", Some("a.vmdk")), &delta, &Unobserved)
        .unwrap();
    let sealed = writer.seal().unwrap();
    let layer = Layer::open(repo.root().join(&sealed.partial_path).join("b.vmdk")).unwrap();
    let kinds: Vec<_> = (0..4)
        .map(|grain| layer.range_at(grain * 65536).unwrap().kind)
        .collect();
    assert_eq!(kinds, [Absent, Zero, Data, Zero]);
}

#[test]
fn hashes_are_those_of_b3sum_and_of_each_chunk_in_its_tree() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::create(dir.path()).unwrap();
    let mut writer = repo.begin(new_point(1)).unwrap();
    let sizes = [512, CHUNK_BYTES as usize, 3 * CHUNK_BYTES as usize + 1536];
    for size in sizes {
        let source = Memory::data(size);
        writer
            .add_file(&vmdk(&format!("{size}.vmdk"), None), &source, &Unobserved)
            .unwrap();
        writer
            .add_file(&raw(&format!("{size}.raw")), &source, &Unobserved)
            .unwrap();
    }
    writer.add_small("empty", b"").unwrap();
    let sealed = writer.seal().unwrap();
    let manifest = Manifest::read(&repo.root().join(&sealed.partial_path)).unwrap();
    assert_eq!(manifest.files.len(), 7);
    for file in &manifest.files {
        let bytes = fs::read(repo.root().join(&sealed.partial_path).join(&file.name)).unwrap();
        assert_eq!(bytes.len() as u64, file.size_bytes, "{}", file.name);
        assert_eq!(
            file.blake3.0,
            *blake3::hash(&bytes).as_bytes(),
            "{}",
            file.name
        );
        assert_eq!(
            file.chunks.len() as u64,
            file.size_bytes.div_ceil(CHUNK_BYTES)
        );
    }
    assert!(
        repo.verify(&sealed.partial_path, None, &Unobserved)
            .unwrap()
            .ok
    );
}

#[test]
fn a_point_holds_where_it_comes_from_and_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::create(dir.path()).unwrap();
    let point = repo
        .publish(&crate::support::sealed_guest(&repo, 5, 1 << 20))
        .unwrap();
    assert_eq!(
        point.path.to_str().unwrap(),
        "alpha.lab/web%2F1/20270115T080000Z-000007d5-f3"
    );
    assert_eq!(point.source_bytes, 1 << 20);
    let listed = repo.list().unwrap();
    let [only] = listed.as_slice() else {
        panic!("{listed:?}")
    };
    assert_eq!(only.path, point.path);
    let summary = only.point.as_ref().unwrap();
    assert_eq!(summary.point, new_point(5));
    assert_eq!((summary.files, summary.size_bytes), (4, point.size_bytes));
    let manifest = Manifest::read(&repo.root().join(&point.path)).unwrap();
    let find = |name: &str| -> &FileEntry {
        manifest
            .files
            .iter()
            .find(|file| file.name == name)
            .unwrap()
    };
    assert_eq!(find("web-000001.vmdk").parent.as_deref(), Some("web.vmdk"));
    assert_eq!(find("web-000001.vmdk").data_bytes, 65536);
    assert_eq!(find("web.vmdk").device.as_deref(), Some("scsi0:0"));
    assert_eq!(find("web.vmem").device, None);
}

#[test]
fn raw_files_stay_sparse_in_point_and_restore() {
    let dir = tempfile::tempdir().unwrap();
    let source_path = dir.path().join("memory");
    let file = fs::File::create(&source_path).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 1000], 40 << 20).unwrap();
    let repo = Repository::create(dir.path().join("repo")).unwrap();
    let mut writer = repo.begin(new_point(1)).unwrap();
    let source = RawFile::open(&source_path).unwrap();
    let mut plan = CopyPlan::new();
    plan.add_file(&raw("m"), &source).unwrap();
    assert!(plan.needed_bytes() < 1 << 20, "{plan:?}");
    writer.add_file(&raw("m"), &source, &Unobserved).unwrap();
    let point = repo.publish(&writer.seal().unwrap()).unwrap();
    let to = dir.path().join("to");
    restore(
        &repo.root().join(&point.path),
        &to,
        &RestoreOptions::default(),
        &Unobserved,
    )
    .unwrap();
    for dir in [repo.root().join(&point.path), to] {
        let metadata = fs::metadata(dir.join("m")).unwrap();
        assert_eq!(metadata.len(), 64 << 20);
        assert!(
            metadata.blocks() * 512 < 1 << 20,
            "{} blocks",
            metadata.blocks()
        );
        assert!(fs::read(dir.join("m")).unwrap() == fs::read(&source_path).unwrap());
    }
}

#[test]
fn a_restore_holds_exactly_the_files_of_the_point_without_its_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::create(dir.path().join("repo")).unwrap();
    let point = repo
        .publish(&crate::support::sealed_guest(&repo, 1, 6 << 20))
        .unwrap();
    let point_dir = repo.root().join(&point.path);
    let to = dir.path().join("new/folder");
    let report = restore(&point_dir, &to, &RestoreOptions::default(), &Unobserved).unwrap();
    let mut expected = tree(&point_dir);
    expected.retain(|(name, _)| name.to_str() != Some(virtuozo_repository::MANIFEST_NAME));
    assert!(tree(&to) == expected);
    assert_eq!((report.files, report.bytes), (4, point.size_bytes));
}

#[test]
fn a_restore_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::create(dir.path().join("repo")).unwrap();
    let point = repo
        .publish(&crate::support::sealed_guest(&repo, 1, 1 << 20))
        .unwrap();
    let to = dir.path().join("to");
    fs::create_dir(&to).unwrap();
    fs::write(to.join("web.vmx"), "mine").unwrap();
    let before = tree(&to);
    let error = restore(
        &repo.root().join(&point.path),
        &to,
        &RestoreOptions::default(),
        &Unobserved,
    )
    .unwrap_err();
    assert!(matches!(error, RepositoryError::Occupied { .. }), "{error}");
    assert!(tree(&to) == before);
}

#[test]
fn a_stopped_restore_leaves_nothing_and_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::create(dir.path().join("repo")).unwrap();
    let point = repo
        .publish(&crate::support::sealed_guest(&repo, 1, 9 << 20))
        .unwrap();
    let point_dir = repo.root().join(&point.path);
    let to = dir.path().join("to");
    for chunks in 0..6 {
        let error = restore(
            &point_dir,
            &to,
            &RestoreOptions::default(),
            &crate::support::StopAfter::new(chunks),
        )
        .unwrap_err();
        assert!(matches!(error, RepositoryError::Stopped(_)), "{error}");
        assert!(tree(&to).is_empty());
    }
    // As an interrupted process leaves it.
    fs::create_dir(to.join(".virtuozo-restore")).unwrap();
    fs::write(to.join(".virtuozo-restore/web.vmx"), "half").unwrap();
    restore(&point_dir, &to, &RestoreOptions::default(), &Unobserved).unwrap();
    assert_eq!(tree(&to).len(), 4);
}

#[test]
fn too_little_space_is_told_with_both_numbers_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::create(dir.path()).unwrap();
    let mut plan = CopyPlan::new();
    plan.add_small(1 << 60);
    match repo.check_capacity(&plan) {
        Err(RepositoryError::NoSpace {
            need_bytes,
            have_bytes,
            ..
        }) => {
            assert!(need_bytes >= 1 << 60);
            assert!(have_bytes > 0 && have_bytes < need_bytes);
        }
        other => panic!("{other:?}"),
    }
    repo.check_capacity(&CopyPlan::new()).unwrap();
}

#[test]
fn a_plan_needs_at_least_what_the_copy_stores() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::create(dir.path()).unwrap();
    let source = Memory::data(9 << 20);
    let mut plan = CopyPlan::new();
    assert_eq!(
        plan.add_file(&vmdk("a.vmdk", None), &source).unwrap(),
        9 << 20
    );
    let mut writer = repo.begin(new_point(1)).unwrap();
    writer
        .add_file(&vmdk("a.vmdk", None), &source, &Unobserved)
        .unwrap();
    let sealed = writer.seal().unwrap();
    let stored: usize = tree(repo.root()).iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(plan.needed_bytes() >= stored as u64, "{plan:?} {stored}");
    assert_eq!(plan.source_bytes(), sealed.source_bytes);
}

#[test]
fn progress_counts_what_is_read_up_to_the_planned_total() {
    struct Record(Mutex<Vec<(String, u64, u64)>>);
    impl CopyObserver for Record {
        fn progress(&self, name: &str, copied_bytes: u64, total_bytes: u64) {
            let mut seen = self.0.lock();
            seen.push((name.to_owned(), copied_bytes, total_bytes));
        }
        fn wait_allowed(&self) -> Result<(), Stopped> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::create(dir.path()).unwrap();
    let mut source = Memory::data(5 << 20);
    source.kinds[..256].fill(RangeKind::Absent);
    let record = Record(Mutex::default());
    let mut writer = repo.begin(new_point(1)).unwrap();
    writer
        .add_file(&vmdk("a.vmdk", None), &source, &record)
        .unwrap();
    let seen = record.0.into_inner();
    assert_eq!(seen.first().unwrap(), &("scsi0:0".to_owned(), 0, 4 << 20));
    assert_eq!(
        seen.last().unwrap(),
        &("scsi0:0".to_owned(), 4 << 20, 4 << 20)
    );
    assert!(seen.is_sorted_by_key(|step| step.1));
}

/// Runs qemu-img, which these tests need.
fn qemu_img(args: &[&str]) -> String {
    let output = Command::new("qemu-img")
        .args(args)
        .output()
        .expect("qemu-img cannot be started; install Debian's package qemu-utils");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "qemu-img {args:?}: {text}");
    text
}

#[test]
fn qemu_reads_a_stored_disk_as_its_source() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    // Two thirds of the image stay a hole.
    let source = Memory::data(11 << 20);
    let file = fs::File::create(path("raw")).unwrap();
    file.set_len(33 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &source.bytes, 3 << 20).unwrap();
    for subformat in [
        "monolithicSparse",
        "monolithicFlat",
        "twoGbMaxExtentSparse",
        "twoGbMaxExtentFlat",
    ] {
        let image = path(&format!("{subformat}.vmdk"));
        let option = format!("subformat={subformat}");
        qemu_img(&["convert", "-O", "vmdk", "-o", &option, &path("raw"), &image]);
        let repo = Repository::create(dir.path().join(subformat)).unwrap();
        let mut writer = repo.begin(new_point(1)).unwrap();
        let layer = Layer::open(&image).unwrap();
        let stored = writer
            .add_file(&vmdk("disk.vmdk", None), &layer, &Unobserved)
            .unwrap();
        assert!(
            stored.size_bytes < 12 << 20,
            "{subformat}: {}",
            stored.size_bytes
        );
        let point = repo.publish(&writer.seal().unwrap()).unwrap();
        let stored = repo.root().join(&point.path).join("disk.vmdk");
        let stored = stored.to_str().unwrap();
        qemu_img(&["compare", "-f", "vmdk", "-F", "raw", stored, &path("raw")]);
        qemu_img(&["check", "-f", "vmdk", stored]);
    }
}
