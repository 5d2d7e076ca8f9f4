//! What happens to a worker from outside: its children die, the medium loses bytes, the repository's directory is another,
//! the clock jumps, it is killed in the middle of a system call.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{Background, Site, eventually};

/// How many bytes a medium loses.
const LOST_BYTES: u64 = 64 * 1024;
/// What the worker calls to change something, be it a file, the database or a host.
const CHANGING_CALLS: &str = "write,writev,pwrite64,sendto,sendmsg,fsync,fdatasync,mkdir,mkdirat,rename,renameat,renameat2,\
     unlink,unlinkat,copy_file_range";
/// The library of Debian's package faketime that gives a process of several threads another clock.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
/// A clock that is ahead.
const AHEAD: &str = "+400d";

/// Kills the processes in which a worker holds its connections to hosts. Returns how many there were.
pub(super) fn kill_vix_hosts(worker: &Background) -> Result<usize> {
    let mut killed = 0;
    for pid in children(worker.pid())? {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if command
            .split(|byte| *byte == 0)
            .any(|word| word == b"vix-host")
        {
            signal(pid, "KILL")?;
            killed += 1;
        }
    }
    Ok(killed)
}

/// The processes that a process has started and that have not ended.
fn children(of: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{of}/task"))? {
        let listed = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        children.extend(
            listed
                .split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    Ok(children)
}

fn signal(pid: u32, name: &str) -> Result<()> {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()?;
    ensure!(sent.success(), "kill -{name} {pid} failed");
    Ok(())
}

/// Turns bits of the largest file of the repository, as a medium does that keeps other bytes than it was given.
pub(super) fn damage(repository: &Path) -> Result<()> {
    let (path, size_bytes) = all_files(repository)?
        .into_iter()
        .max_by_key(|(_, size_bytes)| *size_bytes)
        .context("no file to damage")?;
    let at = size_bytes / 2;
    let file = fs::File::options().read(true).write(true).open(&path)?;
    let mut bytes = vec![0; LOST_BYTES.min(size_bytes - at) as usize];
    file.read_exact_at(&mut bytes, at)?;
    for byte in &mut bytes {
        *byte = !*byte;
    }
    file.write_all_at(&bytes, at)?;
    Ok(())
}

/// All files below a directory, hidden ones too, each with its size in bytes.
fn all_files(root: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                files.push((entry.path(), metadata.len()));
            }
        }
    }
    Ok(files)
}

/// Puts an empty directory where the repository is, as when a share is not mounted any more.
pub(super) fn take_repository_away(site: &Site) -> Result<()> {
    fs::rename(site.repository(), site.path("away"))?;
    Ok(fs::create_dir(site.repository())?)
}

/// Gives the repository back. Nothing may have been written where it was missing.
pub(super) fn give_repository_back(site: &Site) -> Result<()> {
    let strays = all_files(&site.repository())?;
    ensure!(
        strays.is_empty(),
        "written where the repository was missing: {strays:?}"
    );
    fs::remove_dir_all(site.repository())?;
    Ok(fs::rename(site.path("away"), site.repository())?)
}

/// The clock of a process, which a test can set.
pub(super) struct Clock {
    file: PathBuf,
}

impl Clock {
    /// One that is right.
    pub(super) fn new(site: &Site) -> Result<Self> {
        ensure!(
            Path::new(FAKETIME).exists(),
            "{FAKETIME} is missing: install Debian's package faketime (`make crash-matrix` does)"
        );
        let file = site.path("clock");
        fs::write(&file, "+0")?;
        Ok(Self { file })
    }

    /// The variables of a process that has this clock. What it measures durations by stays right.
    pub(super) fn variables(&self) -> [(&'static str, &Path); 4] {
        [
            ("LD_PRELOAD", Path::new(FAKETIME)),
            ("FAKETIME_TIMESTAMP_FILE", &self.file),
            ("FAKETIME_NO_CACHE", Path::new("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
        ]
    }

    /// Sets it ahead.
    pub(super) fn jump(&self) -> Result<()> {
        Ok(fs::write(&self.file, AHEAD)?)
    }
}

/// Follows the calls of a worker that is paused, and kills it at the `nth` call of one of its threads that changes something
/// after `resume`.
pub(super) async fn kill_in_call(
    site: &Site,
    worker: &mut Background,
    nth: usize,
    resume: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let log = site.path("calls");
    let mut tracer = Command::new("strace")
        .args(["-f", "-p", &worker.pid().to_string()])
        .args(["-e", &format!("trace={CHANGING_CALLS}")])
        .args([
            "-e",
            &format!("inject={CHANGING_CALLS}:signal=KILL:when={nth}"),
        ])
        .arg("-o")
        .arg(&log)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(site.path("strace.log"))?)
        .spawn()
        .context("start strace: install Debian's package strace (`make crash-matrix` does)")?;
    eventually("strace to follow the worker", async || {
        let said = fs::read_to_string(site.path("strace.log"))?;
        Ok(said.contains("attached").then_some(()))
    })
    .await?;
    resume()?;
    let died = eventually("the worker to die in a call", async || {
        Ok((!worker.runs()?).then_some(()))
    })
    .await;
    let _ = tracer.kill();
    let _ = tracer.wait();
    died
}
