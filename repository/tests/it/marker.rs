//! A repository is told from the empty directory under its mount point, and from another one at its place.

use std::{fs, sync::Barrier, thread};

use uuid::Uuid;
use virtuozo_repository::{Access, ErrorClass, MARKER_NAME, Repository, RepositoryError};

/// Nothing is recorded.
const NONE: &[String] = &[];

#[test]
fn the_first_use_marks_a_directory_and_later_ones_find_it_marked() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("srv/backup");
    assert_eq!(Repository::recognise(&root, None, NONE).unwrap(), None);
    assert!(!root.exists(), "a look has made something");

    let (repository, id) = Repository::enter(&root, None, NONE, Access::Owner).unwrap();
    assert_eq!(repository.root(), root);
    let marker = fs::read(root.join(MARKER_NAME)).unwrap();
    let text: serde_json::Value = serde_json::from_slice(&marker).unwrap();
    assert_eq!(text["format_version"], 1);
    assert_eq!(text["id"], id.to_string());

    // Known or not: another site may have made it.
    for known in [Some(id), None] {
        let again = Repository::recognise(&root, known, NONE).unwrap();
        assert_eq!(again, Some(id));
        assert_eq!(
            Repository::enter(&root, known, NONE, Access::Owner)
                .unwrap()
                .1,
            id
        );
    }
    assert_eq!(Repository::adopt(&root).unwrap(), id);
    assert_eq!(fs::read(root.join(MARKER_NAME)).unwrap(), marker);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
}

#[test]
fn an_empty_directory_in_place_of_a_known_repository_is_refused_and_stays_empty() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("backup");
    let id = Uuid::now_v7();
    for there in [false, true] {
        if there {
            fs::create_dir(&root).unwrap();
        }
        let error = Repository::enter(&root, Some(id), NONE, Access::Owner).unwrap_err();
        assert_eq!(
            error.class(),
            ErrorClass::Elsewhere,
            "another machine may have it mounted"
        );
        let said = error.to_string();
        let adopt = format!("`virtuozo repository adopt {}`", root.display());
        for part in [MARKER_NAME, "is missing", "Mount it", &adopt] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        assert_eq!(root.exists(), there);
    }
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);

    let id = Repository::adopt(&root).unwrap();
    assert_eq!(
        Repository::enter(&root, Some(id), NONE, Access::Owner)
            .unwrap()
            .1,
        id
    );
    let missing = Repository::adopt(dir.path().join("nowhere")).unwrap_err();
    assert!(
        matches!(missing, RepositoryError::NotFound { .. }),
        "{missing}"
    );
}

#[test]
fn another_repository_at_the_place_is_told_with_both_ids() {
    let dir = tempfile::tempdir().unwrap();
    let found = Repository::adopt(dir.path()).unwrap();
    let known = Uuid::now_v7();
    let error = Repository::enter(dir.path(), Some(known), NONE, Access::Owner).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Elsewhere);
    let said = error.to_string();
    for id in [known, found] {
        assert!(said.contains(&id.to_string()), "{said}");
    }
    assert_eq!(Repository::adopt(dir.path()).unwrap(), found);
}

#[test]
fn a_directory_of_an_older_version_is_marked_only_if_its_points_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("backup");
    let recorded = ["alpha/mail/2".to_owned(), "alpha/mail/1".to_owned()];
    // Neither the empty directory nor somebody else's repository is it.
    for marked in [false, true] {
        fs::create_dir_all(&root).unwrap();
        if marked {
            Repository::adopt(&root).unwrap();
        }
        let error = Repository::enter(&root, None, &recorded, Access::Owner).unwrap_err();
        assert!(error.to_string().contains("all 2 restore points"));
        assert_eq!(error.class(), ErrorClass::Elsewhere);
        assert_eq!(fs::read_dir(&root).unwrap().count(), usize::from(marked));
    }
    fs::remove_file(root.join(MARKER_NAME)).unwrap();
    fs::create_dir_all(root.join("alpha/mail/1")).unwrap();
    assert_eq!(Repository::recognise(&root, None, &recorded).unwrap(), None);
    let (_, id) = Repository::enter(&root, None, &recorded, Access::Owner).unwrap();
    assert_eq!(
        Repository::recognise(&root, Some(id), NONE).unwrap(),
        Some(id)
    );
}

#[test]
fn of_many_that_use_an_empty_directory_first_all_get_the_same_id() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let root = dir.path().join(format!("{round}/backup"));
        let start = Barrier::new(16);
        let ids: Vec<Uuid> = thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        Repository::enter(&root, None, NONE, Access::Owner)
                            .unwrap()
                            .1
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
    }
}

#[test]
fn a_torn_marker_and_one_of_a_newer_version_are_told_and_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(MARKER_NAME);
    let id = Repository::adopt(dir.path()).unwrap();
    let whole = fs::read(&path).unwrap();
    for len in [0, 1, whole.len() / 2] {
        fs::write(&path, &whole[..len]).unwrap();
        for error in [
            Repository::enter(dir.path(), Some(id), NONE, Access::Owner).unwrap_err(),
            Repository::enter(dir.path(), None, NONE, Access::Owner).unwrap_err(),
            Repository::adopt(dir.path()).unwrap_err(),
        ] {
            assert!(matches!(error, RepositoryError::Damaged { .. }), "{error}");
            assert!(
                error.to_string().contains(path.to_str().unwrap()),
                "{error}"
            );
        }
        assert_eq!(fs::read(&path).unwrap(), &whole[..len]);
    }
    fs::write(&path, r#"{"format_version":2,"name":"vault"}"#).unwrap();
    let error = Repository::enter(dir.path(), Some(id), NONE, Access::Owner).unwrap_err();
    assert!(
        matches!(error, RepositoryError::NewerFormat { found: 2, .. }),
        "{error}"
    );
}
