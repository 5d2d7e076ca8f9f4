//! The crash matrix: every step of a backup, disturbed in every way, hot and cold; and what has to be true
//! after each of them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use virtuozo_disk::vmdk::DiskKind;
use vix::lab::{DiskSpec, GuestSpec, LabGuest, Power, Product};

use crate::{Background, FAILPOINTS, PointDisks, Site, eventually, pause_at};

/// The only guest of the site.
const GUEST: &str = "mail";
/// A snapshot that is not ours.
const FOREIGN: &str = "before-update";

/// How the guest is backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// While it runs.
    Hot,
    /// While it is shut down.
    Cold,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 2] = [Self::Hot, Self::Cold];

    /// As the setting is spelled.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Cold => "cold",
        }
    }

    /// The steps of the plan.
    pub const fn steps(self) -> [&'static str; 6] {
        match self {
            Self::Hot => [
                "validate", "snapshot", "copy", "commit", "verify", "publish",
            ],
            Self::Cold => [
                "validate",
                "power_off",
                "copy",
                "power_on",
                "verify",
                "publish",
            ],
        }
    }
}

/// What happens to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails before it has done anything.
    ErrorBefore,
    /// It fails after it has done all, without having recorded it.
    ErrorAfter,
    /// Its worker is killed between the last look at the lease and the change.
    KilledWithin,
    /// Its worker is killed when all is done and nothing recorded.
    KilledBeforeRecord,
    /// Its worker is killed right after the record.
    KilledAfterRecord,
    /// Its worker is frozen between the last look at the lease and the change, and goes on when another
    /// has finished the run.
    FrozenWithin,
    /// Its worker is frozen before the record, and goes on when another has finished the run.
    FrozenBeforeRecord,
    /// It is carried out twice in a row.
    Repeated,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 8] = [
        Self::ErrorBefore,
        Self::ErrorAfter,
        Self::KilledWithin,
        Self::KilledBeforeRecord,
        Self::KilledAfterRecord,
        Self::FrozenWithin,
        Self::FrozenBeforeRecord,
        Self::Repeated,
    ];

    /// For the head of a table.
    pub const fn title(self) -> &'static str {
        match self {
            Self::ErrorBefore => "error before",
            Self::ErrorAfter => "error after the effect",
            Self::KilledWithin => "killed at the change",
            Self::KilledBeforeRecord => "killed before the record",
            Self::KilledAfterRecord => "killed after the record",
            Self::FrozenWithin => "frozen at the change",
            Self::FrozenBeforeRecord => "frozen before the record",
            Self::Repeated => "done twice",
        }
    }
}

/// One step, disturbed in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// How the guest is backed up.
    pub mode: Mode,
    /// The step.
    pub step: &'static str,
    /// What happens to it.
    pub fault: Fault,
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mode, step, fault) = (self.mode.name(), self.step, self.fault.title());
        write!(f, "{mode} {step}, {fault}")
    }
}

