//! Damage to a restore point is found, all of it, and nothing damaged is restored.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::PathBuf,
};

use proptest::prelude::*;
use virtuozo_disk::vmdk::{SparseOptions, SparseWriter};
use virtuozo_repository::{
    CHUNK_BYTES, MANIFEST_NAME, Manifest, Repository, RepositoryError, RestoreOptions, Unobserved,
    VerifyReport, restore,
};

use crate::support::{forge, sealed_guest, tree};

struct Stored {
    _dir: tempfile::TempDir,
    repo: Repository,
    path: PathBuf,
}

impl Stored {
    fn new(disk_bytes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repository::create(dir.path().join("repo")).unwrap();
        let sealed = sealed_guest(&repo, 1, disk_bytes);
        let path = repo.publish(&sealed).unwrap().path;
        Self {
            _dir: dir,
            repo,
            path,
        }
    }

    fn dir(&self) -> PathBuf {
        self.repo.root().join(&self.path)
    }

    fn flip(&self, name: &str, offset_bytes: u64, bit: u8) {
        let path = self.dir().join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset_bytes).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << bit)], offset_bytes)
            .unwrap();
    }

    fn verify(&self) -> VerifyReport {
        let report = self.repo.verify(&self.path, None, &Unobserved).unwrap();
        assert_eq!(report.ok, report.problems.is_empty());
        report
    }

    /// File and offset of each problem.
    fn places(&self) -> Vec<(String, Option<u64>)> {
        let problems = self.verify().problems;
        problems
            .into_iter()
            .map(|problem| (problem.file, problem.offset_bytes))
            .collect()
    }

    fn restore_fails(&self) -> RepositoryError {
        let to = self.repo.root().with_file_name("to");
        let error = restore(&self.dir(), &to, &RestoreOptions::default(), &Unobserved).unwrap_err();
        assert!(
            !to.exists() || tree(&to).is_empty(),
            "something was restored: {error}"
        );
        error
    }
}

fn place(name: &str, offset_bytes: u64) -> (String, Option<u64>) {
    (name.to_owned(), Some(offset_bytes))
}

#[test]
fn an_undamaged_point_is_read_whole() {
    let stored = Stored::new(9 << 20);
    let report = stored.verify();
    assert!(report.ok, "{:?}", report.problems);
    let manifest = Manifest::read(&stored.dir()).unwrap();
    assert_eq!(
        (report.files_checked, report.bytes),
        (4, manifest.size_bytes)
    );
}

#[test]
fn flipped_bits_are_found_at_their_chunks_all_of_them() {
    let stored = Stored::new(13 << 20);
    stored.flip("web.vmdk", 2 << 20, 0);
    stored.flip("web.vmdk", 2 * CHUNK_BYTES + 77, 7);
    stored.flip("web.vmem", 299_999, 3);
    stored.flip("web.vmx", 0, 1);
    assert_eq!(
        stored.places(),
        [
            place("web.vmx", 0),
            place("web.vmdk", 0),
            place("web.vmdk", 2 * CHUNK_BYTES),
            place("web.vmem", 0),
        ]
    );
    let error = stored.restore_fails();
    assert!(matches!(error, RepositoryError::Damaged { .. }), "{error}");
}

#[test]
fn missing_unexpected_and_resized_files_are_all_reported() {
    let stored = Stored::new(9 << 20);
    fs::remove_file(stored.dir().join("web.vmx")).unwrap();
    fs::write(stored.dir().join("stranger"), "x").unwrap();
    let resize = |name: &str, size_bytes: u64| {
        let file = OpenOptions::new()
            .write(true)
            .open(stored.dir().join(name))
            .unwrap();
        file.set_len(size_bytes).unwrap();
    };
    resize("web.vmem", 300_001);
    resize("web.vmdk", 5 << 20);
    let places = stored.places();
    for expected in [
        ("stranger".to_owned(), None),
        ("web.vmx".to_owned(), None),
        place("web.vmem", 300_000),
        place("web.vmdk", 5 << 20),
        place("web.vmdk", CHUNK_BYTES),
        place("web.vmdk", 2 * CHUNK_BYTES),
    ] {
        assert!(
            places.contains(&expected),
            "{expected:?} is not in {places:?}"
        );
    }
    stored.restore_fails();
}

