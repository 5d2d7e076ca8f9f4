//! The fleet proof: many workers back up many guests of many hosts under every kind of limit, while workers
//! are killed at random and replaced; and what has to be true all the time, and at the end.

mod guests;
mod outcome;
mod sampler;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use self::{outcome::Outcome, sampler::Sampler};
use crate::{Background, Site};

/// A datastore without a cap of its own.
const STANDARD: &str = "standard";
/// One that bears a single guest at a time.
const ARCHIVE: &str = "archive";
/// Without progress for so long, the fleet counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// How large the fleet is, and what happens to it.
#[derive(Debug, Clone, Copy)]
pub struct FleetSpec {
    /// Decides which worker is killed when.
    pub seed: u64,
    /// Worker processes.
    pub workers: usize,
    /// Scheduler processes.
    pub schedulers: usize,
    /// Hosts.
    pub hosts: usize,
    /// Guests of all hosts together.
    pub guests: usize,
    /// Workers that are killed in all.
    pub kills: usize,
    /// Hosts that one worker is connected to at most.
    pub host_threads: usize,
    /// Seconds until the work of a worker that was killed is taken over.
    pub lease_secs: usize,
    /// Slots of each host.
    pub slots: usize,
    /// Guests in work at most over all hosts.
    pub fleet_cap: usize,
    /// Guests in work at most whose points go to the one repository; lifted over the fleet's after a
    /// quarter.
    pub repository_cap: usize,
}

impl FleetSpec {
    /// The proof.
    pub const fn full(seed: u64) -> Self {
        Self {
            seed,
            workers: 8,
            schedulers: 2,
            hosts: 40,
            guests: 2000,
            kills: 200,
            host_threads: 10,
            lease_secs: 5,
            slots: 3,
            fleet_cap: 75,
            repository_cap: 50,
        }
    }

