//! The crash matrix: every step of a backup, disturbed in every way, hot and cold; and what has to be true
//! after each of them.

mod world;

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use virtuozo_disk::vmdk::DiskKind;
use vix::lab::{DiskSpec, GuestSpec, LabGuest, Power, Product};

use self::world::Clock;
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
    /// Its worker is killed in a system call, after the last look at the lease.
    KilledInCall,
    /// The process that holds the connection to the host is killed at the change.
    LibraryCrashed,
    /// The medium keeps other bytes of the copy than it was given.
    BadMedium,
    /// Another directory is in the place of the repository at the change, and the right one later.
    WrongDirectory,
    /// The clock of its worker jumps more than a year ahead at the change.
    ClockAhead,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 13] = [
        Self::ErrorBefore,
        Self::ErrorAfter,
        Self::KilledWithin,
        Self::KilledBeforeRecord,
        Self::KilledAfterRecord,
        Self::FrozenWithin,
        Self::FrozenBeforeRecord,
        Self::Repeated,
        Self::KilledInCall,
        Self::LibraryCrashed,
        Self::BadMedium,
        Self::WrongDirectory,
        Self::ClockAhead,
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
            Self::KilledInCall => "killed in a call",
            Self::LibraryCrashed => "library crashed",
            Self::BadMedium => "bad medium",
            Self::WrongDirectory => "wrong directory",
            Self::ClockAhead => "clock ahead",
        }
    }

    /// Whether it can happen to a step: a medium changes nothing before there is a copy, or that nobody reads any more.
    pub fn happens_to(self, step: &str) -> bool {
        self != Self::BadMedium || ["copy", "commit", "power_on", "verify"].contains(&step)
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
                let faults = Fault::ALL
                    .into_iter()
                    .filter(|fault| fault.happens_to(step));
                cells.extend(faults.map(|fault| Self { mode, step, fault }));
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
            Fault::KilledInCall => self.killed_in_call(site, &guest).await,
            Fault::LibraryCrashed => self.library_crashed(site, &guest).await,
            Fault::BadMedium => self.bad_medium(site, &guest).await,
            Fault::WrongDirectory => self.wrong_directory(site, &guest).await,
            Fault::ClockAhead => self.clock_ahead(site, &guest).await,
        }
    }

    /// One worker that gets over it alone.
    async fn retried(&self, site: &mut Site, guest: &LabGuest, failpoint: &str) -> Result<()> {
        let worker = site.spawn(
            "worker",
            &["worker", "--name", "worker"],
            &[(FAILPOINTS, failpoint.as_ref())],
        )?;
        let run = site.start_run()?;
        let said = self.got_over(site, guest, worker, &run).await?;
        ensure!(
            said.contains("a failpoint"),
            "the worker never came to {failpoint}"
        );
        Ok(())
    }

    /// The worker gets over it alone. Returns what it has said.
    async fn got_over(
        &self,
        site: &mut Site,
        guest: &LabGuest,
        mut worker: Background,
        run: &str,
    ) -> Result<String> {
        succeeded(&site.ended(run).await?)?;
        self.true_once(site, guest, run).await?;
        self.next_backup_sweeps(site).await?;
        worker.terminate()?;
        site.stop()?;
        Ok(worker.said())
    }

    /// A worker that is killed at `place`, and another that takes over.
    async fn killed(&self, site: &mut Site, guest: &LabGuest, place: &str) -> Result<()> {
        let (mut victim, run) = self.victim(site, place, &[]).await?;
        victim.kill_9()?;
        self.taken_over(site, guest, &run).await
    }

    /// Another worker takes over.
    async fn taken_over(&self, site: &mut Site, guest: &LabGuest, run: &str) -> Result<()> {
        site.start_worker("successor")?;
        succeeded(&site.ended(run).await?)?;
        self.true_once(site, guest, run).await?;
        self.next_backup_sweeps(site).await?;
        site.stop()
    }

    /// A worker that is killed in one of the calls that come after the place, and another that takes over.
    async fn killed_in_call(&self, site: &mut Site, guest: &LabGuest) -> Result<()> {
        let (mut victim, run) = self.victim(site, &self.change(), &[]).await?;
        // Each step has another call of them.
        let position = Self::all().iter().position(|cell| cell == self);
        let nth = 1 + position.unwrap_or(0) % 7;
        let reached = site.path("reached");
        let resume = || Ok(fs::remove_file(reached)?);
        world::kill_in_call(site, &mut victim, nth, resume).await?;
        self.taken_over(site, guest, &run).await
    }

    async fn library_crashed(&self, site: &mut Site, guest: &LabGuest) -> Result<()> {
        let (worker, run) = self.victim(site, &self.change(), &[]).await?;
        let killed = world::kill_vix_hosts(&worker)?;
        ensure!(killed > 0, "the worker holds no connection to a host");
        fs::remove_file(site.path("reached"))?;
        self.got_over(site, guest, worker, &run).await?;
        Ok(())
    }

    async fn bad_medium(&self, site: &mut Site, guest: &LabGuest) -> Result<()> {
        let place = match self.step {
            "copy" => self.place("effect"),
            "verify" => self.place("before"),
            _ => self.change(),
        };
        let (worker, run) = self.victim(site, &place, &[]).await?;
        world::damage(&site.repository())?;
        fs::remove_file(site.path("reached"))?;
        let said = self.got_over(site, guest, worker, &run).await?;
        ensure!(said.contains("bad copy deleted"), "nobody found the damage");
        Ok(())
    }

    async fn wrong_directory(&self, site: &mut Site, guest: &LabGuest) -> Result<()> {
        let place = match self.step {
            // Before, nothing is known of the repository.
            "validate" => self.place("effect"),
            _ => self.change(),
        };
        let (mut worker, run) = self.victim(site, &place, &[]).await?;
        world::take_repository_away(site)?;
        fs::remove_file(site.path("reached"))?;
        eventually("the worker to miss the repository", async || {
            let missed: bool = sqlx::query_scalar(
                "SELECT state <> 'running' OR EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g
                                                       WHERE g.run_id = r.id AND g.attempts > 0)
                   FROM virtuozo_core.runs r WHERE id = $1::uuid",
            )
            .bind(&run)
            .fetch_one(site.pool())
            .await?;
            Ok(missed.then_some(()))
        })
        .await?;
        world::give_repository_back(site)?;
        let shown = site.ended(&run).await?;
        if shown["state"] == "succeeded" {
            self.true_once(site, guest, &run).await?;
        } else {
            as_before(site, guest).await?;
            let points = site.json(&["point", "list"])?;
            ensure!(points.as_array().is_some_and(Vec::is_empty), "{points:#}");
        }
        self.next_backup_sweeps(site).await?;
        worker.terminate()?;
        site.stop()
    }

    async fn clock_ahead(&self, site: &mut Site, guest: &LabGuest) -> Result<()> {
        let clock = Clock::new(site)?;
        let (worker, run) = self
            .victim(site, &self.change(), &clock.variables())
            .await?;
        clock.jump()?;
        fs::remove_file(site.path("reached"))?;
        self.got_over(site, guest, worker, &run).await?;
        Ok(())
    }

    /// A worker that is frozen at `place`, another that takes over, and the first that goes on then.
    async fn frozen(&self, site: &mut Site, guest: &LabGuest, place: &str) -> Result<()> {
        let (mut zombie, run) = self.victim(site, place, &[]).await?;
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

    /// A worker with these variables that stands still at `place`, and the run that it works on.
    async fn victim(
        &self,
        site: &Site,
        place: &str,
        variables: &[(&str, &Path)],
    ) -> Result<(Background, String)> {
        let reached = site.path("reached");
        let pause = pause_at(place, &reached);
        let variables = [&[(FAILPOINTS, pause.as_path())], variables].concat();
        let victim = site.spawn("worker", &["worker", "--name", "victim"], &variables)?;
        let run = site.start_run()?;
        eventually(&format!("the worker to come to {place}"), async || {
            Ok(reached.exists().then_some(()))
        })
        .await?;
        Ok((victim, run))
    }

    /// The guest is as it was, and there is exactly one restore point, which is true.
    async fn true_once(&self, site: &Site, guest: &LabGuest, run: &str) -> Result<State> {
        as_before(site, guest).await?;
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

/// The guest runs, and has the snapshot that is not ours and no other.
async fn as_before(site: &Site, guest: &LabGuest) -> Result<()> {
    site.nothing_to_undo().await?;
    let power = guest.power()?;
    ensure!(power == Power::On, "the guest was left {power:?}");
    let snapshots = guest.snapshots()?;
    ensure!(snapshots == [FOREIGN], "snapshots now: {snapshots:?}");
    Ok(())
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
