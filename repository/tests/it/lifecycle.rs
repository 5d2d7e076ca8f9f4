//! From begun to deleted: whatever is interrupted wherever, a point is complete or absent.

use std::{fs, path::Path};

use uuid::Uuid;
use virtuozo_disk::{BlockRange, BlockSource, DiskError};
use virtuozo_repository::{
    ErrorClass, FoundWhat, MANIFEST_NAME, Repository, RepositoryError, SealedPoint, Unobserved,
};

use crate::support::{Memory, StopAfter, new_point, raw, sealed_guest, tree, vmdk};

fn empty_repo() -> (tempfile::TempDir, Repository) {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::create(dir.path().join("a/b")).unwrap();
    (dir, repo)
}

fn sweep_all(repo: &Repository) -> usize {
    repo.sweep_partials("alpha.lab", "web/1", &|_, _| false)
        .unwrap()
        .len()
}

#[test]
fn a_copy_stopped_at_any_chunk_publishes_nothing_and_is_swept() {
    let (_dir, repo) = empty_repo();
    let source = Memory::data(5 << 20);
    for chunks in 0..5 {
        let mut writer = repo.begin(new_point(chunks.into())).unwrap();
        let error = writer
            .add_file(&vmdk("a.vmdk", None), &source, &StopAfter::new(chunks))
            .unwrap_err();
        assert!(matches!(error, RepositoryError::Stopped(_)), "{error}");
        assert_eq!(error.class(), ErrorClass::Retry);
        drop(writer);
        assert!(repo.list().unwrap().is_empty());
        assert!(!tree(repo.root()).is_empty());
        assert_eq!(sweep_all(&repo), 1);
        assert!(tree(repo.root()).is_empty());
    }
    // And one chunk more is enough.
    let mut writer = repo.begin(new_point(9)).unwrap();
    writer
        .add_file(&vmdk("a.vmdk", None), &source, &StopAfter::new(5))
        .unwrap();
}

#[test]
fn an_unreadable_source_fails_the_copy_and_says_where() {
    struct Broken(Memory);
    impl BlockSource for Broken {
        fn size_bytes(&self) -> u64 {
            self.0.size_bytes()
        }
        fn range_at(&self, offset_bytes: u64) -> Result<BlockRange, DiskError> {
            self.0.range_at(offset_bytes)
        }
        fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), DiskError> {
            if offset_bytes >= 3 << 20 {
                return Err(DiskError::Malformed {
                    path: "source.vmdk".into(),
                    format: "disk",
                    reason: "the grain lies beyond the end".to_owned(),
                });
            }
            self.0.read_at(offset_bytes, buf)
        }
    }
    let (_dir, repo) = empty_repo();
    let mut writer = repo.begin(new_point(1)).unwrap();
    let source = Broken(Memory::data(5 << 20));
    let error = writer
        .add_file(&vmdk("a.vmdk", None), &source, &Unobserved)
        .unwrap_err();
    let text = error.to_string();
    for part in ["a.vmdk", "scsi0:0", "byte 3145728", "source.vmdk"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert_eq!(error.class(), ErrorClass::Permanent);
}

#[test]
fn files_that_do_not_fit_together_are_refused() {
    let (_dir, repo) = empty_repo();
    let mut writer = repo.begin(new_point(1)).unwrap();
    let (small, large) = (Memory::data(1 << 20), Memory::data(2 << 20));
    writer
        .add_file(&vmdk("a.vmdk", None), &small, &Unobserved)
        .unwrap();
    writer
        .add_file(&raw("memory"), &small, &Unobserved)
        .unwrap();
    for (spec, source) in [
        (vmdk("a.vmdk", None), &small),
        (vmdk("../a.vmdk", None), &small),
        (vmdk(MANIFEST_NAME, None), &small),
        (vmdk("b.vmdk", Some("missing.vmdk")), &small),
        (vmdk("b.vmdk", Some("b.vmdk")), &small),
        (vmdk("b.vmdk", Some("memory")), &small),
        (vmdk("b.vmdk", Some("a.vmdk")), &large),
    ] {
        let error = writer.add_file(&spec, source, &Unobserved).unwrap_err();
        assert!(
            matches!(error, RepositoryError::Invalid { .. }),
            "{spec:?}: {error}"
        );
    }
    assert!(writer.add_small("memory", b"").is_err());
    assert!(writer.add_small("a/b", b"").is_err());
}

#[test]
fn a_point_that_was_not_sealed_completely_is_never_published() {
    let (_dir, repo) = empty_repo();
    let sealed = sealed_guest(&repo, 1, 1 << 20);
    let path = repo.root().join(&sealed.partial_path).join(MANIFEST_NAME);
    let whole = fs::read(&path).unwrap();
    for len in (0..whole.len() - 1).step_by(97) {
        fs::write(&path, &whole[..len]).unwrap();
        let error = repo.publish(&sealed).unwrap_err();
        assert!(
            matches!(error, RepositoryError::Damaged { .. }),
            "{len}: {error}"
        );
        assert!(repo.list().unwrap().is_empty());
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(
        repo.publish(&sealed),
        Err(RepositoryError::NotFound { .. })
    ));
    fs::write(&path, &whole).unwrap();
    repo.publish(&sealed).unwrap();
}

