//! One site: database, lab, key, repository and processes, made for one test and gone with it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sqlx::PgPool;
use tempfile::TempDir;
use virtuozo_disk::vmdk::DiskKind;
use virtuozo_postgres::testing::TestDb;
use virtuozo_runtime::Health;
use vix::lab::{DiskSpec, GuestSpec, HostSpec, Lab, LabGuest, LabHost, Power, Product};

use crate::process::{Answer, Background, built};

/// The longest that anything in a test may take before it counts as hanging.
const WAIT_LIMIT: Duration = Duration::from_secs(120);
/// What tells a repository from the directory under its mount point, as docs/concepts/storage-format.md names it.
pub const MARKER: &str = ".virtuozo-repository";

/// The variable in which the program `virtuozo-failpoints` is told what happens to its workers.
pub const FAILPOINTS: &str = "FAILPOINTS";

/// The value of [`FAILPOINTS`] that lets a worker write `file` when it comes to `place`, and pause there until the
/// file is gone.
pub fn pause_at(place: &str, file: &Path) -> PathBuf {
    format!("{place}=pause({})", file.display()).into()
}

/// A site of its own.
///
/// Fields drop in this order: processes first, then the guests of the lab, then the database.
pub struct Site {
    processes: Vec<Background>,
    /// The simulated hosts.
    pub lab: Lab,
    pool: PgPool,
    url: String,
    /// None if the test has a server of its own.
    _db: Option<TestDb>,
    /// What is run as `virtuozo`.
    program: PathBuf,
    dir: TempDir,
}

impl Site {
    /// An empty site with fast leases and no retry delay; add hosts to `lab`, each with [`Site::host`].
    ///
    /// # Errors
    /// Programs that have not been built, or no database.
    pub async fn new() -> Result<Self> {
        Self::with(TestDb::new().await, built("virtuozo")?)
    }

    /// As [`Site::new`], but made by another version of `virtuozo`, schema and all.
    ///
    /// # Errors
    /// As [`Site::new`].
    pub async fn of_version(program: &Path) -> Result<Self> {
        Self::with(TestDb::empty().await, program.to_owned())
    }

    /// As [`Site::new`], with the database at `url`, which is empty and outlives the site.
    ///
    /// # Errors
    /// As [`Site::new`].
    pub async fn at(url: &str) -> Result<Self> {
        let pool = virtuozo_postgres::connect(url, 2, &Health::default()).await?;
        Self::lay(pool, url.to_owned(), None, built("virtuozo")?)
    }

    fn with(db: TestDb, program: PathBuf) -> Result<Self> {
        Self::lay(db.pool.clone(), db.url().to_owned(), Some(db), program)
    }

