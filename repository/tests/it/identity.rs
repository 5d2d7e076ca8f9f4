//! A restore point is what the catalogue says, and is by whom it should be: swapped, forged and foreign ones are told apart.

use std::{
    fs::{self, File},
    io::IoSliceMut,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::Mode,
    io::{Errno, ReadWriteFlags, preadv2},
    process::umask,
};
use virtuozo_repository::{
    Access, Authenticity, FoundWhat, MANIFEST_NAME, ManifestKey, ManifestKeys, ReadBack,
    ReadManifest, Recorded, RecordedSource, Repository, RepositoryError, RestoreOptions,
    Unobserved, restore,
};

use crate::support::{Memory, forge, new_point, sealed_guest, vmdk};

fn keys(secrets: &[u8]) -> ManifestKeys {
    ManifestKeys::new(secrets.iter().map(|byte| ManifestKey::new([*byte; 32])))
}

struct Stored {
    dir: tempfile::TempDir,
    repo: Repository,
    path: PathBuf,
}

impl Stored {
    /// A published point, authenticated with the first of these keys.
    fn by(secrets: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repository::create(dir.path().join("repo")).unwrap();
        let repo = repo.with_keys(keys(secrets));
        let path = publish(&repo, 1);
        Self { dir, repo, path }
    }

    /// The repository as a machine with these keys sees it.
    fn seen_by(&self, secrets: &[u8]) -> Repository {
        self.repo.clone().with_keys(keys(secrets))
    }

    fn manifest_path(&self) -> PathBuf {
        self.repo.root().join(&self.path).join(MANIFEST_NAME)
    }

    fn restore(&self, options: &RestoreOptions) -> Result<(), RepositoryError> {
        let to = self.dir.path().join("restored");
        let restored = restore(
            &self.repo.root().join(&self.path),
            &to,
            options,
            &Unobserved,
        );
        if to.exists() {
            fs::remove_dir_all(&to).unwrap();
        }
        restored.map(drop)
    }
}

fn publish(repo: &Repository, number: u128) -> PathBuf {
    let sealed = sealed_guest(repo, number, 5 << 20);
    repo.publish(&sealed).unwrap().path
}

fn recorded(repo: &Repository, path: &Path) -> Recorded {
    let found = repo.manifest(path).unwrap();
    let point = found.manifest.point;
    Recorded {
        point_id: point.point_id,
        source: Some(RecordedSource {
            host: point.host,
            guest: point.guest,
            taken_at: point.taken_at,
        }),
        manifest_blake3: Some(found.blake3.to_string()),
    }
}

fn options(recorded: Recorded) -> RestoreOptions {
    RestoreOptions {
        recorded: Some(recorded),
        ..RestoreOptions::default()
    }
}

#[test]
fn two_swapped_directories_are_neither_good_nor_restored() {
    let stored = Stored::by(&[]);
    let (one, two) = (stored.path.clone(), publish(&stored.repo, 2));
    let repo = &stored.repo;
    let of_one = recorded(repo, &one);
    assert!(repo.verify(&one, Some(&of_one), &Unobserved).unwrap().ok);
    assert_eq!(repo.missing(&one, &of_one).unwrap(), None);
    stored.restore(&options(of_one.clone())).unwrap();

    let [one_dir, two_dir, aside] = [&one, &two, Path::new("aside")].map(|p| repo.root().join(p));
    fs::rename(&one_dir, &aside).unwrap();
    fs::rename(&two_dir, &one_dir).unwrap();
    fs::rename(&aside, &two_dir).unwrap();
    let report = repo.verify(&one, Some(&of_one), &Unobserved).unwrap();
    assert!(!report.ok);
    assert!(report.problems[0].what.contains("another restore point"));
    assert!(repo.missing(&one, &of_one).unwrap().is_some());
    let error = stored.restore(&options(of_one)).unwrap_err();
    assert!(matches!(error, RepositoryError::Damaged { .. }), "{error}");
    // By its directory it is what it is.
    stored.restore(&RestoreOptions::default()).unwrap();
}