#[test]
fn publishing_can_be_repeated_after_a_crash_and_by_another_process() {
    let (_dir, repo) = empty_repo();
    let sealed = sealed_guest(&repo, 1, 1 << 20);
    // What another process gets from the database.
    let text = serde_json::to_string(&sealed).unwrap();
    let sealed: SealedPoint = serde_json::from_str(&text).unwrap();
    let repo = Repository::open(repo.root()).unwrap();
    assert_eq!(repo.locate(&sealed).unwrap(), sealed.partial_path);
    let first = repo.publish(&sealed).unwrap();
    assert_eq!(repo.locate(&sealed).unwrap(), sealed.path);
    let before = tree(repo.root());
    assert_eq!(repo.publish(&sealed).unwrap(), first);
    assert!(tree(repo.root()) == before);
    assert_eq!(repo.list().unwrap().len(), 1);
}

#[test]
fn a_bad_copy_is_discarded_before_it_is_published_and_never_after() {
    let (_dir, repo) = empty_repo();
    let good = sealed_guest(&repo, 1, 1 << 20);
    repo.publish(&good).unwrap();
    let published = tree(repo.root());
    assert!(!repo.discard(&good).unwrap());
    assert!(tree(repo.root()) == published);
    let bad = sealed_guest(&repo, 2, 1 << 20);
    assert!(repo.discard(&bad).unwrap());
    assert!(tree(repo.root()) == published);
    assert!(!repo.discard(&bad).unwrap());
    // A record that names a published point as the copy is no reason to delete it.
    let wrong = SealedPoint {
        partial_path: good.path.clone(),
        ..good
    };
    assert!(matches!(
        repo.discard(&wrong),
        Err(RepositoryError::Invalid { .. })
    ));
    assert!(tree(repo.root()) == published);
}

#[test]
fn several_processes_publishing_one_point_all_succeed() {
    let (_dir, repo) = empty_repo();
    for number in 0..20 {
        let mut writer = repo.begin(new_point(number)).unwrap();
        writer.add_small("a.vmx", b"").unwrap();
        let sealed = writer.seal().unwrap();
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    repo.publish(&sealed).unwrap();
                });
            }
        });
    }
    assert_eq!(repo.list().unwrap().len(), 20);
}

#[test]
fn publishing_never_replaces_what_is_there() {
    let (_dir, repo) = empty_repo();
    let first = sealed_guest(&repo, 1, 1 << 20);
    repo.publish(&first).unwrap();
    let before = tree(&repo.root().join(&first.path));
    // The same run and fence once more, as another point.
    let mut point = new_point(1);
    point.point_id = Uuid::from_u128(77);
    let mut second = repo.begin(point).unwrap();
    second.add_small("web.vmx", b"x").unwrap();
    let second = second.seal().unwrap();
    assert_eq!(second.path, first.path);
    let error = repo.publish(&second).unwrap_err();
    assert!(matches!(error, RepositoryError::Occupied { .. }), "{error}");
    assert!(tree(&repo.root().join(&first.path)) == before);

    let third = sealed_guest(&repo, 3, 1 << 20);
    fs::create_dir(repo.root().join(&third.path)).unwrap();
    fs::write(repo.root().join(&third.path).join("note"), "mine").unwrap();
    let error = repo.publish(&third).unwrap_err();
    assert!(matches!(error, RepositoryError::Occupied { .. }), "{error}");
    assert_eq!(tree(&repo.root().join(&third.path)).len(), 1);
}

#[test]
fn a_sealed_point_cannot_lead_out_of_the_repository() {
    let (_dir, repo) = empty_repo();
    let mut sealed = sealed_guest(&repo, 1, 1 << 20);
    sealed.path = "../../../escape".into();
    assert!(matches!(
        repo.publish(&sealed),
        Err(RepositoryError::Invalid { .. })
    ));
}

#[test]
fn beginning_again_under_the_same_fence_starts_from_nothing() {
    let (_dir, repo) = empty_repo();
    let mut writer = repo.begin(new_point(1)).unwrap();
    writer.add_small("old", b"x").unwrap();
    let mut writer = repo.begin(new_point(1)).unwrap();
    writer
        .add_file(&vmdk("new.vmdk", None), &Memory::data(1 << 20), &Unobserved)
        .unwrap();
    let sealed = writer.seal().unwrap();
    assert_eq!(tree(&repo.root().join(&sealed.partial_path)).len(), 2);
    assert!(
        repo.verify(&sealed.partial_path, None, &Unobserved)
            .unwrap()
            .ok
    );
}

