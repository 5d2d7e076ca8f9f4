//! File systems that do not answer, and the processes that read and write files: none of them holds up a guest, a
//! cancellation or the end of a worker.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tests::{Background, FAILPOINTS, Site, eventually, guest_to_resume, pause_at};
use vix::lab::{LabGuest, Power};

/// How soon a cancellation, and the end of a worker, are answered.
const ANSWERED: Duration = Duration::from_secs(10);

/// A site with a worker in a copy.
struct Stage {
    site: Site,
    guest: LabGuest,
    worker: Background,
    run: String,
}

/// The processes of files that a worker has started.
fn file_processes(worker: &Background) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|pid| pid.parse().ok()) else {
            continue;
        };
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let stat = read("stat");
        let mut after_name = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let is_child = after_name.nth(1) == Some(&worker.pid().to_string());
        if is_child && read("cmdline").contains("file-process") {
            found.push(pid);
        }
    }
    Ok(found)
}

fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .next();
    !matches!(state, None | Some("Z"))
}

fn signal(pid: u32, name: &str) -> Result<()> {
    let sent = std::process::Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()?;
    ensure!(sent.success(), "kill -{name} {pid}");
    Ok(())
}

impl Stage {
    /// Lets a worker come to the middle of a copy. Files may be silent for `silence_secs`.
    async fn in_a_copy(silence_secs: u32, power: Power) -> Result<Self> {
        let mut site = Site::new().await?;
        let guest = guest_to_resume(&site, power)?;
        let secs = silence_secs.to_string();
        for args in [
            &["settings", "set", "file_silence_secs", &secs][..],
            &["settings", "set", "max_attempts", "20"],
        ] {
            site.virtuozo(args)?.ok()?;
        }
        site.start(0)?;
        let reached = site.path("reached");
        let worker = site.spawn(
            "worker",
            &["worker", "--name", "worker"],
            &[(FAILPOINTS, &pause_at("copy.middle", &reached))],
        )?;
        let run = site.start_run()?;
        eventually("the worker to be in the copy", async || {
            Ok(reached.exists().then_some(()))
        })
        .await
        .with_context(|| worker.said())?;
        Ok(Self {
            site,
            guest,
            worker,
            run,
        })
    }

    /// The process that copies stands still, as in a call that does not answer.
    async fn falls_silent(&self) -> Result<u32> {
        let [pid] = file_processes(&self.worker)?[..] else {
            anyhow::bail!("processes: {:?}", file_processes(&self.worker)?);
        };
        signal(pid, "STOP")?;
        self.goes_on()?;
        Ok(pid)
    }

    fn goes_on(&self) -> Result<()> {
        Ok(fs::remove_file(self.site.path("reached"))?)
    }

    /// The guest is as it was, and the run ends well.
    async fn ends_well(mut self) -> Result<()> {
        let shown = self.site.ended(&self.run).await?;
        ensure!(
            shown["state"] == "succeeded",
            "{shown:#}\n{}",
            self.worker.said()
        );
        self.site.left_well(&self.guest).await?;
        self.worker.terminate()?;
        self.site.stop()
    }

    async fn is_back(&self) -> Result<()> {
        eventually("the guest to be as it was", async || {
            let is_back = self.guest.snapshots()?.is_empty() && self.guest.power()? == Power::On;
            Ok(is_back.then_some(()))
        })
        .await
        .with_context(|| self.worker.said())
    }
}

#[tokio::test]
async fn a_run_is_cancelled_within_seconds_while_its_copy_stands_still() -> Result<()> {
    let mut stage = Stage::in_a_copy(120, Power::On).await?;
    stage.falls_silent().await?;
    stage.site.virtuozo(&["run", "cancel", &stage.run])?.ok()?;
    let asked_at = Instant::now();
    let shown = stage.site.ended(&stage.run).await?;
    ensure!(asked_at.elapsed() < ANSWERED, "{:?}", asked_at.elapsed());
    ensure!(shown["state"] == "cancelled", "{shown:#}");
    stage.is_back().await?;
    let asked_at = Instant::now();
    stage.worker.terminate()?;
    ensure!(asked_at.elapsed() < ANSWERED, "{:?}", asked_at.elapsed());
    stage.site.stop()
}

#[tokio::test]
async fn a_worker_ends_within_seconds_while_a_copy_stands_still() -> Result<()> {
    let mut stage = Stage::in_a_copy(120, Power::On).await?;
    stage.falls_silent().await?;
    let asked_at = Instant::now();
    stage.worker.terminate()?;
    ensure!(asked_at.elapsed() < ANSWERED, "{:?}", asked_at.elapsed());
    stage.is_back().await?;
    stage.worker = stage
        .site
        .spawn("successor", &["worker", "--name", "successor"], &[])?;
    stage.ends_well().await
}

#[tokio::test]
async fn a_process_of_files_that_is_frozen_or_killed_costs_an_attempt_and_no_more() -> Result<()> {
    for name in ["STOP", "KILL"] {
        let stage = Stage::in_a_copy(3, Power::On).await?;
        let pid = stage.falls_silent().await?;
        if name == "KILL" {
            signal(pid, name)?;
        }
        eventually("the process to be gone", async || {
            Ok((!lives(pid)).then_some(()))
        })
        .await
        .with_context(|| stage.worker.said())?;
        stage.ends_well().await?;
    }
    Ok(())
}

#[tokio::test]
async fn no_process_of_files_outlives_its_worker() -> Result<()> {
    let mut stage = Stage::in_a_copy(120, Power::On).await?;
    let found = file_processes(&stage.worker)?;
    ensure!(!found.is_empty());
    for pid in &found {
        signal(*pid, "STOP")?;
    }
    stage.worker.kill_9()?;
    eventually("the processes to end", async || {
        Ok((!found.iter().any(|pid| lives(*pid))).then_some(()))
    })
    .await?;
    stage.worker = stage
        .site
        .spawn("successor", &["worker", "--name", "successor"], &[])?;
    stage.ends_well().await
}