#[test]
fn guest_time_and_text_of_a_manifest_are_held_against_the_record() {
    let stored = Stored::by(&[]);
    let right = recorded(&stored.repo, &stored.path);
    let change = |change: fn(&mut RecordedSource)| {
        let mut wrong = right.clone();
        change(wrong.source.as_mut().unwrap());
        wrong.manifest_blake3 = None;
        wrong
    };
    let wrong = [
        change(|source| source.guest = "other".to_owned()),
        change(|source| source.host = "other".to_owned()),
        change(|source| source.taken_at += chrono::TimeDelta::microseconds(1)),
        Recorded {
            manifest_blake3: Some("0".repeat(64)),
            ..right.clone()
        },
    ];
    for wrong in wrong {
        let report = stored.repo.verify(&stored.path, Some(&wrong), &Unobserved);
        assert!(!report.unwrap().ok, "{wrong:?}");
        let error = stored.restore(&options(wrong)).unwrap_err();
        assert!(matches!(error, RepositoryError::Damaged { .. }), "{error}");
    }
    // Fractions of a microsecond are not in the catalogue.
    let close = change(|source| source.taken_at += chrono::TimeDelta::nanoseconds(999));
    stored.restore(&options(close)).unwrap();
    // What somebody changed and hashed again is not what was recorded.
    forge(&stored.repo.root().join(&stored.path), |manifest| {
        manifest["software_version"] = "0.0.1".into();
    });
    let report = stored.repo.verify(&stored.path, Some(&right), &Unobserved);
    assert!(report.unwrap().problems[0].what.contains("was changed"));
    assert!(stored.restore(&options(right)).is_err());
}

#[test]
fn a_manifest_is_authentic_under_the_key_it_names_also_after_a_rotation() {
    let stored = Stored::by(&[1]);
    for known in [&[1][..], &[2, 1]] {
        let report = stored
            .seen_by(known)
            .verify(&stored.path, None, &Unobserved)
            .unwrap();
        assert!(report.ok);
        assert!(report.authenticity.unwrap().is_authentic(), "{known:?}");
        let options = RestoreOptions {
            keys: keys(known),
            ..RestoreOptions::default()
        };
        stored.restore(&options).unwrap();
    }
}

#[test]
fn a_changed_manifest_under_a_known_key_is_damage_however_it_was_hashed() {
    let stored = Stored::by(&[1]);
    let text = fs::read_to_string(stored.manifest_path()).unwrap();
    let envelope: serde_json::Value = serde_json::from_str(&text).unwrap();
    let [key_id, code] = ["key_id", "code"].map(|key| envelope[key].as_str().unwrap());
    let manifest = envelope["manifest"]
        .to_string()
        .replace("alpha.lab", "beta.lab");
    let hash = blake3::hash(manifest.as_bytes()).to_hex();
    let forged = |code: &str| {
        format!(
            "{{\"format_version\":1,\"blake3\":\"{hash}\",\"key_id\":\"{key_id}\",{code}\"manifest\":{manifest}}}"
        )
    };
    for code in [format!("\"code\":\"{code}\","), String::new()] {
        fs::write(stored.manifest_path(), forged(&code)).unwrap();
        let report = stored.repo.verify(&stored.path, None, &Unobserved).unwrap();
        assert!(!report.ok);
        let permitted = RestoreOptions {
            keys: keys(&[1]),
            unauthenticated: true,
            ..RestoreOptions::default()
        };
        let error = stored.restore(&permitted).unwrap_err();
        assert!(matches!(error, RepositoryError::Damaged { .. }), "{error}");
        let found = stored.repo.scan();
        assert!(matches!(found[0].what, FoundWhat::Broken(_)), "{found:?}");
    }
}