#[test]
fn a_scan_tells_what_attempts_have_left_and_only_that_is_removed() {
    let (_dir, repo) = empty_repo();
    let published = repo.publish(&sealed_guest(&repo, 1, 1 << 20)).unwrap().path;
    let left = sealed_guest(&repo, 2, 1 << 20);
    let deleting = published.with_file_name(".deleting-20270115T080000Z-00000000-f1");
    fs::create_dir(repo.root().join(&deleting)).unwrap();
    let unfinished = || -> Vec<_> {
        let found = repo.scan().into_iter();
        let told = found.filter_map(|found| match found.what {
            FoundWhat::Unfinished(what) => Some((found.path, what)),
            _ => None,
        });
        told.collect()
    };
    let found = unfinished();
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((&found[0].0, found[0].1.of), (&deleting, None));
    let (path, what) = &found[1];
    assert_eq!(path, &left.partial_path);
    assert_eq!(what.of, Some((new_point(2).guest_run_id, 3)));
    assert!(what.size_bytes >= 1 << 20, "{what:?}");
    let age = chrono::Utc::now() - what.changed_at.unwrap();
    assert!(age.num_seconds().abs() < 600, "{what:?}");

    let refused = repo.remove_unfinished(&published).unwrap_err();
    assert!(
        matches!(refused, RepositoryError::Invalid { .. }),
        "{refused}"
    );
    for (path, _) in found {
        repo.remove_unfinished(&path).unwrap();
        repo.remove_unfinished(&path).unwrap();
    }
    assert_eq!(unfinished(), []);
    assert!(repo.verify(&published, None, &Unobserved).unwrap().ok);
}

#[test]
fn a_sweep_keeps_what_is_claimed_published_or_not_ours() {
    let (_dir, repo) = empty_repo();
    let published = repo.publish(&sealed_guest(&repo, 1, 1 << 20)).unwrap();
    let claimed = sealed_guest(&repo, 2, 1 << 20);
    let abandoned = sealed_guest(&repo, 3, 1 << 20);
    let folder = repo.root().join(published.path.parent().unwrap());
    fs::create_dir(folder.join(".partial-of-somebody")).unwrap();
    fs::create_dir(folder.join(".deleting-20270115T080000Z-00000000-f1")).unwrap();
    let mut removed = repo
        .sweep_partials("alpha.lab", "web/1", &|run, fence| {
            assert_eq!(fence, 3);
            run == new_point(2).guest_run_id
        })
        .unwrap();
    removed.sort();
    let deleting = Path::new("alpha.lab/web%2F1/.deleting-20270115T080000Z-00000000-f1");
    assert_eq!(removed, [deleting, &abandoned.partial_path]);
    assert!(folder.join(".partial-of-somebody").exists());
    assert_eq!(repo.list().unwrap().len(), 1);
    repo.publish(&claimed).unwrap();
    assert!(matches!(
        repo.publish(&abandoned),
        Err(RepositoryError::NotFound { .. })
    ));
    assert!(
        repo.sweep_partials("nobody", "nothing", &|_, _| false)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn removing_a_point_can_be_repeated_and_touches_no_other() {
    let (_dir, repo) = empty_repo();
    let goes = repo.publish(&sealed_guest(&repo, 1, 1 << 20)).unwrap();
    let stays = repo.publish(&sealed_guest(&repo, 2, 1 << 20)).unwrap();
    // An interrupted deletion.
    let deleting = format!(".deleting-{}", goes.path.file_name().unwrap().display());
    fs::rename(
        repo.root().join(&goes.path),
        repo.root().join(goes.path.with_file_name(deleting)),
    )
    .unwrap();
    assert_eq!(repo.list().unwrap().len(), 1);
    assert!(repo.remove_point(&goes.path, goes.point_id).unwrap());
    assert!(!repo.remove_point(&goes.path, goes.point_id).unwrap());
    assert!(repo.verify(&stays.path, None, &Unobserved).unwrap().ok);
    assert!(repo.remove_point(&stays.path, stays.point_id).unwrap());
    assert!(tree(repo.root()).is_empty());
}

#[test]
fn only_published_points_below_a_mounted_repository_can_be_removed() {
    let (_dir, repo) = empty_repo();
    let sealed = sealed_guest(&repo, 1, 1 << 20);
    let before = tree(repo.root());
    for path in ["", "alpha.lab", "alpha.lab/web%2F1", "../b/alpha.lab", "/"] {
        let error = repo
            .remove_point(Path::new(path), sealed.point_id)
            .unwrap_err();
        assert!(
            matches!(error, RepositoryError::Invalid { .. }),
            "{path}: {error}"
        );
    }
    assert!(
        repo.remove_point(&sealed.partial_path, sealed.point_id)
            .is_err()
    );
    let error = repo
        .remove_point(Path::new("alpha.lab/other/point"), sealed.point_id)
        .unwrap_err();
    assert!(matches!(error, RepositoryError::NotFound { .. }), "{error}");
    assert!(tree(repo.root()) == before);
}

#[test]
fn a_repository_that_is_not_there_is_not_opened_but_can_be_created() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("not/there");
    let error = Repository::open(&root).unwrap_err();
    assert!(matches!(error, RepositoryError::NotFound { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Operator);
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(Repository::open(dir.path().join("file")).is_err());
    assert!(Repository::create(dir.path().join("file/below")).is_err());
    Repository::create(&root).unwrap();
    Repository::create(&root).unwrap();
    assert!(
        Repository::open(&root)
            .unwrap()
            .free_bytes()
            .unwrap()
            .unwrap()
            > 0
    );
}