#[test]
fn a_link_or_directory_in_place_of_a_file_is_reported() {
    let stored = Stored::new(1 << 20);
    let (vmx, vmem) = (stored.dir().join("web.vmx"), stored.dir().join("web.vmem"));
    fs::rename(&vmx, stored.repo.root().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(stored.repo.root().join("elsewhere"), vmx).unwrap();
    fs::remove_file(&vmem).unwrap();
    fs::create_dir(&vmem).unwrap();
    assert_eq!(
        stored.places(),
        [("web.vmx".to_owned(), None), ("web.vmem".to_owned(), None)]
    );
}

#[test]
fn a_base_that_does_not_belong_to_its_delta_is_reported() {
    let stored = Stored::new(1 << 20);
    let path = stored.dir().join("web.vmdk");
    fs::remove_file(&path).unwrap();
    let options = SparseOptions {
        file_name: "web.vmdk".to_owned(),
        capacity_bytes: 1 << 20,
        content_id: 0x1234_5678,
        adapter_type: "lsilogic".to_owned(),
        hardware_version: 7,
        ..SparseOptions::default()
    };
    let file = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    SparseWriter::new(file, &path, &options)
        .unwrap()
        .finish()
        .unwrap();
    let problems = stored.verify().problems;
    assert!(
        problems.iter().any(|problem| {
            problem.file == "web-000001.vmdk" && problem.what.contains("12345678")
        }),
        "{problems:?}"
    );
}

#[test]
fn a_missing_point_is_an_error_not_damage() {
    let stored = Stored::new(1 << 20);
    let gone = stored.path.with_file_name("gone");
    let error = stored.repo.verify(&gone, None, &Unobserved).unwrap_err();
    assert!(matches!(error, RepositoryError::NotFound { .. }), "{error}");
}

#[test]
fn a_point_without_manifest_is_listed_and_verified_as_damaged() {
    let stored = Stored::new(1 << 20);
    fs::remove_file(stored.dir().join(MANIFEST_NAME)).unwrap();
    assert_eq!(stored.places(), [(MANIFEST_NAME.to_owned(), None)]);
    let listed = stored.repo.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].point.is_err());
}

#[test]
fn a_manifest_of_a_newer_format_is_told_apart_from_damage() {
    let stored = Stored::new(1 << 20);
    let path = stored.dir().join(MANIFEST_NAME);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\"format_version\":1,"), "{text}");
    fs::write(&path, text.replacen(":1,", ":2,", 1)).unwrap();
    let error = stored
        .repo
        .verify(&stored.path, None, &Unobserved)
        .unwrap_err();
    match error {
        RepositoryError::NewerFormat {
            found: 2,
            supported: 1,
            ..
        } => {}
        other => panic!("{other}"),
    }
    // Even one whose other fields have changed.
    fs::write(&path, "{\"format_version\": 9, \"new\": []}").unwrap();
    assert!(matches!(
        Manifest::read(&stored.dir()),
        Err(RepositoryError::NewerFormat { found: 9, .. })
    ));
}

