//! Links, pipes and the like in a repository are never followed and never wait.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use virtuozo_repository::{
    Access, FoundWhat, MANIFEST_NAME, MARKER_NAME, Manifest, Repository, RepositoryError,
    RestoreOptions, Unobserved, restore,
};

use crate::support::{sealed_guest, tree};

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// A published point, and a directory beside the repository.
fn stored() -> (tempfile::TempDir, Repository, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::create(dir.path().join("repo")).unwrap();
    let sealed = sealed_guest(&repo, 1, 1 << 20);
    let path = repo.publish(&sealed).unwrap().path;
    (dir, repo, path)
}

/// Puts a link to the same content, and then a pipe, in the place of a file.
fn replace(file: &Path, by: &str, dir: &Path) {
    let kept = dir.join("kept");
    fs::rename(file, &kept).unwrap();
    match by {
        "link" => symlink(&kept, file).unwrap(),
        "pipe" => pipe(file),
        _ => fs::create_dir(file).unwrap(),
    }
}

#[test]
fn a_file_that_is_a_link_or_a_pipe_is_damage_and_is_not_restored() {
    for by in ["link", "pipe", "directory"] {
        for name in ["web.vmx", "web.vmdk", "web-000001.vmdk", "web.vmem"] {
            let (dir, repo, path) = stored();
            let point = repo.root().join(&path);
            replace(&point.join(name), by, dir.path());
            let report = repo.verify(&path, None, &Unobserved).unwrap();
            assert!(
                report
                    .problems
                    .iter()
                    .any(|problem| problem.file == name && problem.what == "is not a plain file"),
                "{name} as {by}: {:?}",
                report.problems
            );
            let to = dir.path().join("to");
            let error = restore(&point, &to, &RestoreOptions::default(), &Unobserved).unwrap_err();
            assert!(matches!(error, RepositoryError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains(name), "{error}");
            assert!(tree(&to).is_empty());
        }
    }
}

#[test]
fn a_manifest_that_is_a_link_or_a_pipe_is_damage() {
    for by in ["link", "pipe", "directory"] {
        let (dir, repo, path) = stored();
        let point = repo.root().join(&path);
        replace(&point.join(MANIFEST_NAME), by, dir.path());
        let report = repo.verify(&path, None, &Unobserved).unwrap();
        assert_eq!(report.problems[0].file, MANIFEST_NAME, "{by}");
        let error = Manifest::read(&point).unwrap_err();
        assert!(
            matches!(error, RepositoryError::Damaged { .. }),
            "{by}: {error}"
        );
        assert!(repo.list().unwrap()[0].point.is_err(), "{by}");
        assert_eq!(repo.scan().len(), 1, "{by}");
        assert!(
            restore(
                &point,
                &dir.path().join("to"),
                &RestoreOptions::default(),
                &Unobserved
            )
            .is_err()
        );
    }
}

#[test]
fn a_point_that_is_a_link_is_not_read() {
    let (dir, repo, path) = stored();
    let point = repo.root().join(&path);
    replace(&point, "link", dir.path());
    assert!(Manifest::read(&point).is_err());
    assert!(
        restore(
            &point,
            &dir.path().join("to"),
            &RestoreOptions::default(),
            &Unobserved
        )
        .is_err()
    );
}

/// Moves a directory of the repository beside it, and leaves a link in its place.
fn move_behind_link(repo: &Repository, below: &Path, dir: &Path) {
    let (from, to) = (repo.root().join(below), dir.join("moved"));
    fs::rename(&from, &to).unwrap();
    symlink(&to, &from).unwrap();
}

#[test]
fn nothing_is_written_read_or_removed_behind_a_link_in_the_place_of_a_host_or_guest() {
    for depth in [1, 2] {
        let (dir, repo, path) = stored();
        let next = sealed_guest(&repo, 2, 1 << 20);
        let link: PathBuf = path.components().take(depth).collect();
        move_behind_link(&repo, &link, dir.path());
        let before = tree(&dir.path().join("moved"));
        let is_linked = |error: RepositoryError| {
            assert!(
                matches!(&error, RepositoryError::Linked { path } if *path == repo.root().join(&link)),
                "{error}"
            );
        };
        is_linked(repo.publish(&next).unwrap_err());
        is_linked(repo.discard(&next).unwrap_err());
        is_linked(repo.remove_point(&path, next.point_id).unwrap_err());
        is_linked(repo.verify(&path, None, &Unobserved).unwrap_err());
        is_linked(repo.manifest(&path).unwrap_err());
        is_linked(repo.remove_unfinished(&next.partial_path).unwrap_err());
        let point = Manifest::read(
            &dir.path()
                .join("moved")
                .join(path.components().skip(depth).collect::<PathBuf>()),
        )
        .unwrap()
        .point;
        is_linked(
            repo.sweep_partials(&point.host, &point.guest, &|_, _| false)
                .unwrap_err(),
        );
        is_linked(repo.begin(point).unwrap_err());
        let told = repo.scan();
        assert!(
            told.iter().any(|found| found.path == link
                && matches!(
                    found.what,
                    FoundWhat::Unlisted(RepositoryError::Linked { .. })
                )),
            "{told:?}"
        );
        assert_eq!(tree(&dir.path().join("moved")), before);
    }
}

#[test]
fn a_restore_leaves_what_it_has_not_made_as_it_is_and_keeps_out_of_restore_points() {
    let (dir, repo, path) = stored();
    let point = repo.root().join(&path);
    let to = dir.path().join("to");
    fs::create_dir_all(to.join(".virtuozo-restore")).unwrap();
    fs::write(to.join(".virtuozo-restore/mine"), "x").unwrap();
    fs::write(to.join("mine"), "x").unwrap();
    for to in [&to, &point.join("sub"), &point.join("sub/below")] {
        let error = restore(&point, to, &RestoreOptions::default(), &Unobserved).unwrap_err();
        assert!(matches!(error, RepositoryError::Occupied { .. }), "{error}");
    }
    assert!(to.join(".virtuozo-restore/mine").exists());
    assert!(!point.join("sub").exists());
}

#[test]
fn a_marker_that_is_a_link_or_a_pipe_is_damage() {
    for by in ["link", "pipe", "directory"] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("repo");
        let (_, id) = Repository::enter(&root, None, &[], Access::Owner).unwrap();
        replace(&root.join(MARKER_NAME), by, dir.path());
        let error = Repository::enter(&root, Some(id), &[], Access::Owner).unwrap_err();
        assert!(
            matches!(error, RepositoryError::Damaged { .. }),
            "{by}: {error}"
        );
        assert!(
            error.to_string().contains("not a regular file"),
            "{by}: {error}"
        );
    }
}
