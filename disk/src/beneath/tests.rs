//! Paths that lead out, and those that stay.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, mknodat};

use super::*;
use crate::RestorePoints;

/// Two roots, and a directory with a secret beside them.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["vm/web/deep", "fast/db", "secret"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let place = Self { dir };
        place.write("vm/web/web.vmdk", "web");
        place.write("vm/web/deep/deep.vmdk", "deep");
        place.write("fast/db/db.vmdk", "db");
        place.write("secret/key", "key");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn link(&self, name: &str, target: impl AsRef<Path>) {
        symlink(target, self.path(name)).unwrap();
    }

    fn roots(&self) -> Roots {
        Roots::new([self.path("vm"), self.path("fast")])
    }

    fn open(&self, name: &str) -> Result<OpenFile, DiskError> {
        self.roots().open(&self.path(name))
    }
}

fn text(opened: &OpenFile) -> String {
    String::from_utf8(opened.read_all(100).unwrap().unwrap()).unwrap()
}

#[test]
fn a_path_that_stays_below_a_root_is_opened_whatever_links_it_takes() {
    let place = Place::new();
    place.link("vm/relative", "web/deep");
    place.link("vm/absolute", place.path("vm/web"));
    place.link("vm/other-root", place.path("fast/db"));
    place.link("vm/web/file", "../web/./web.vmdk");
    place.link("vm/web/twice", "file");
    for (name, content, real) in [
        ("vm/web/web.vmdk", "web", "vm/web/web.vmdk"),
        ("vm/web/../web//./web.vmdk", "web", "vm/web/web.vmdk"),
        ("vm/relative/deep.vmdk", "deep", "vm/web/deep/deep.vmdk"),
        ("vm/relative/../web.vmdk", "web", "vm/web/web.vmdk"),
        ("vm/absolute/web.vmdk", "web", "vm/web/web.vmdk"),
        ("vm/other-root/db.vmdk", "db", "fast/db/db.vmdk"),
        ("vm/web/../../fast/db/db.vmdk", "db", "fast/db/db.vmdk"),
        ("vm/web/file", "web", "vm/web/web.vmdk"),
        ("vm/web/twice", "web", "vm/web/web.vmdk"),
    ] {
        let opened = place
            .open(name)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(text(&opened), content, "{name}");
        assert_eq!(opened.path(), place.path(real), "{name}");
        assert_eq!(opened.size_bytes(), content.len() as u64);
    }
}

#[test]
fn a_path_that_leads_out_is_refused_and_named() {
    let place = Place::new();
    place.link("vm/web/absolute", place.path("secret/key"));
    place.link("vm/web/relative", "../../secret/key");
    place.link("vm/web/directory", "../../secret");
    place.link("vm/web/chain", "relative");
    place.link("vm/web/system", "/etc/hostname");
    place.link("vm/web/process", "/proc/self/environ");
    for name in [
        "secret/key",
        "vm/../secret/key",
        "vm/web/../../secret/key",
        "vm/web/../../../../../../../../../../etc/hostname",
        "vm/web/absolute",
        "vm/web/relative",
        "vm/web/directory/key",
        "vm/web/chain",
        "vm/web/system",
        "vm/web/process",
        "vmx/key",
    ] {
        match place.open(name) {
            Err(DiskError::Outside { path }) => assert_eq!(path, place.path(name)),
            other => panic!("{name}: {other:?}"),
        }
    }
    for path in ["/etc/hostname", "/proc/self/environ", "relative", ""] {
        let outcome = place.roots().open(Path::new(path));
        assert!(matches!(outcome, Err(DiskError::Outside { .. })), "{path}");
    }
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let place = Place::new();
    mknodat(
        CWD,
        place.path("vm/web/pipe"),
        FileType::Fifo,
        Mode::RUSR,
        0,
    )
    .unwrap();
    let _socket = UnixListener::bind(place.path("vm/web/socket")).unwrap();
    place.link("vm/web/to-pipe", "pipe");
    for name in [
        "vm/web/pipe",
        "vm/web/to-pipe",
        "vm/web/socket",
        "vm/web",
        "vm",
    ] {
        let error = place.open(name).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{name}: {error}");
        assert!(error.contains(name), "{name}: {error}");
    }
    let pipe = OpenFile::at(&place.path("vm/web/pipe")).unwrap_err();
    assert!(pipe.to_string().contains("not a regular file"), "{pipe}");
}