#[test]
fn what_is_not_authenticated_is_told_and_restored_only_where_that_is_permitted() {
    let by_another_site = Stored::by(&[9]);
    let without_code = Stored::by(&[]);
    for (stored, is_unknown_key) in [(&by_another_site, true), (&without_code, false)] {
        let here = stored.seen_by(&[1]);
        let report = here.verify(&stored.path, None, &Unobserved).unwrap();
        assert!(report.ok, "it is no damage");
        let authenticity = report.authenticity.unwrap();
        let is_told = matches!(authenticity, Authenticity::UnknownKey { .. });
        assert_eq!(is_told, is_unknown_key);
        assert!(!authenticity.is_authentic());
        let found = here.scan();
        let FoundWhat::Point(point) = &found[0].what else {
            panic!("{found:?}")
        };
        assert_eq!(point.authenticity, authenticity);
        let mut options = RestoreOptions {
            keys: keys(&[1]),
            ..RestoreOptions::default()
        };
        let error = stored.restore(&options).unwrap_err();
        let is_told = matches!(error, RepositoryError::NotAuthenticated { .. });
        assert!(
            is_told && error.to_string().contains("--unauthenticated"),
            "{error}"
        );
        options.unauthenticated = true;
        stored.restore(&options).unwrap();

        // Adopted: authenticated anew with the key of this site, its text being as it was.
        let blake3 = report.manifest_blake3.unwrap();
        here.authenticate(&stored.path, blake3).unwrap();
        let adopted = here.verify(&stored.path, None, &Unobserved).unwrap();
        assert!(adopted.ok && adopted.authenticity.unwrap().is_authentic());
        assert_eq!(adopted.manifest_blake3, Some(blake3));
        options.unauthenticated = false;
        stored.restore(&options).unwrap();
        let other = ReadManifest::read(&here.root().join(&stored.path), &keys(&[1])).unwrap();
        let wrong = virtuozo_repository::Digest([0; 32]);
        assert!(here.authenticate(&stored.path, wrong).is_err());
        assert_eq!(other.blake3, blake3);
    }
    // A machine without a key knows no better than an older version did.
    Stored::by(&[]).restore(&RestoreOptions::default()).unwrap();
    let error = Stored::by(&[9]).restore(&RestoreOptions::default());
    assert!(matches!(
        error,
        Err(RepositoryError::NotAuthenticated { .. })
    ));
}

#[test]
fn a_point_without_its_disks_is_not_good() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::create(dir.path()).unwrap();
    let configuration =
        b"scsi0.present = \"TRUE\"\nscsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"web.vmdk\"\n";
    let mut number = 0;
    let mut verify = |disks: &[&str]| {
        number += 1;
        let mut writer = repo.begin(new_point(number)).unwrap();
        writer.add_small("web.vmx", configuration).unwrap();
        for disk in disks {
            writer
                .add_file(&vmdk(disk, None), &Memory::data(1 << 20), &Unobserved)
                .unwrap();
        }
        let sealed = writer.seal().unwrap();
        repo.verify(&sealed.partial_path, None, &Unobserved)
            .unwrap()
    };
    assert!(verify(&["web.vmdk"]).ok);
    assert!(verify(&["web.vmdk", "data.vmdk"]).ok);
    for (disks, problems) in [(&[][..], 2), (&["data.vmdk"], 1)] {
        let report = verify(disks);
        assert_eq!(report.problems.len(), problems, "{:?}", report.problems);
    }
    let empty = repo.begin(new_point(99)).unwrap().seal().unwrap_err();
    assert!(matches!(empty, RepositoryError::Invalid { .. }), "{empty}");
}