    fn lay(pool: PgPool, url: String, db: Option<TestDb>, program: PathBuf) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let lab = Lab::create(dir.path().join("lab"))?;
        let site = Self {
            processes: Vec::new(),
            lab,
            pool,
            url,
            _db: db,
            program,
            dir,
        };
        fs::write(site.faults(), "")?;
        let repository = site.repository();
        site.virtuozo(&[
            "settings",
            "set",
            "destination",
            &repository.display().to_string(),
        ])?
        .ok()?;
        site.virtuozo(&["settings", "set", "retry_delay_secs", "0"])?
            .ok()?;
        site.virtuozo(&["settings", "set", "lease_secs", "3"])?
            .ok()?;
        Ok(site)
    }

    /// Commands and processes are of this version of `virtuozo` from now on.
    pub fn change_version(&mut self, program: &Path) {
        self.program = program.to_owned();
    }

    /// Adds a host to the lab and, as an administrator would, to the site.
    ///
    /// # Errors
    /// The command refused.
    pub fn host(&self, name: &str, product: Product) -> Result<LabHost> {
        self.host_as(&HostSpec::new(name, product))
    }

    /// As [`Site::host`], with all that can be said about a host.
    ///
    /// # Errors
    /// The command refused.
    pub fn host_as(&self, spec: &HostSpec) -> Result<LabHost> {
        let host = self.lab.host(spec)?;
        // Product and kind of host have one word.
        let kind = spec.product.name();
        let config_dir = host.config_dir.display().to_string();
        self.virtuozo_with(
            &[
                "host",
                "add",
                &spec.name,
                "--kind",
                kind,
                "--address",
                &host.url,
                "--user",
                &spec.user,
                "--config-dir",
                &config_dir,
                "--password-stdin",
            ],
            &spec.password,
        )?
        .ok()?;
        Ok(host)
    }

    /// The database and the key are gone; an empty database takes their place.
    ///
    /// # Errors
    /// There is no key to lose.
    pub async fn lose_database(&mut self) -> Result<()> {
        let db = TestDb::new().await;
        (self.pool, self.url) = (db.pool.clone(), db.url().to_owned());
        self._db = Some(db);
        Ok(fs::remove_file(self.path("key"))?)
    }

    /// The site's database.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The connection string of the site's database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The destination of all backups.
    pub fn repository(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    /// A path of the test's own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The file with fault rules that the simulator obeys in every process of the site.
    pub fn faults(&self) -> PathBuf {
        self.path("faults")
    }

    fn command(&self, program: &Path, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("VIRTUOZO_CONFIG", "/dev/null")
            .env("DATABASE_URL", &self.url)
            .env("VIRTUOZO_KEY_FILE", self.path("key"))
            .env("VIRTUOZO_DATA_DIR", self.path("data"))
            .env("VIRTUOZO_VIX_LIBRARY", built("libvix.so")?)
            .env(vix::lab::ROOT_VARIABLE, self.lab.root())
            .env(vix::lab::FAULTS_VARIABLE, self.faults())
            .env("VIRTUOZO_HOOKS_DIR", "/usr/bin")
            // Nothing of a test's belongs into the log of the machine.
            .env("VIRTUOZO_EVENT_LOG", "off")
            .env_remove("RUST_LOG");
        Ok(command)
    }

    /// Runs `virtuozo` with these arguments to its end.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn virtuozo(&self, args: &[&str]) -> Result<Answer> {
        self.virtuozo_with(args, "")
    }

    /// Runs `virtuozo` with `stdin` as its standard input.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn virtuozo_with(&self, args: &[&str], stdin: &str) -> Result<Answer> {
        Answer::of(self.command(&self.program, args)?, stdin)
    }

    /// Runs `virtuozo … --json`, insists on success and returns what it printed.
    ///
    /// # Errors
    /// It failed, or printed something else.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let mut args = args.to_vec();
        args.push("--json");
        self.virtuozo(&args)?.ok()?.json()
    }

    /// Starts a process that runs on; `env` comes on top of the site's own. With [`FAILPOINTS`] in it, the
    /// process is of the program that has failpoints.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, name: &str, args: &[&str], env: &[(&str, &Path)]) -> Result<Background> {
        let disturbed = env.iter().any(|(variable, _)| *variable == FAILPOINTS);
        let program = if disturbed {
            self.program.with_file_name("virtuozo-failpoints")
        } else {
            self.program.clone()
        };
        // Who starts the tests may ignore SIGHUP, as nohup does, and their processes would too.
        let mut command = self.command(Path::new("env"), &["--default-signal=HUP"])?;
        command.arg(program).args(args).envs(env.iter().copied());
        Background::start(command, self.path(&format!("{name}.log")))
    }

    /// Starts a scheduler and `workers` workers that run until the site goes.
    ///
    /// # Errors
    /// They cannot be started.
    pub fn start(&mut self, workers: usize) -> Result<()> {
        self.start_scheduler("scheduler")?;
        for n in 1..=workers {
            self.start_worker(&format!("worker-{n}"))?;
        }
        Ok(())
    }

    /// Starts one more scheduler that runs until the site goes; `name` is that of its log.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_scheduler(&mut self, name: &str) -> Result<()> {
        let scheduler = self.spawn(name, &["scheduler"], &[])?;
        self.processes.push(scheduler);
        Ok(())
    }

    /// Starts one more worker that runs until the site goes.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_worker(&mut self, name: &str) -> Result<()> {
        let worker = self.spawn(name, &["worker", "--name", name], &[])?;
        self.processes.push(worker);
        Ok(())
    }

    /// What the processes of the site have said.
    pub fn logs(&self) -> String {
        self.processes.iter().map(Background::said).collect()
    }

    /// Ends all processes of the site with SIGTERM.
    ///
    /// # Errors
    /// One does not end cleanly.
    pub fn stop(&mut self) -> Result<()> {
        for mut process in self.processes.drain(..).rev() {
            process.terminate()?;
        }
        Ok(())
    }

    /// Starts a backup of everything, waits for its end and returns what `run show` says.
    ///
    /// # Errors
    /// It does not end, or a command fails.
    pub async fn back_up(&self) -> Result<Value> {
        let run = self.start_run()?;
        self.ended(&run).await
    }

    /// Adds a schedule whose due times were all missed: exactly one run is to catch them up.
    ///
    /// # Errors
    /// The database refused.
    pub async fn add_missed_schedule(&self) -> Result<()> {
        sqlx::query(
            "INSERT INTO virtuozo_core.schedules (id, name, cron, done_until)
             VALUES (gen_random_uuid(), 'yearly', '0 0 1 1 *', now() - interval '2 years')",
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Starts a backup of everything and returns its id.
    ///
    /// # Errors
    /// The command failed.
    pub fn start_run(&self) -> Result<String> {
        let answer = self.json(&["run", "now"])?;
        Ok(answer["run_id"].as_str().context("no run id")?.to_owned())
    }

    /// Waits for the end of a run and returns what `run show` says.
    ///
    /// # Errors
    /// It does not end.
    pub async fn ended(&self, run: &str) -> Result<Value> {
        eventually("the run to end", async || {
            let state: String =
                sqlx::query_scalar("SELECT state FROM virtuozo_core.runs WHERE id = $1::uuid")
                    .bind(run)
                    .fetch_one(self.pool())
                    .await?;
            Ok((state != "running").then_some(()))
        })
        .await?;
        self.json(&["run", "show", run])
    }

    /// Waits until nothing is left to undo.
    ///
    /// # Errors
    /// Something stays.
    pub async fn nothing_to_undo(&self) -> Result<()> {
        eventually("all obligations to be met", async || {
            let obligations: i64 =
                sqlx::query_scalar("SELECT count(*) FROM virtuozo_core.obligations")
                    .fetch_one(self.pool())
                    .await?;
            Ok((obligations == 0).then_some(()))
        })
        .await
    }

    /// Insists that a run succeeded at its first attempt, under its first lease, with one point, and that
    /// it was the only run.
    ///
    /// # Errors
    /// It was disturbed.
    pub async fn undisturbed(&self, run: &str, guest: &str) -> Result<()> {
        let shown = self.ended(run).await?;
        ensure!(shown["state"] == "succeeded", "{shown:#}");
        let (attempts, crashes, fence): (i32, i32, i64) = sqlx::query_as(
            "SELECT g.attempts, g.crashes, g.fence FROM virtuozo_core.guest_runs g
               JOIN virtuozo_core.guests u ON u.id = g.guest_id
              WHERE g.run_id = $1::uuid AND u.name = $2",
        )
        .bind(run)
        .bind(guest)
        .fetch_one(self.pool())
        .await?;
        ensure!(
            (attempts, crashes, fence) == (0, 0, 1),
            "attempts, crashes, fence: {:?}",
            (attempts, crashes, fence)
        );
        let runs: i64 = sqlx::query_scalar("SELECT count(*) FROM virtuozo_core.runs")
            .fetch_one(self.pool())
            .await?;
        ensure!(runs == 1, "{runs} runs");
        self.only_point(guest).await?;
        self.nothing_to_undo().await
    }

    /// Insists that a guest that ran runs, without a snapshot, without an obligation; that all restore
    /// points verify, and that nothing else is in the repository.
    ///
    /// # Errors
    /// It is not so.
    pub async fn left_well(&self, guest: &LabGuest) -> Result<()> {
        self.nothing_to_undo().await?;
        ensure!(guest.power()? == Power::On, "{:?}", guest.power()?);
        ensure!(guest.snapshots()?.is_empty(), "{:?}", guest.snapshots()?);
        self.virtuozo(&["point", "verify", "--all"])?.ok()?;
        let left = self.leftovers()?;
        ensure!(left.is_empty(), "left in the repository: {left:?}");
        Ok(())
    }

    /// The directory of the only restore point of a guest.
    ///
    /// # Errors
    /// It has none, or several.
    pub async fn only_point(&self, guest: &str) -> Result<PathBuf> {
        let points: Vec<(String, String)> =
            sqlx::query_as("SELECT repository, path FROM virtuozo_core.restore_points WHERE guest_name = $1 AND state = 'published'")
                .bind(guest)
                .fetch_all(self.pool())
                .await?;
        match points.as_slice() {
            [(repository, path)] => Ok(Path::new(repository).join(path)),
            other => bail!("{guest} has {} restore points", other.len()),
        }
    }

    /// Everything below the repository that is neither part of a published point nor its marker.
    ///
    /// # Errors
    /// It cannot be listed.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>> {
        let mut left = Vec::new();
        let mut folders = vec![self.repository()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.path() == self.repository().join(MARKER) {
                    continue;
                }
                if entry.file_name().to_string_lossy().starts_with('.') {
                    left.push(entry.path());
                } else if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        Ok(left)
    }
}

/// A running guest with one small disk.
///
/// # Errors
/// The lab refused.
pub fn small_guest(host: &LabHost, name: &str) -> Result<LabGuest> {
    let disk = DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 16 << 20);
    let mut spec = GuestSpec::new(name, vec![disk]);
    spec.power = Power::On;
    Ok(host.guest(&spec)?)
}

/// A guest on a host of its own whose copy has checkpoints, so that it can be gone on with.
///
/// # Errors
/// The lab or the command refused.
pub fn guest_to_resume(site: &Site, power: Power) -> Result<LabGuest> {
    let host = site.host("alpha", Product::WorkstationShared)?;
    let mut disk = DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 48 << 20);
    disk.fill_bytes = 32 << 20;
    let mut spec = GuestSpec::new("mail", vec![disk]);
    spec.power = power;
    Ok(host.guest(&spec)?)
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// The question fails, or there is no answer in a time after which the test counts as hanging.
pub async fn eventually<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if start.elapsed() > WAIT_LIMIT {
            bail!("waited {WAIT_LIMIT:?} in vain for {what}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