#[test]
fn links_that_lead_in_a_circle_end() {
    let place = Place::new();
    place.link("vm/a", "b");
    place.link("vm/b", "a");
    place.link("vm/up", "../vm/up");
    place.link("vm/around", place.path("vm/around"));
    for name in ["vm/a", "vm/up", "vm/around", "vm/a/x"] {
        assert!(
            matches!(place.open(name), Err(DiskError::Io { .. })),
            "{name}"
        );
    }
}

#[test]
fn the_root_of_the_file_system_is_no_root() {
    let roots = Roots::new(["/".into(), "relative".into(), PathBuf::new()]);
    assert!(!roots.hold(Path::new("/etc/hostname")));
    let outcome = roots.open(Path::new("/etc/hostname"));
    assert!(matches!(outcome, Err(DiskError::Outside { .. })));
}

#[test]
fn a_root_that_the_machine_does_not_allow_is_not_read_whatever_links_lead_there() {
    let place = Place::new();
    place.link("alias", place.path("vm"));
    let allowed = |name: &str| MachineRoots::new("read_roots", "rack2", vec![place.path(name)]);
    let open = |root: &str, within: &str| {
        let roots = Roots::new([place.path(root)]).within(allowed(within));
        roots.open(&place.path(root).join("web/web.vmdk"))
    };
    assert!(open("vm", "vm").is_ok());
    assert!(open("alias", "vm").is_ok());
    for (root, within) in [("vm", "fast"), ("alias", "fast")] {
        match open(root, within) {
            Err(DiskError::NotAllowed { why, .. }) => assert!(why.contains("rack2"), "{why}"),
            other => panic!("{root}: {other:?}"),
        }
    }
}

#[test]
fn what_belongs_to_the_program_itself_is_not_read_whatever_its_name_and_whatever_roots_are_named() {
    let place = Place::new();
    let write = |name: &str| {
        let path = place.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, name).unwrap();
    };
    for name in [
        "vm/keys/key",
        "vm/keys/other",
        "vm/state/postgres/data/secret",
        "vm/repo/.marker",
        "vm/repo/host/guest/point/manifest",
        "vm/repo/host/guest/point/web.vmdk",
        "vm/repo/host/guest/.partial/journal",
        "vm/repo/host/guest/.partial/web.vmdk",
        "vm/copied/manifest",
        "vm/copied/web.vmdk",
    ] {
        write(name);
    }
    fs::hard_link(place.path("vm/keys/key"), place.path("vm/web/nvram")).unwrap();
    place.link("vm/pg", "state/postgres");
    let own = vec![place.path("vm/keys/key"), place.path("vm/state/postgres")];
    let points = RestorePoints {
        files: ["manifest", "journal"].map(str::to_owned).to_vec(),
        marker: ".marker".to_owned(),
    };
    let allowed =
        MachineRoots::new("read_roots", "rack2", vec![place.path("vm")]).without(own, points);
    for root in [
        "vm",
        "vm/keys",
        "vm/state/postgres",
        "vm/pg",
        "vm/repo/host/guest/point",
    ] {
        let roots = Roots::new([place.path(root)]).within(allowed.clone());
        for name in [
            "vm/keys/key",
            "vm/web/nvram",
            "vm/state/postgres/data/secret",
            "vm/pg/data/secret",
            "vm/repo/host/guest/point/web.vmdk",
            "vm/repo/host/guest/.partial/web.vmdk",
        ] {
            match roots.open(&place.path(name)) {
                Err(DiskError::NotAllowed { why, .. }) => {
                    assert!(
                        why.contains("Virtuozo itself") && why.contains("rack2"),
                        "{why}"
                    );
                }
                Err(DiskError::Outside { .. }) if root != "vm" => {}
                other => panic!("{name} below {root}: {other:?}"),
            }
        }
    }
    let roots = Roots::new([place.path("vm")]).within(allowed.clone());
    for name in ["vm/keys/other", "vm/copied/web.vmdk", "vm/web/web.vmdk"] {
        assert!(roots.open(&place.path(name)).is_ok(), "{name}");
    }
    assert!(!allowed.hold_place(&place.path("vm/pg/data")).unwrap());
    assert!(allowed.hold_place(&place.path("vm/web")).unwrap());
}

