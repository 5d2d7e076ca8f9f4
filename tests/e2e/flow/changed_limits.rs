//! Limits that an administrator changes while a run goes on: what is lowered holds for all that begins later, what
//! is raised is used at once, and each guest that waits says for which limit.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tests::{Site, eventually};
use virtuozo_disk::vmdk::DiskKind;
use virtuozo_store::sweeps;
use vix::lab::{DiskSpec, GuestSpec, HostSpec, Power, Product};

/// How soon what a change permits has begun: without a restart, and without anybody's help.
const AT_ONCE: Duration = Duration::from_secs(30);

/// The names, `HOST/GUEST`, of all guests that a limit is about, as a regular expression.
const ALPHA: &str = "^alpha/";
const BETA: &str = "^beta/";
const STANDARD: &str = "^alpha/std-";
const FLEET: &str = "";

/// One limit, for as long as it was in force.
struct Limit {
    about: String,
    most: Option<i64>,
    from: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
}

/// A run whose guests have their slots and stand still, each until it is let go.
struct Night {
    site: Site,
    run: String,
    limits: Vec<Limit>,
}

impl Night {
    /// Ten guests on each of two hosts, of which two and one may be in work.
    async fn begin() -> Result<Self> {
        let site = Site::new().await?;
        // The hooks make a busy machine of it: nobody is to lose a lease.
        site.virtuozo(&["settings", "set", "lease_secs", "15"])?
            .ok()?;
        let mut guests = Vec::new();
        for (host, names) in [("alpha", &["std", "arc"][..]), ("beta", &["bet"])] {
            let mut spec = HostSpec::new(host, Product::Server2);
            spec.datastores = vec!["standard".to_owned(), "archive".to_owned()];
            let built = site.host_as(&spec)?;
            for n in 0..10 {
                let name = names[usize::from(n >= 8) % names.len()];
                let disk = DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 1 << 20);
                let mut guest = GuestSpec::new(format!("{name}-{n}"), vec![disk]);
                guest.power = Power::Off;
                if name == "arc" {
                    guest.datastore = "archive".to_owned();
                }
                guests.push(format!("{host}/{}", guest.name));
                built.guest(&guest)?;
            }
        }
        site.virtuozo(&["host", "check", "--local"])?.ok()?;
        let script = site.path("held").display().to_string();
        let held = format!(
            "until test -e {}/go-$VIRTUOZO_GUEST; do sleep 0.2; done\n",
            site.path("").display()
        );
        fs::write(&script, held)?;
        for guest in guests {
            let set = ["hook", "set", "--guest", &guest, "--before", "--", "sh"];
            site.virtuozo(&[&set[..], &[&script]].concat())?.ok()?;
        }
        let mut night = Self {
            site,
            run: String::new(),
            limits: Vec::new(),
        };
        night.host("alpha", 2).await?;
        night.host("beta", 1).await?;
        night.site.start(3)?;
        night.run = night.site.start_run()?;
        Ok(night)
    }

    /// Changes a limit with a command. From then on it counts for all that begins.
    async fn change(&mut self, about: &str, most: Option<i64>, command: &[&str]) -> Result<()> {
        eventually("all that was admitted to begin", async || {
            let admitted: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM virtuozo_core.guest_runs WHERE state = 'admitted'",
            )
            .fetch_one(self.site.pool())
            .await?;
            Ok((admitted == 0).then_some(()))
        })
        .await?;
        let before = self.now().await?;
        self.site.virtuozo(command)?.ok()?;
        let from = self.now().await?;
        let earlier = |limit: &&mut Limit| limit.about == about && limit.until.is_none();
        if let Some(limit) = self.limits.iter_mut().find(earlier) {
            limit.until = Some(before);
        }
        self.limits.push(Limit {
            about: about.to_owned(),
            most,
            from,
            until: None,
        });
        Ok(())
    }

    async fn host(&mut self, name: &str, most: i64) -> Result<()> {
        let threads = most.to_string();
        let command = ["host", "edit", name, "--guest-threads", &threads];
        self.change(&format!("^{name}/"), Some(most), &command)
            .await
    }

    async fn standard(&mut self, most: Option<i64>) -> Result<()> {
        let cap = most.map_or("none".to_owned(), |most| most.to_string());
        let command = ["datastore", "limit", "alpha", "standard", &cap];
        self.change(STANDARD, most, &command).await
    }

    async fn repository(&mut self, about: &str, most: Option<i64>) -> Result<()> {
        let cap = most.map_or("none".to_owned(), |most| most.to_string());
        let path = self.site.repository().display().to_string();
        self.change(about, most, &["repository", "limit", &path, &cap])
            .await
    }

    async fn fleet(&mut self, most: Option<i64>) -> Result<()> {
        let cap = most.map_or(String::new(), |most| most.to_string());
        let command = ["settings", "set", "fleet_guest_threads", &cap];
        self.change(FLEET, most, &command).await
    }

    async fn now(&self) -> Result<DateTime<Utc>> {
        Ok(sqlx::query_scalar("SELECT clock_timestamp()")
            .fetch_one(self.site.pool())
            .await?)
    }

    /// The guests of these names whose runs are in this state.
    async fn guests(&self, about: &str, state: &str) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(
            "SELECT name FROM (SELECT h.name || '/' || u.name AS name, g.state
                                 FROM virtuozo_core.guest_runs g
                                 JOIN virtuozo_core.guests u ON u.id = g.guest_id
                                 JOIN virtuozo_core.hosts h ON h.id = g.host_id) g
              WHERE name ~ $1 AND state = $2 ORDER BY name",
        )
        .bind(about)
        .bind(state)
        .fetch_all(self.site.pool())
        .await?)
    }

    /// Waits, but not for long, until so many of these guests are in work; which they are.
    async fn in_work(&self, about: &str, count: usize) -> Result<Vec<String>> {
        let asked = Instant::now();
        let what = format!("{count} guests {about:?} to be in work");
        let running = eventually(&what, async || {
            let running = self.guests(about, "running").await?;
            Ok((running.len() == count).then_some(running))
        })
        .await?;
        let took = asked.elapsed();
        ensure!(took < AT_ONCE, "{what} took {took:?}");
        Ok(running)
    }

    /// Lets guests go on, and waits for their restore points.
    async fn let_go(&self, guests: &[String]) -> Result<()> {
        for guest in guests {
            let (_, name) = guest.split_once('/').context("no host")?;
            fs::write(self.site.path(&format!("go-{name}")), "")?;
        }
        eventually("those that were let go to end", async || {
            let done = self.guests("", "succeeded").await?;
            Ok(guests.iter().all(|g| done.contains(g)).then_some(()))
        })
        .await
    }

    /// Nothing may begin now, whoever looks.
    async fn full(&self) -> Result<()> {
        let admitted = sweeps::admit_all(self.site.pool()).await?;
        ensure!(admitted == 0, "{admitted} guests begin beyond a limit");
        Ok(())
    }

    /// All these guests that wait, at least one, say so for this reason: for programs, and for people.
    async fn wait_for(&self, about: &str, reason: &str) -> Result<()> {
        let shown = self.site.json(&["run", "show", &self.run])?;
        let table = self
            .site
            .virtuozo(&["run", "show", &self.run])?
            .ok()?
            .stdout;
        let waiting = self.guests(about, "waiting").await?;
        ensure!(!waiting.is_empty(), "nothing {about:?} waits");
        for name in waiting {
            let is_it = |line: &&Value| {
                let of = |field: &str| line[field].as_str().unwrap_or_default();
                format!("{}/{}", of("host"), of("guest")) == name
            };
            let lines = shown["guest_runs"].as_array().context("no guest runs")?;
            let line = lines.iter().find(is_it).context("a guest is not shown")?;
            ensure!(
                line["waiting_reason"] == reason,
                "{name} does not wait for {reason:?}: {line:#}"
            );
            let row = table.lines().find(|row| row.contains(&name));
            ensure!(
                row.is_some_and(|row| row.contains(reason)),
                "{name} does not wait for {reason:?}:\n{table}"
            );
        }
        Ok(())
    }

    /// As [`Self::wait_for`], for slots of a host.
    async fn wait_for_slots(&self, about: &str, slots: i64) -> Result<()> {
        let reason = format!("all {slots} slots of its host are taken");
        self.wait_for(about, &reason).await
    }

    /// As [`Self::wait_for`], for a cap that reaches over hosts.
    async fn wait_for_cap(&self, about: &str, cap: &str) -> Result<()> {
        let reason = format!("cap reached: {cap} guests in work");
        self.wait_for(about, &reason).await
    }

    /// Looks back: whenever a guest began, it and those in work then were no more than a limit of that time permits.
    async fn was_within_all_limits(&self) -> Result<()> {
        for limit in &self.limits {
            let Some(most) = limit.most else { continue };
            let beyond: Vec<(String, i64)> = sqlx::query_as(
                "WITH work AS (SELECT h.name || '/' || u.name AS name, g.started_at, g.ended_at
                                 FROM virtuozo_core.guest_runs g
                                 JOIN virtuozo_core.guests u ON u.id = g.guest_id
                                 JOIN virtuozo_core.hosts h ON h.id = g.host_id)
                 SELECT * FROM (SELECT a.name, (SELECT count(*) FROM work b
                                                 WHERE b.name ~ $1 AND b.started_at <= a.started_at AND b.ended_at > a.started_at)
                                  FROM work a
                                 WHERE a.name ~ $1 AND a.started_at >= $2 AND ($3::timestamptz IS NULL OR a.started_at < $3)) w (name, at_once)
                  WHERE at_once > $4",
            )
            .bind(&limit.about)
            .bind(limit.from)
            .bind(limit.until)
            .bind(most)
            .fetch_all(self.site.pool())
            .await?;
            ensure!(
                beyond.is_empty(),
                "more than {most} of {:?} at once when these began: {beyond:?}",
                limit.about
            );
        }
        Ok(())
    }
}

