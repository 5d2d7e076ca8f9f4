//! Processes that are killed in a copy, or whose writes fail, leave nothing that counts as a point.
//!
//! The process that copies is this program again, with one ignored test to run.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
};

use virtuozo_repository::{CopyObserver, Repository, Stopped, Unobserved};

use crate::support::{Memory, new_point, sealed_guest, tree, vmdk};

/// Tells the test on standard output each time something happened.
struct Tell;

/// What a line begins with that [`Tell`] wrote; the test harness writes lines of its own.
const TOLD: &str = "told: ";

impl Tell {
    fn tell(&self, what: &str) {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{TOLD}{what}")
            .and_then(|()| out.flush())
            .unwrap();
    }
}

impl CopyObserver for Tell {
    fn progress(&self, _: &str, copied_bytes: u64, _: u64) {
        self.tell(&format!("{copied_bytes}"));
    }

    fn wait_allowed(&self) -> Result<(), Stopped> {
        Ok(())
    }
}

const ROOT: &str = "REPOSITORY_TEST_ROOT";

/// What the harness needs to run only the copy.
const COPY: [&str; 4] = [
    "killed::copy_in_a_process_of_its_own",
    "--exact",
    "--ignored",
    "--nocapture",
];

#[test]
#[ignore = "run as a process of its own by the tests below"]
fn copy_in_a_process_of_its_own() {
    let root = env::var(ROOT).unwrap();
    let repo = Repository::open(&root).unwrap();
    let mut writer = repo.begin(new_point(1)).unwrap();
    Tell.tell("begun");
    writer.add_small("web.vmx", b"x").unwrap();
    Tell.tell("small");
    for name in ["a.vmdk", "b.vmdk"] {
        if let Err(error) = writer.add_file(&vmdk(name, None), &Memory::data(6 << 20), &Tell) {
            eprintln!("{error}");
            std::process::exit(9);
        }
        Tell.tell(name);
    }
    let sealed = writer.seal().unwrap();
    Tell.tell("sealed");
    repo.publish(&sealed).unwrap();
    Tell.tell("published");
}

/// Kills the copying process after its `line`-th message. Returns the message, none if it was done.
fn kill_at(root: &str, line: usize) -> Option<String> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(COPY)
        .env(ROOT, root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let seen = lines
        .map(Result::unwrap)
        .filter_map(|line| Some(line.split_once(TOLD)?.1.to_owned()))
        .nth(line);
    child.kill().unwrap();
    child.wait().unwrap();
    seen
}

#[test]
fn killed_anywhere_a_copy_leaves_a_whole_point_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::create(dir.path()).unwrap();
    let good = repo.publish(&sealed_guest(&repo, 7, 1 << 20)).unwrap();
    let mut messages = Vec::new();
    while let Some(message) = kill_at(dir.path().to_str().unwrap(), messages.len()) {
        let published: Vec<_> = repo
            .list()
            .unwrap()
            .into_iter()
            .filter(|listed| listed.path != good.path)
            .collect();
        match message.as_str() {
            "published" => assert_eq!(published.len(), 1),
            // Killed right before or after the rename.
            "sealed" => assert!(published.len() <= 1),
            _ => assert!(published.is_empty(), "after {message}: {published:?}"),
        }
        for listed in published {
            assert!(repo.verify(&listed.path, None, &Unobserved).unwrap().ok);
            let id = listed.point.unwrap().point.point_id;
            repo.remove_point(&listed.path, id).unwrap();
        }
        repo.sweep_partials("alpha.lab", "web/1", &|_, _| false)
            .unwrap();
        assert!(repo.verify(&good.path, None, &Unobserved).unwrap().ok);
        messages.push(message);
    }
    assert_eq!(messages.last().map(String::as_str), Some("published"));
    assert!(messages.len() > 15, "{messages:?}");
    let files = tree(dir.path());
    // The last child ended by itself and published; all else is gone.
    assert!(
        files
            .iter()
            .all(|(path, _)| !path.to_str().unwrap().contains("/.")),
        "{files:?}"
    );
}

#[test]
fn a_write_that_fails_fails_the_copy_and_publishes_nothing() {
    let program = env::current_exe().unwrap();
    for limit_kib in [0, 1, 64, 65, 1000, 4096, 6100] {
        let dir = tempfile::tempdir().unwrap();
        // Beyond a file of this size writing fails with EFBIG, as it would on a full disk.
        let script = format!("trap '' XFSZ; ulimit -f {limit_kib}; exec \"$0\" \"$@\"");
        let output = Command::new("bash")
            .args(["-c", &script])
            .arg(&program)
            .args(COPY)
            .env(ROOT, dir.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && output.status.signal().is_none(),
            "{told}"
        );
        let repo = Repository::open(dir.path()).unwrap();
        assert!(repo.list().unwrap().is_empty());
        if limit_kib > 0 {
            assert_eq!(output.status.code(), Some(9), "{told}");
            assert!(
                told.contains("a.vmdk") && told.contains("File too large"),
                "{told}"
            );
        }
    }
}