#[test]
fn a_missing_root_or_file_is_told_as_missing() {
    let place = Place::new();
    for name in ["vm/web/none.vmdk", "vm/none/x.vmdk", "vm/web/web.vmdk/x"] {
        assert!(place.open(name).unwrap_err().is_not_found(), "{name}");
    }
    let roots = Roots::new([place.path("gone")]);
    assert!(
        roots
            .open(&place.path("gone/x"))
            .unwrap_err()
            .is_not_found()
    );
}

#[test]
fn where_links_are_refused_none_is_followed() {
    let place = Place::new();
    place.link("vm/web/file", "web.vmdk");
    place.link("vm/link", "web");
    let roots = place.roots().without_links();
    for name in ["vm/web/file", "vm/link/web.vmdk"] {
        let error = roots.open(&place.path(name)).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{name}: {error}");
    }
    assert_eq!(
        text(&roots.open(&place.path("vm/web/web.vmdk")).unwrap()),
        "web"
    );
}

#[test]
fn directories_are_listed_only_below_the_roots() {
    let place = Place::new();
    place.link("vm/out", place.path("secret"));
    let mut names = place.roots().list(&place.path("vm/web")).unwrap();
    names.sort();
    assert_eq!(names, ["deep", "web.vmdk"]);
    for name in ["secret", "vm/out", "vm/.."] {
        let outcome = place.roots().list(&place.path(name));
        assert!(matches!(outcome, Err(DiskError::Outside { .. })), "{name}");
    }
}

#[test]
fn two_names_of_one_file_have_one_id() {
    let place = Place::new();
    fs::hard_link(
        place.path("vm/web/web.vmdk"),
        place.path("vm/web/again.vmdk"),
    )
    .unwrap();
    let id = |name: &str| place.open(name).unwrap().place().id();
    assert_eq!(id("vm/web/web.vmdk"), id("vm/web/again.vmdk"));
    assert_ne!(id("vm/web/web.vmdk"), id("fast/db/db.vmdk"));
}

#[test]
fn only_a_link_from_another_directory_counts_as_one() {
    let place = Place::new();
    place.link("vm/web/beside", "web.vmdk");
    place.link("vm/web/away", "deep/deep.vmdk");
    let linked = |name: &str| place.open(name).unwrap().place().is_linked_from_elsewhere();
    assert!(!linked("vm/web/web.vmdk"));
    assert!(!linked("vm/web/beside"));
    assert!(linked("vm/web/away"));
}

#[test]
fn a_directory_that_is_exchanged_for_a_link_meanwhile_never_leads_out() {
    let place = Place::new();
    place.write("secret/web.vmdk", "key");
    place.link("vm/out", place.path("secret"));
    let (real, spare, out) = (
        place.path("vm/web"),
        place.path("vm/spare"),
        place.path("vm/out"),
    );
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                fs::rename(&real, &spare).unwrap();
                fs::rename(&out, &real).unwrap();
                fs::rename(&real, &out).unwrap();
                fs::rename(&spare, &real).unwrap();
            }
        });
        let began = std::time::Instant::now();
        let mut opened = 0;
        while began.elapsed() < Duration::from_millis(300) {
            if let Ok(file) = place.open("vm/web/web.vmdk") {
                opened += 1;
                assert_eq!(text(&file), "web");
            }
        }
        ended.store(true, Ordering::Relaxed);
        assert!(opened > 0);
    });
}

proptest! {
    #[test]
    fn no_path_of_links_and_dots_reads_anything_outside(
        steps in prop::collection::vec(
            prop::sample::select(vec!["..", ".", "web", "deep", "up", "out", "abs", "vm", "secret", "key", "web.vmdk"]),
            0..8,
        ),
    ) {
        let place = Place::new();
        place.link("vm/web/up", "..");
        place.link("vm/web/out", "../../secret");
        place.link("vm/abs", place.path("secret"));
        place.write("secret/web.vmdk", "key");
        let path = steps.iter().fold("vm".to_owned(), |path, step| format!("{path}/{step}"));
        if let Ok(opened) = place.open(&path) {
            prop_assert_ne!(text(&opened), "key");
            prop_assert!(opened.path().starts_with(place.path("vm")));
        }
    }
}