#[tokio::test]
async fn limits_that_change_in_the_middle_of_a_run_hold_at_once_and_hold_up_nobody_else()
-> Result<()> {
    let mut night = Night::begin().await?;

    // Slots of hosts.
    night.in_work(ALPHA, 2).await?;
    let beta = night.in_work(BETA, 1).await?;
    night.wait_for_slots(ALPHA, 2).await?;
    night.wait_for_slots(BETA, 1).await?;
    night.let_go(&beta).await?;
    let beta = night.in_work(BETA, 1).await?;
    night.host("alpha", 4).await?;
    let alpha = night.in_work(ALPHA, 4).await?;
    night.host("alpha", 1).await?;
    night.full().await?;
    night.let_go(&alpha[..3]).await?;
    night.full().await?;
    night.in_work(ALPHA, 1).await?;
    night.wait_for_slots(ALPHA, 1).await?;
    night.let_go(&beta).await?;
    night.in_work(BETA, 1).await?;

    // The cap of a datastore.
    night.standard(Some(1)).await?;
    night.host("alpha", 8).await?;
    let archive = 2 - night.guests("^alpha/arc-", "succeeded").await?.len();
    night.in_work("^alpha/arc-", archive).await?;
    night.in_work(STANDARD, 1).await?;
    night.full().await?;
    let cap = "datastore standard, 1 of 1";
    night.wait_for_cap(STANDARD, cap).await?;
    night.standard(Some(3)).await?;
    let standard = night.in_work(STANDARD, 3).await?;
    night.standard(Some(1)).await?;
    night.let_go(&standard[..2]).await?;
    night.full().await?;
    night.in_work(STANDARD, 1).await?;
    night.wait_for_cap(STANDARD, cap).await?;
    night.standard(None).await?;
    night.in_work(ALPHA, 5).await?;

    // The cap of the repository; one guest's points go elsewhere from now on.
    let waiting = night.guests(BETA, "waiting").await?;
    let elsewhere = waiting.first().context("nothing waits")?.clone();
    let there = night.site.path("elsewhere").display().to_string();
    night
        .site
        .virtuozo(&["guest", "edit", &elsewhere, "--destination", &there])?
        .ok()?;
    let here = format!("^(?!{elsewhere}$)");
    let path = night.site.repository().display().to_string();
    night.repository(&here, Some(6)).await?;
    night.host("beta", 4).await?;
    let beta = night.in_work(BETA, 2).await?;
    ensure!(beta.contains(&elsewhere), "{elsewhere} waits: {beta:?}");
    night.full().await?;
    let cap = format!("repository {path}, 6 of 6");
    night.wait_for_cap(BETA, &cap).await?;
    night.repository(&here, Some(7)).await?;
    let beta = night.in_work(BETA, 3).await?;
    night.repository(&here, Some(2)).await?;
    let one = beta.into_iter().find(|guest| *guest != elsewhere);
    night.let_go(&[one.context("nothing in work")?]).await?;
    night.full().await?;
    let cap = format!("repository {path}, 6 of 2");
    night.wait_for_cap(BETA, &cap).await?;
    night.repository(&here, None).await?;
    let beta = night.in_work(BETA, 4).await?;
    night.wait_for_slots(BETA, 4).await?;

    // The cap of the fleet.
    night.fleet(Some(3)).await?;
    night.let_go(&beta[..2]).await?;
    night.full().await?;
    night.in_work(BETA, 2).await?;
    night.wait_for_cap(BETA, "fleet, 7 of 3").await?;
    night.fleet(Some(8)).await?;
    night.in_work(BETA, 3).await?;
    night.full().await?;
    night.wait_for_cap(BETA, "fleet, 8 of 8").await?;
    night.fleet(None).await?;
    night.in_work(BETA, 4).await?;

    for host in ["alpha", "beta"] {
        night.host(host, 10).await?;
    }
    let mut all = night.guests("", "running").await?;
    all.extend(night.guests("", "waiting").await?);
    night.let_go(&all).await?;
    let run = night.site.ended(&night.run).await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    night.was_within_all_limits().await?;
    night.site.stop()
}