    /// A sample of it.
    pub const fn sample(seed: u64) -> Self {
        Self {
            seed,
            workers: 2,
            schedulers: 1,
            hosts: 4,
            guests: 60,
            kills: 6,
            host_threads: 3,
            lease_secs: 2,
            slots: 2,
            fleet_cap: 4,
            repository_cap: 3,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Proof {
    /// One line for machines.
    pub summary: Value,
    /// What was not as it should be, in sentences.
    pub broken: Vec<String>,
}

/// Lays the fleet, lets it back everything up while workers are killed, and holds it against what must be
/// true. Says through `say` how far it is.
///
/// # Errors
/// What hindered the proof.
pub async fn prove(spec: FleetSpec, say: impl Fn(&str)) -> Result<Proof> {
    let began = Instant::now();
    let say = |text: &str| say(&format!("{:>4} s  {text}", began.elapsed().as_secs()));
    let mut site = Site::new().await?;
    limit(&site, &spec)?;
    let guests = guests::build(&site, &spec)?;
    say(&format!("{} guests on {} hosts", guests.len(), spec.hosts));

    for number in 0..spec.schedulers {
        site.start_scheduler(&format!("scheduler-{number}"))?;
    }
    let sampler = Sampler::start(site.pool().clone());
    let run = site.start_run()?;
    let mut fleet = Fleet::start(&site, &spec, &run)?;
    let disturbed = fleet.disturb(&say).await;
    if let Err(problem) = disturbed {
        bail!("{problem:#}\n{}", fleet.said());
    }
    site.nothing_to_undo().await?;
    say("the run has ended, all obligations are met; guests with abandoned copies once more");
    let again = outcome::with_leftovers(&site)?;
    outcome::back_up_again(&site, &again).await?;

    let mut outcome = Outcome::default();
    outcome.tables(&site, &spec, &run).await?;
    outcome.points(&site, &guests, &again).await?;
    say("points are verified");
    let kills = fleet.stop()?;
    site.stop()?;
    for guest in &guests {
        outcome.insist(guest.is_as_before());
    }
    let seen = sampler.end().await?;
    outcome.limits(&seen);
    let Outcome {
        broken,
        slots_leaked,
        leases_lost,
    } = outcome;
    let summary = json!({
        "seed": spec.seed,
        "workers": spec.workers,
        "schedulers": spec.schedulers,
        "hosts": spec.hosts,
        "guests": guests.len(),
        "kills": kills,
        "leases_lost": leases_lost,
        "backed_up_again": again.len(),
        "samples": seen.samples,
        "most": seen.most,
        "over_cap": seen.over,
        "slots_leaked": slots_leaked,
        "secs": began.elapsed().as_secs(),
        "held": broken.is_empty(),
    });
    Ok(Proof { summary, broken })
}

/// Sets every kind of limit as an administrator would.
fn limit(site: &Site, spec: &FleetSpec) -> Result<()> {
    for (setting, value) in [
        ("guest_threads", spec.slots),
        ("host_threads", spec.host_threads),
        ("fleet_guest_threads", spec.fleet_cap),
        ("lease_secs", spec.lease_secs),
        // A guest that is hit again and again by chance does not kill its workers.
        ("max_crashes", 20),
    ] {
        site.virtuozo(&["settings", "set", setting, &value.to_string()])?
            .ok()?;
    }
    limit_repository(site, spec.repository_cap)
}

fn limit_repository(site: &Site, guests: usize) -> Result<()> {
    let repository = site.repository().display().to_string();
    site.virtuozo(&["repository", "limit", &repository, &guests.to_string()])?
        .ok()?;
    Ok(())
}

/// The workers of the site, and their fate.
struct Fleet<'a> {
    site: &'a Site,
    spec: &'a FleetSpec,
    run: &'a str,
    workers: Vec<Background>,
    random: StdRng,
    kills: usize,
}

impl<'a> Fleet<'a> {
    fn start(site: &'a Site, spec: &'a FleetSpec, run: &'a str) -> Result<Self> {
        let mut fleet = Self {
            site,
            spec,
            run,
            workers: Vec::new(),
            random: StdRng::seed_from_u64(spec.seed),
            kills: 0,
        };
        for number in 0..spec.workers {
            fleet.workers.push(fleet.worker(number)?);
        }
        Ok(fleet)
    }

    /// A process under the name of its predecessor, with a log of its own.
    fn worker(&self, number: usize) -> Result<Background> {
        let name = format!("worker-{number}");
        let log = format!("{name}.{}", self.kills);
        self.site.spawn(&log, &["worker", "--name", &name], &[])
    }

    /// Kills workers as the run goes on, until it ends. When is decided by how much is done: so the kills
    /// are spread over the whole run, however fast it is.
    async fn disturb(&mut self, say: &impl Fn(&str)) -> Result<()> {
        let all = self.spec.hosts + self.spec.guests;
        let mut due: Vec<usize> = (0..self.spec.kills)
            .map(|_| self.random.random_range(0..all * 19 / 20))
            .collect();
        due.sort_unstable();
        let mut due = due.into_iter().peekable();
        let (mut done, mut since, mut told, mut lifted) =
            (0, Instant::now(), Instant::now(), false);
        loop {
            let (now_done, ended) = self.progress().await?;
            if now_done > done {
                (done, since) = (now_done, Instant::now());
            }
            if ended {
                return Ok(());
            }
            if since.elapsed() > STUCK_AFTER {
                bail!("no progress for {STUCK_AFTER:?} after {done} of {all}");
            }
            if !lifted && done > all / 4 {
                limit_repository(self.site, self.spec.fleet_cap + 1)?;
                lifted = true;
            }
            while due.next_if(|at| *at <= done).is_some() {
                self.kill_one()?;
            }
            if told.elapsed() > Duration::from_secs(10) {
                say(&format!(
                    "{done} of {all} done, {} workers killed",
                    self.kills
                ));
                told = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn kill_one(&mut self) -> Result<()> {
        let number = self.random.random_range(0..self.workers.len());
        let victim = self.workers.get_mut(number).context("no such worker")?;
        anyhow::ensure!(
            victim.runs()?,
            "a worker ended by itself:\n{}",
            victim.said()
        );
        victim.kill_9()?;
        self.kills += 1;
        let successor = self.worker(number)?;
        if let Some(place) = self.workers.get_mut(number) {
            *place = successor;
        }
        Ok(())
    }

    /// How many host runs and guest runs have ended, and whether the run has.
    async fn progress(&self) -> Result<(usize, bool)> {
        let (done, ended): (i64, bool) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM virtuozo_core.host_runs WHERE run_id = r.id AND ended_at IS NOT NULL)
                  + (SELECT count(*) FROM virtuozo_core.guest_runs WHERE run_id = r.id AND ended_at IS NOT NULL),
                    r.ended_at IS NOT NULL
               FROM virtuozo_core.runs r WHERE r.id = $1::uuid",
        )
        .bind(self.run)
        .fetch_one(self.site.pool())
        .await?;
        Ok((usize::try_from(done)?, ended))
    }

    /// What the workers that run now have said.
    fn said(&self) -> String {
        self.workers.iter().map(Background::said).collect()
    }

    /// Ends all workers in order; how many were killed before.
    fn stop(mut self) -> Result<usize> {
        for worker in &mut self.workers {
            worker.terminate()?;
        }
        Ok(self.kills)
    }
}
