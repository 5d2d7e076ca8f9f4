//! `virtuozo demo`: the whole way, from a lab of simulated hosts to restored guests.

mod children;
mod compare;
mod outcome;
mod site;

use std::{
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::Args;
use sqlx::PgPool;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use virtuozo_postgres::server::Cluster;
use virtuozo_repository::RestoreOptions;
use virtuozo_runtime::{Health, LIMITS};
use virtuozo_secrets::Key;
use virtuozo_services::{
    names::Targets,
    obligations,
    points::{self, PointLine},
    runs::{self, GuestRunLine, RunDetails},
    settings,
};

use self::{
    children::Children,
    outcome::{GuestOutcome, Outcome, RestoreOutcome},
    site::{Expect, Site},
};
use crate::{
    commands::run::follow,
    context::Context,
    error::{AlreadyReported, Interrupted, told},
    operation, output,
};

/// Options of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  virtuozo demo\n  virtuozo demo --json --keep")]
pub(crate) struct DemoArgs {
    /// Keep the lab, the database, the repository and the logs for looking around
    #[arg(long)]
    keep: bool,
}

pub(crate) async fn run(context: &Context, args: DemoArgs) -> Result<()> {
    let stop = context.catch_signals()?;
    let began = Instant::now();
    let mut demo = Demo::new(stop)?;
    let outcome = demo.play(context).await;
    let dir = demo.end(args.keep).await;
    let outcome = outcome?;
    outcome.print(&context.out)?;
    if !context.out.is_json() {
        let look = look_next(dir?.as_deref(), began);
        context.out.lines(&look)?;
    }
    if outcome.ok {
        Ok(())
    } else {
        Err(AlreadyReported.into())
    }
}

/// All that the demo starts and makes, in the order in which it goes away.
struct Demo {
    children: Children,
    pool: Option<PgPool>,
    cluster: Option<Cluster>,
    site: Option<Site>,
    dir: TempDir,
    simulator: PathBuf,
    stop: CancellationToken,
}

impl Demo {
    fn new(stop: CancellationToken) -> Result<Self> {
        let simulator = std::env::current_exe()?
            .parent()
            .map(|dir| dir.join("libvix.so"))
            .filter(|library| library.is_file() && library.with_file_name(GUEST_PROGRAM).is_file())
            .context(
                "the simulator (libvix.so and vix-sim-guest) is not beside this program: build all of \
                 it with `cargo build --workspace`",
            )?;
        let dir = tempfile::Builder::new().prefix("virtuozo-").tempdir()?;
        // Postgres, which does not run as root, has to pass through.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711))?;
        Ok(Self {
            children: Children::default(),
            pool: None,
            cluster: None,
            site: None,
            dir,
            simulator,
            stop,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Says what happens now, unless Ctrl-C has ended it.
    fn step(&self, what: &str) -> Result<()> {
        if self.stop.is_cancelled() {
            return Err(Interrupted.into());
        }
        output::note(what);
        Ok(())
    }

    async fn play(&mut self, context: &Context) -> Result<Outcome> {
        self.step("Building a lab of two simulated hosts …")?;
        let lab = self.path("lab");
        let site = tokio::task::spawn_blocking(move || Site::build(&lab)).await??;
        let site = self.site.insert(site);
        let before = site.power_states()?;

        self.step("Starting a private Postgres, a scheduler and two workers …")?;
        let pool = self.start(&context.health).await?;

        self.step("Backing up all guests …")?;
        let run_id = runs::start(&pool, "demo".to_owned(), &Targets::default()).await?;
        let view = self.follow(&pool, run_id).await?;
        let mut outcome = self.judge(&view.guest_runs)?;
        for host in view
            .host_runs
            .iter()
            .filter(|host| host.state != "succeeded")
        {
            let why = host.error.as_deref().unwrap_or("no reason was recorded");
            outcome
                .problems
                .push(format!("host {}: {}: {why}", host.host, host.state));
        }

        let points = points::list(&pool, None).await?;
        self.step(&format!("Verifying {} restore points …", points.len()))?;
        for point in &points {
            self.verify(context, &pool, point, &mut outcome).await?;
        }
        self.step("Restoring two guests and comparing them …")?;
        for (host, guest) in site::RESTORED {
            let found = points
                .iter()
                .find(|point| point.host_name == host && point.guest_name == guest);
            let restored = match found {
                Some(point) => self.restore(point).await,
                None => Err(anyhow::anyhow!("it has no restore point")),
            };
            let restored = restored.unwrap_or_else(|error| {
                outcome
                    .problems
                    .push(format!("restoring {host}/{guest}: {}", told(&error)));
                RestoreOutcome {
                    guest: format!("{host}/{guest}"),
                    identical: false,
                    how: told(&error),
                }
            });
            outcome.restores.push(restored);
        }

        self.step("Looking whether anything stayed behind …")?;
        self.children.check(&self.path("logs"))?;
        self.left_behind(&before, &pool, &mut outcome).await?;
        outcome.ok = outcome.problems.is_empty()
            && outcome.snapshots_left == 0
            && !outcome.power_state_changed
            && outcome.restores.iter().all(|restore| restore.identical);
        Ok(outcome)
    }

    /// Database, configuration and processes.
    async fn start(&mut self, health: &Health) -> Result<PgPool> {
        let postgres = self.path("postgres");
        let cluster = tokio::task::spawn_blocking(move || Cluster::start(&postgres)).await??;
        let url = cluster.url().to_owned();
        self.cluster = Some(cluster);
        let pool = virtuozo_postgres::connect(&url, 2, health).await?;
        self.pool = Some(pool.clone());
        virtuozo_postgres::migrate(&pool).await?;

        let key_file = self.path("key");
        let key = Key::load_or_create(&key_file)?;
        let site = self.site.as_ref().context("the lab is not there")?;
        site.configure(&pool, &key).await?;
        let repository = self.path("repository");
        let repository = repository.to_str().context("the path is not UTF-8")?;
        settings::set(&pool, settings::key("destination")?, repository).await?;

        let logs = self.path("logs");
        std::fs::DirBuilder::new().mode(0o700).create(&logs)?;
        let lab = self.path("lab");
        let environment: [(&str, &Path); 3] = [
            ("VIRTUOZO_SIM_ROOT", &lab),
            ("VIRTUOZO_VIX_LIBRARY", &self.simulator),
            ("VIRTUOZO_KEY_FILE", &key_file),
        ];
        for (name, args) in [
            ("scheduler", &["scheduler"] as &[&str]),
            ("worker-1", &["worker", "--name", "worker-1"]),
            ("worker-2", &["worker", "--name", "worker-2"]),
        ] {
            self.children.start(name, args, &environment, &url, &logs)?;
        }
        Ok(pool)
    }

    /// Watches the run to its end.
    async fn follow(&mut self, pool: &PgPool, run_id: uuid::Uuid) -> Result<RunDetails> {
        let logs = self.path("logs");
        let alive = async {
            loop {
                tokio::time::sleep(LIMITS.console.demo_look_every).await;
                if let Err(error) = self.children.check(&logs) {
                    return error;
                }
            }
        };
        tokio::select! {
            view = follow(pool, run_id) => view,
            error = alive => Err(error),
            () = self.stop.cancelled() => Err(Interrupted.into()),
        }
    }

    /// Holds what became of each guest against what should have.
    fn judge(&self, lines: &[GuestRunLine]) -> Result<Outcome> {
        let mut outcome = Outcome {
            ok: false,
            guests: Vec::new(),
            restores: Vec::new(),
            snapshots_left: 0,
            power_state_changed: false,
            problems: Vec::new(),
        };
        let site = self.site.as_ref().context("the lab is not there")?;
        for planned in site.guests() {
            let name = format!("{}/{}", planned.host, planned.name);
            let Some(line) = lines
                .iter()
                .find(|line| line.host == planned.host && line.guest == planned.name)
            else {
                outcome.problems.push(format!("{name} was not in the run"));
                continue;
            };
            let found = (line.state.as_str(), line.mode.as_deref());
            let right = match planned.expect {
                Expect::Hot => found == ("succeeded", Some("hot")),
                Expect::Cold => found == ("succeeded", Some("cold")),
                Expect::Fails => line.state == "failed" && line.error.is_some(),
            };
            if !right {
                outcome.problems.push(format!(
                    "{name} should have ended as {:?}, but is {} ({})",
                    planned.expect,
                    line.state,
                    line.mode.as_deref().unwrap_or("no mode")
                ));
            }
            let took = line
                .started_at
                .zip(line.ended_at)
                .map(|(from, to)| to - from);
            outcome.guests.push(GuestOutcome {
                host: line.host.clone(),
                guest: line.guest.clone(),
                mode: line.mode.clone(),
                state: line.state.clone(),
                bytes: line.bytes_copied,
                seconds: took.map_or(0.0, |took| took.as_seconds_f64()),
                verified: false,
                error: line.error.clone().filter(|_| line.state != "succeeded"),
                about: planned.about,
            });
        }
        Ok(outcome)
    }

    /// Reads a point again, and lets qemu-img look at its disks where it is installed.
    async fn verify(
        &self,
        context: &Context,
        pool: &PgPool,
        point: &PointLine,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let dir = Path::new(&point.repository).join(&point.path);
        let name = format!("{}/{}", point.host_name, point.guest_name);
        let recorded = Some(operation::recorded(point));
        let keys = operation::manifest_keys(&self.path("key"))?;
        let report = operation::verify(context, &dir, keys, recorded, &name).await?;
        let mut damage = operation::record(pool, point.id, &report).await?;
        if damage.is_none() {
            let looked = tokio::task::spawn_blocking(move || compare::qemu_check(&dir)).await?;
            damage = looked.err().map(|error| told(&error));
        }
        if let Some(what) = &damage {
            outcome
                .problems
                .push(format!("the restore point of {name}: {what}"));
        }
        if let Some(guest) = outcome
            .guests
            .iter_mut()
            .find(|guest| guest.host == point.host_name && guest.guest == point.guest_name)
        {
            guest.verified = damage.is_none();
        }
        Ok(())
    }

    async fn restore(&self, point: &PointLine) -> Result<RestoreOutcome> {
        let site = self.site.as_ref().context("the lab is not there")?;
        let planned = site.guest(&point.host_name, &point.guest_name)?.clone();
        let from = Path::new(&point.repository).join(&point.path);
        let to = self
            .path("restored")
            .join(&planned.host)
            .join(&planned.name);
        let guest = format!("{}/{}", planned.host, planned.name);
        let options = RestoreOptions {
            recorded: Some(operation::recorded(point)),
            keys: operation::manifest_keys(&self.path("key"))?,
            ..RestoreOptions::default()
        };
        tokio::task::spawn_blocking(move || {
            virtuozo_repository::restore(&from, &to, &options, &virtuozo_repository::Unobserved)?;
            compare::same_disks(&from, &to)?;
            let how = match planned.expect {
                // It was off, so its own disks are still as they were backed up.
                Expect::Cold => {
                    compare::same_disks(&planned.dir, &to)?;
                    "its disks equal those of the guest itself".to_owned()
                }
                _ => {
                    let writes = planned.writes_held(&to)?;
                    format!(
                        "its disks hold exactly the first {writes} writes of the guest, which went \
                         on writing"
                    )
                }
            };
            Ok(RestoreOutcome {
                guest,
                identical: true,
                how,
            })
        })
        .await?
    }

    /// Snapshots, obligations, locks and power states after all is done.
    async fn left_behind(
        &self,
        before: &[bool],
        pool: &PgPool,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let site = self.site.as_ref().context("the lab is not there")?;
        let snapshots = site.our_snapshots()?;
        outcome.snapshots_left = snapshots.len();
        outcome.problems.extend(snapshots);
        for open in obligations::list(pool).await? {
            outcome.problems.push(format!(
                "{}/{}: {} is still to be undone",
                open.host, open.guest, open.kind
            ));
        }
        for ((planned, was_on), is_on) in site.guests().iter().zip(before).zip(site.power_states()?)
        {
            if *was_on != is_on {
                outcome.power_state_changed = true;
                outcome.problems.push(format!(
                    "{}/{} was {} and is {}",
                    planned.host,
                    planned.name,
                    on_off(*was_on),
                    on_off(is_on)
                ));
            }
        }
        outcome.problems.extend(site.locks_left()?);
        Ok(())
    }

    /// Ends and removes everything; with `keep` the files stay, and their directory is returned.
    async fn end(mut self, keep: bool) -> Result<Option<PathBuf>> {
        self.children.stop().await;
        if let Some(pool) = self.pool.take() {
            pool.close().await;
        }
        let (cluster, site) = (self.cluster.take(), self.site.take());
        tokio::task::spawn_blocking(move || {
            // The guests' processes end with the lab.
            drop(site);
            cluster.map(Cluster::stop).transpose()
        })
        .await??;
        if keep {
            return Ok(Some(self.dir.keep()));
        }
        self.dir.close()?;
        Ok(None)
    }
}

/// The program that plays a guest, beside the simulator.
const GUEST_PROGRAM: &str = "vix-sim-guest";

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn look_next(kept: Option<&Path>, began: Instant) -> String {
    let mut text = format!("\nDone in {:.0} s. ", began.elapsed().as_secs_f64());
    match kept {
        Some(dir) => {
            let dir = dir.display();
            text += &format!(
                "Kept in {dir}: lab/ (the hosts), repository/ (the restore points), restored/, logs/.\n\
                 Start it again with its own database:\n  \
                 VIRTUOZO_SIM_ROOT={dir}/lab VIRTUOZO_KEY_FILE={dir}/key virtuozo up --data-dir {dir} \
                 --vix-library …/libvix.so\n\
                 and look around from another shell:\n  \
                 virtuozo --data-dir {dir} status\n  virtuozo --data-dir {dir} run show latest\n  \
                 virtuozo --data-dir {dir} point list"
            );
        }
        None => {
            text += "Where to look next:\n  \
                     virtuozo demo --keep      the same, and the files stay for looking around\n  \
                     virtuozo up               a site of your own: then `virtuozo host add --help`\n  \
                     docs/concepts/walk-through.md    how it works: one backup, step by step";
        }
    }
    text
}
