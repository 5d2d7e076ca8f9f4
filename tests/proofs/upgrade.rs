//! Two adjacent versions of `virtuozo` share a database, its schema and a repository; ends with one line of
//! JSON. The later one is this one with a migration and a generation of definitions more (`later/`), which
//! `make upgrade-proof` builds. Arguments narrow it down to cases whose names contain them all.

use std::{
    env,
    fmt::{self, Display, Formatter},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use tests::{Background, FAILPOINTS, Site, built, eventually, guest_to_resume, pause_at, proof};
use vix::lab::{LabGuest, Power};

/// Where the later version is.
const LATER: &str = "VIRTUOZO_LATER";
const AT_ONCE: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    This,
    Later,
}

impl Version {
    fn program(self) -> Result<PathBuf> {
        match self {
            Self::This => built("virtuozo"),
            Self::Later => Ok(env::var_os(LATER)
                .with_context(|| format!("{LATER} is not set: run `make upgrade-proof`"))?
                .into()),
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::This => Self::Later,
            Self::Later => Self::This,
        }
    }
}

impl Display for Version {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::This => "present",
            Self::Later => "later",
        })
    }
}

#[derive(Debug, Clone, Copy)]
enum Case {
    /// The later version migrates while a worker of the present one copies, which finishes its run.
    Migration,
    /// A worker of this version is killed at a place, and one of the other takes over.
    Death(Version, &'static str),
    /// A worker of this version is told to end, and one of the other takes over.
    Drain(Version),
    /// The leading scheduler is of this version and is killed, and one of the other leads.
    Lead(Version),
}

const CASES: [Case; 9] = [
    Case::Migration,
    Case::Death(Version::This, "copy.durable"),
    Case::Death(Version::Later, "copy.durable"),
    Case::Death(Version::This, "publish.effect"),
    Case::Death(Version::Later, "publish.effect"),
    Case::Drain(Version::This),
    Case::Drain(Version::Later),
    Case::Lead(Version::This),
    Case::Lead(Version::Later),
];

impl Display for Case {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Migration => write!(f, "the schema changes under a copy of the present version"),
            Self::Death(version, at) => {
                write!(
                    f,
                    "the {version} worker is killed at {at}, the {} one takes over",
                    version.other()
                )
            }
            Self::Drain(version) => {
                write!(
                    f,
                    "the {version} worker hands its copy over to the {} one",
                    version.other()
                )
            }
            Self::Lead(version) => {
                write!(
                    f,
                    "the {version} scheduler is killed, the {} one leads",
                    version.other()
                )
            }
        }
    }
}

pub(crate) fn prove(names: &[String]) -> Result<ExitCode> {
    for version in [Version::This, Version::Later] {
        let program = version.program()?;
        ensure!(program.exists(), "{} is missing", program.display());
    }
    let cases = proof::asked_for(CASES.to_vec(), names);
    let results = proof::hold_all(&cases, AT_ONCE, hold);
    Ok(proof::conclude("cases", &results))
}

async fn hold(case: Case) -> Result<()> {
    // The first command makes the schema, with the version that it is of.
    let console = match case {
        Case::Migration => Version::This,
        _ => Version::Later,
    };
    let site = Site::of_version(&console.program()?).await?;
    let mut fleet = Fleet {
        console,
        processes: Vec::new(),
        guest: guest_to_resume(&site, Power::On)?,
        site,
    };
    match case {
        Case::Migration => fleet.migration().await,
        Case::Death(version, at) => fleet.death(version, at).await,
        Case::Drain(version) => fleet.drain(version).await,
        Case::Lead(version) => fleet.lead(version).await,
    }
    .with_context(|| {
        fleet
            .processes
            .iter()
            .map(Background::said)
            .collect::<String>()
    })
}

/// Processes of both versions on one site.
struct Fleet {
    /// What commands are of.
    console: Version,
    processes: Vec<Background>,
    guest: LabGuest,
    site: Site,
}

impl Fleet {
    fn start(&mut self, version: Version, kind: &str, env: &[(&str, &Path)]) -> Result<()> {
        self.site.change_version(&version.program()?);
        let started = self.site.spawn(&format!("{version}-{kind}"), &[kind], env);
        self.site.change_version(&self.console.program()?);
        self.processes.push(started?);
        Ok(())
    }

    fn start_both(&mut self, kind: &str) -> Result<()> {
        self.start(Version::This, kind, &[])?;
        self.start(Version::Later, kind, &[])
    }

    /// The process that was started at this position.
    fn process(&mut self, position: usize) -> Result<&mut Background> {
        self.processes.get_mut(position).context("no such process")
    }