#[test]
fn a_manifest_that_contradicts_itself_or_leaves_its_directory_is_refused() {
    let stored = Stored::new(9 << 20);
    forge(&stored.dir(), |_| {});
    assert!(stored.verify().ok);
    type Change<'a> = &'a dyn Fn(&mut serde_json::Value);
    let changes: [(&str, Change<'_>); 13] = [
        ("a path", &|manifest| {
            manifest["files"][0]["name"] = "../../escape".into()
        }),
        ("twice", &|manifest| {
            manifest["files"][0]["name"] = "web.vmdk".into()
        }),
        ("its parent", &|manifest| {
            manifest["files"][1]["parent"] = "web.vmdk".into()
        }),
        ("a size", &|manifest| {
            manifest["files"][1]["size_bytes"] = u64::MAX.into()
        }),
        ("a hash", &|manifest| {
            manifest["files"][1]["blake3"] = manifest["files"][0]["blake3"].clone();
        }),
        ("no files", &|manifest| {
            manifest["files"] = serde_json::Value::Null
        }),
        ("an empty list", &|manifest| {
            manifest["files"] = serde_json::json!([]);
            manifest["size_bytes"] = 0.into();
            manifest["source_bytes"] = 0.into();
        }),
        ("data that overflows a sum", &|manifest| {
            for file in manifest["files"].as_array_mut().unwrap() {
                file["data_bytes"] = u64::MAX.into();
            }
        }),
        ("disks that overflow a sum", &|manifest| {
            for file in manifest["files"].as_array_mut().unwrap() {
                file["capacity_bytes"] = u64::MAX.into();
                file["parent"] = serde_json::Value::Null;
                file["format"] = "vmdk".into();
            }
        }),
        ("a sum", &|manifest| manifest["size_bytes"] = 1.into()),
        ("a name with a NUL", &|manifest| {
            manifest["guest"] = "web\0".into()
        }),
        ("an impossible time", &|manifest| {
            manifest["taken_at"] = "+12345-01-01T00:00:00Z".into()
        }),
        ("a time before all times", &|manifest| {
            manifest["sealed_at"] = "-0500-01-01T00:00:00Z".into()
        }),
    ];
    let good = fs::read(stored.dir().join(MANIFEST_NAME)).unwrap();
    for (what, change) in changes {
        forge(&stored.dir(), change);
        let error = stored.restore_fails();
        assert!(
            matches!(error, RepositoryError::Damaged { .. }),
            "{what}: {error}"
        );
        fs::write(stored.dir().join(MANIFEST_NAME), &good).unwrap();
    }
    assert!(stored.verify().ok);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_flipped_bit_of_any_file_is_found(file in 0_usize..5, place in any::<u64>(), bit in 0_u8..8) {
        thread_local! {
            static STORED: Stored = Stored::new(1 << 20);
        }
        STORED.with(|stored| {
            let (name, bytes) = &tree(&stored.dir())[file];
            let name = name.to_str().unwrap();
            let offset_bytes = place % bytes.len() as u64;
            stored.flip(name, offset_bytes, bit);
            let outcome = stored.repo.verify(&stored.path, None, &Unobserved);
            stored.flip(name, offset_bytes, bit);
            match outcome {
                Ok(report) => {
                    // White space around the hashed text carries nothing.
                    let blank = name == MANIFEST_NAME && bytes[offset_bytes as usize] == b'\n'
                        && offset_bytes + 1 == bytes.len() as u64;
                    assert!(!report.ok || blank, "{name} at {offset_bytes}");
                }
                Err(error) => assert!(
                    name == MANIFEST_NAME && matches!(error, RepositoryError::NewerFormat { .. }),
                    "{error}"
                ),
            }
        });
    }

    #[test]
    fn a_cut_or_garbled_manifest_is_an_error_and_no_panic(
        keep in 0.0_f64..1.0,
        garbage in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        thread_local! {
            static STORED: Stored = Stored::new(1 << 20);
        }
        STORED.with(|stored| {
            let path = stored.dir().join(MANIFEST_NAME);
            let good = fs::read(&path).unwrap();
            let mut bad = good[..(good.len() as f64 * keep) as usize].to_vec();
            bad.extend(&garbage);
            fs::write(&path, &bad).unwrap();
            let outcome = Manifest::read(&stored.dir());
            fs::write(&path, &good).unwrap();
            assert!(outcome.is_err() || bad == good);
        });
    }
}