#[test]
fn a_disk_that_is_gone_or_cut_is_missing_without_reading_any() {
    let stored = Stored::by(&[]);
    let known = recorded(&stored.repo, &stored.path);
    let disk = stored.repo.root().join(&stored.path).join("web.vmdk");
    let whole = fs::read(&disk).unwrap();
    let missing = || stored.repo.missing(&stored.path, &known).unwrap();
    assert_eq!(missing(), None);
    fs::write(&disk, &whole[1..]).unwrap();
    assert!(missing().unwrap().contains("web.vmdk"));
    fs::remove_file(&disk).unwrap();
    assert!(missing().unwrap().contains("web.vmdk"));
    fs::remove_dir_all(stored.repo.root().join(&stored.path)).unwrap();
    assert!(missing().is_some());
}

#[test]
fn modes_of_points_and_restored_disks_are_the_same_under_every_umask() {
    for mask in [0, 0o022, 0o077] {
        for (access, file, directory) in
            [(Access::Owner, 0o600, 0o700), (Access::Group, 0o640, 0o750)]
        {
            let dir = tempfile::tempdir().unwrap();
            let before = umask(Mode::from_raw_mode(mask));
            let root = dir.path().join("srv/repo");
            let (repo, _) = Repository::enter(&root, None, &[], access).unwrap();
            let path = publish(&repo, 1);
            let to = dir.path().join("restored/web");
            let options = RestoreOptions {
                access,
                ..RestoreOptions::default()
            };
            restore(&root.join(path), &to, &options, &Unobserved).unwrap();
            umask(before);
            let mut dirs = vec![dir.path().join("srv"), dir.path().join("restored")];
            let mut files = 0;
            while let Some(next) = dirs.pop() {
                assert_eq!(mode(&next), directory, "{mask:o} {}", next.display());
                for entry in fs::read_dir(next).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        dirs.push(path);
                    } else {
                        assert_eq!(mode(&path), file, "{mask:o} {}", path.display());
                        files += 1;
                    }
                }
            }
            assert_eq!(files, 1 + 5 + 4, "a marker, a point, and what was restored");
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_verification_reads_past_the_memory_of_the_machine_or_says_that_it_did_not() {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let repo = Repository::create(dir.path()).unwrap();
    let path = publish(&repo, 1);
    let report = repo.verify(&path, None, &Unobserved).unwrap();
    assert!(report.ok);
    let disk = File::open(repo.root().join(&path).join("web.vmdk")).unwrap();
    // The middle of the disk, which opening it as a disk does not read.
    let mut byte = [0];
    let read = preadv2(
        &disk,
        &mut [IoSliceMut::new(&mut byte)],
        3 << 20,
        ReadWriteFlags::NOWAIT,
    );
    match report.read_back.unwrap() {
        ReadBack::Medium => assert_eq!(read, Err(Errno::AGAIN), "it is still in memory"),
        ReadBack::Server | ReadBack::Cache => {}
    }
}

#[test]
fn the_directory_of_a_point_is_not_removed_where_another_point_lies_in_it() {
    let stored = Stored::by(&[1]);
    let repo = &stored.repo;
    let mine = repo.manifest(&stored.path).unwrap().manifest.point.point_id;
    let other = publish(repo, 2);
    let of_other = repo.manifest(&other).unwrap().manifest.point.point_id;
    let aside = stored.dir.path().join("aside");
    let (mine_at, other_at) = (repo.root().join(&stored.path), repo.root().join(&other));
    fs::rename(&mine_at, &aside).unwrap();
    fs::rename(&other_at, &mine_at).unwrap();
    fs::rename(&aside, &other_at).unwrap();
    for (path, id) in [(&stored.path, mine), (&other, of_other)] {
        let error = repo.remove_point(path, id).unwrap_err();
        assert!(matches!(error, RepositoryError::Occupied { .. }), "{error}");
    }
    assert!(mine_at.exists() && other_at.exists());
    // A directory without a manifest that can be read holds no restore point.
    fs::write(mine_at.join(MANIFEST_NAME), "{}").unwrap();
    assert!(repo.remove_point(&stored.path, mine).unwrap());
    assert!(repo.remove_point(&other, mine).unwrap());
}
