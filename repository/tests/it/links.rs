//! Links, pipes and the like in a repository are never followed and never wait.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use virtuozo_repository::{
    Access, MANIFEST_NAME, MARKER_NAME, Manifest, Repository, RepositoryError, RestoreOptions,
    Unobserved, restore,
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