    /// Starts a worker of this version, and a run in which it stands still at `place`.
    async fn stands_at(&mut self, version: Version, place: &str) -> Result<String> {
        let held = self.site.path("held");
        self.start(version, "worker", &[(FAILPOINTS, &pause_at(place, &held))])?;
        let run = self.site.start_run()?;
        eventually(&format!("the worker to come to {place}"), async || {
            Ok(held.exists().then_some(()))
        })
        .await?;
        Ok(run)
    }

    fn goes_on(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.site.path("held"))?)
    }

    /// The run came to a good end under this fence, and a backup by all that still run does as well.
    async fn ends_well(&mut self, run: &str, fence: i64) -> Result<()> {
        let before = self.noted_jobs().await?;
        let shown = self.site.ended(run).await?;
        ensure!(shown["state"] == "succeeded", "{shown:#}");
        let ended: i64 = sqlx::query_scalar(
            "SELECT fence FROM virtuozo_core.guest_runs WHERE run_id = $1::uuid",
        )
        .bind(run)
        .fetch_one(self.site.pool())
        .await?;
        ensure!(ended == fence, "it ended under fence {ended}");
        self.site.only_point("mail").await?;
        let shown = self.site.back_up().await?;
        ensure!(shown["state"] == "succeeded", "{shown:#}");
        self.site.left_well(&self.guest).await?;
        ensure!(
            self.noted_jobs().await? > before,
            "the later version's function is not the one that is called"
        );
        for process in &mut self.processes {
            if process.runs()? {
                process.terminate()?;
            }
        }
        Ok(())
    }

    async fn migration(&mut self) -> Result<()> {
        self.start(Version::This, "scheduler", &[])?;
        let run = self.stands_at(Version::This, "copy.middle").await?;
        self.console = Version::Later;
        let before = self.generation().await?;
        self.start(Version::Later, "scheduler", &[])?;
        self.start(Version::Later, "worker", &[])?;
        eventually("the later version to have brought its schema", async || {
            let workers: i64 = sqlx::query_scalar("SELECT count(*) FROM virtuozo_core.workers")
                .fetch_one(self.site.pool())
                .await?;
            Ok((workers == 4).then_some(()))
        })
        .await?;
        let generation = self.generation().await?;
        ensure!(generation > before, "both versions have one schema");
        // One of the present version that starts now leaves it alone.
        self.start(Version::This, "worker", &[])?;
        eventually("the worker that came last", async || {
            let workers: i64 = sqlx::query_scalar("SELECT count(*) FROM virtuozo_core.workers")
                .fetch_one(self.site.pool())
                .await?;
            Ok((workers == 5).then_some(()))
        })
        .await?;
        ensure!(self.generation().await? == generation, "it was put back");
        self.goes_on()?;
        self.ends_well(&run, 1).await
    }

    async fn generation(&self) -> Result<i32> {
        Ok(
            sqlx::query_scalar("SELECT generation FROM virtuozo_core.definitions")
                .fetch_one(self.site.pool())
                .await?,
        )
    }

    /// Jobs that the later version's function has noted in the later version's table, whoever pushed them.
    async fn noted_jobs(&self) -> Result<i64> {
        Ok(
            sqlx::query_scalar("SELECT count(*) FROM virtuozo_core.noted_jobs")
                .fetch_one(self.site.pool())
                .await?,
        )
    }

    async fn death(&mut self, version: Version, at: &str) -> Result<()> {
        self.start_both("scheduler")?;
        let run = self.stands_at(version, at).await?;
        self.process(2)?.kill_9()?;
        self.start(version.other(), "worker", &[])?;
        self.ends_well(&run, 2).await
    }

    async fn drain(&mut self, version: Version) -> Result<()> {
        self.start_both("scheduler")?;
        let run = self.stands_at(version, "copy.middle").await?;
        self.process(2)?.signal("TERM")?;
        self.start(version.other(), "worker", &[])?;
        self.goes_on()?;
        self.ends_well(&run, 2).await
    }

    async fn lead(&mut self, version: Version) -> Result<()> {
        self.start(version, "scheduler", &[])?;
        let first = self.process(0)?;
        eventually("it to lead", async || {
            Ok(first.said().contains("this scheduler leads").then_some(()))
        })
        .await?;
        self.start(version.other(), "scheduler", &[])?;
        self.start_both("worker")?;
        self.process(0)?.kill_9()?;
        self.site.add_missed_schedule().await?;
        let run = eventually("the run that is due", async || {
            let run: Option<String> = sqlx::query_scalar("SELECT id::text FROM virtuozo_core.runs")
                .fetch_optional(self.site.pool())
                .await?;
            Ok(run)
        })
        .await?;
        self.ends_well(&run, 1).await
    }
}