impl Cell {
    /// All cells of the matrix.
    pub fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for mode in Mode::ALL {
            for step in mode.steps() {
                cells.extend(Fault::ALL.map(|fault| Self { mode, step, fault }));
            }
        }
        cells
    }

    /// The place between the last look at the lease and the change.
    fn change(&self) -> String {
        match self.step {
            "validate" => "validate.before".to_owned(),
            "copy" | "verify" => format!("{}.middle", self.step),
            "commit" | "power_on" => "undo.change".to_owned(),
            step => format!("{step}.change"),
        }
    }

    fn place(&self, at: &str) -> String {
        format!("{}.{at}", self.step)
    }

    /// Backs a guest up, disturbs the step, and holds the outcome against what must be true then.
    ///
    /// # Errors
    /// What is not true, or what hindered the test.
    pub async fn hold(&self) -> Result<()> {
        let mut site = Site::new().await?;
        self.disturb(&mut site)
            .await
            .with_context(|| format!("{self}; the processes said:\n{}", logs(&site)))
    }

    async fn disturb(&self, site: &mut Site) -> Result<()> {
        let guest = running_guest(site, self.mode)?;
        site.start(0)?;
        match self.fault {
            Fault::ErrorBefore => {
                let place = self.place("before");
                self.retried(site, &guest, &format!("{place}=fail")).await
            }
            Fault::ErrorAfter => {
                let place = self.place("effect");
                self.retried(site, &guest, &format!("{place}=fail")).await
            }
            Fault::Repeated => {
                let failpoint = format!("{}=repeat", self.step);
                self.retried(site, &guest, &failpoint).await
            }
            Fault::KilledWithin => self.killed(site, &guest, &self.change()).await,
            Fault::KilledBeforeRecord => self.killed(site, &guest, &self.place("effect")).await,
            Fault::KilledAfterRecord => self.killed(site, &guest, &self.place("recorded")).await,
            Fault::FrozenWithin => self.frozen(site, &guest, &self.change()).await,
            Fault::FrozenBeforeRecord => self.frozen(site, &guest, &self.place("effect")).await,
        }
    }

    /// One worker that gets over it alone.
    async fn retried(&self, site: &mut Site, guest: &LabGuest, failpoint: &str) -> Result<()> {
        let mut worker = site.spawn(
            "worker",
            &["worker", "--name", "worker"],
            &[(FAILPOINTS, failpoint.as_ref())],
        )?;
        let run = site.start_run()?;
        succeeded(&site.ended(&run).await?)?;
        ensure!(
            worker.said().contains("a failpoint"),
            "the worker never came to {failpoint}"
        );
        self.true_once(site, guest, &run).await?;
        self.next_backup_sweeps(site).await?;
        worker.terminate()?;
        site.stop()
    }

    /// A worker that is killed at `place`, and another that takes over.
    async fn killed(&self, site: &mut Site, guest: &LabGuest, place: &str) -> Result<()> {
        let (mut victim, run) = self.victim(site, place).await?;
        victim.kill_9()?;
        site.start_worker("successor")?;
        succeeded(&site.ended(&run).await?)?;
        self.true_once(site, guest, &run).await?;
        self.next_backup_sweeps(site).await?;
        site.stop()
    }

    /// A worker that is frozen at `place`, another that takes over, and the first that goes on then.
    async fn frozen(&self, site: &mut Site, guest: &LabGuest, place: &str) -> Result<()> {
        let (mut zombie, run) = self.victim(site, place).await?;
        zombie.signal("STOP")?;
        site.start_worker("successor")?;
        succeeded(&site.ended(&run).await?)?;
        let before = self.true_once(site, guest, &run).await?;

        fs::remove_file(site.path("reached"))?;
        zombie.signal("CONT")?;
        eventually("the zombie to see that it is one", async || {
            let said = zombie.said();
            let gave_up = said.contains("lease lost; another worker has the guest run")
                || said.contains("end of the attempt could not be recorded");
            Ok(gave_up.then_some(()))
        })
        .await?;
        zombie.terminate()?;
        let after = self.true_once(site, guest, &run).await?;
        ensure!(
            before == after,
            "the zombie changed something: {before:#?}\nis now {after:#?}"
        );
        self.next_backup_sweeps(site).await?;
        site.stop()
    }

    /// A worker that stands still at `place`, and the run that it works on.
    async fn victim(&self, site: &Site, place: &str) -> Result<(Background, String)> {
        let reached = site.path("reached");
        let victim = site.spawn(
            "worker",
            &["worker", "--name", "victim"],
            &[(FAILPOINTS, &pause_at(place, &reached))],
        )?;
        let run = site.start_run()?;
        eventually(&format!("the worker to come to {place}"), async || {
            Ok(reached.exists().then_some(()))
        })
        .await?;
        Ok((victim, run))
    }

    /// The guest is as it was, and there is exactly one restore point, which is true.
    async fn true_once(&self, site: &Site, guest: &LabGuest, run: &str) -> Result<State> {
        site.nothing_to_undo().await?;
        let power = guest.power()?;
        ensure!(power == Power::On, "the guest was left {power:?}");
        let snapshots = guest.snapshots()?;
        ensure!(snapshots == [FOREIGN], "snapshots now: {snapshots:?}");

        let point = site.only_point(GUEST).await?;
        let files = files_below(&site.repository())?;
        let stray: Vec<&Path> = files
            .iter()
            .map(|file| file.path.as_path())
            .filter(|path| !path.starts_with(&point))
            .collect();
        ensure!(
            stray.is_empty(),
            "files outside of the one point {}: {stray:?}",
            point.display()
        );
        let points = site.json(&["point", "list"])?;
        let [listed] = points.as_array().map(Vec::as_slice).unwrap_or_default() else {
            anyhow::bail!("not one restore point: {points:#}");
        };
        ensure!(
            listed["mode"] == self.mode.name(),
            "not {}: {listed:#}",
            self.mode.name()
        );
        let stamps = vix::stamps::check(guest.seed()?, &PointDisks::open(&point)?.sources())
            .map_err(anyhow::Error::msg)
            .context("the restore point is no single instant")?;
        ensure!(stamps > 0, "the guest had written nothing");
        let mut run = site.json(&["run", "show", run])?;
        if let Some(run) = run.as_object_mut() {
            // How many are there now: nothing of the run.
            run.remove("workers");
        }
        Ok(State { files, points, run })
    }

    /// All points verify, and nothing else is left in the repository once the guest was backed up again.
    async fn next_backup_sweeps(&self, site: &Site) -> Result<()> {
        succeeded(&site.back_up().await?).context("the next run")?;
        let left = site.leftovers()?;
        ensure!(left.is_empty(), "left in the repository: {left:?}");
        site.virtuozo(&["point", "verify", "--all"])?.ok()?;
        Ok(())
    }
}

/// What nobody may change any more.
#[derive(Debug, PartialEq, Eq)]
struct State {
    files: Vec<StoredFile>,
    points: Value,
    run: Value,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct StoredFile {
    path: PathBuf,
    len_bytes: u64,
    modified: SystemTime,
}

/// All files of published points; what has a temporary name is looked at when it has been swept.
fn files_below(root: &Path) -> Result<Vec<StoredFile>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                files.push(StoredFile {
                    path: entry.path(),
                    len_bytes: metadata.len(),
                    modified: metadata.modified()?,
                });
            }
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// A running guest with two disks and a snapshot that is not ours.
fn running_guest(site: &Site, mode: Mode) -> Result<LabGuest> {
    let host = site.host("alpha", Product::WorkstationShared)?;
    site.virtuozo(&["settings", "set", "mode", mode.name()])?
        .ok()?;
    let disks = vec![
        DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 16 << 20),
        DiskSpec::new("scsi0:1", DiskKind::MonolithicFlat, 8 << 20),
    ];
    let mut spec = GuestSpec::new(GUEST, disks);
    spec.power = Power::On;
    spec.foreign_snapshots = vec![FOREIGN.to_owned()];
    Ok(host.guest(&spec)?)
}

fn succeeded(shown: &Value) -> Result<()> {
    ensure!(
        shown["state"] == "succeeded",
        "the run did not succeed: {shown:#}"
    );
    Ok(())
}

/// What all processes of the site have said.
fn logs(site: &Site) -> String {
    ["scheduler", "worker", "successor"]
        .map(|name| {
            let said = fs::read_to_string(site.path(&format!("{name}.log")));
            format!("---- {name}\n{}", said.unwrap_or_default())
        })
        .concat()
}
