//! Outages of the database: how it is away, what the processes are at meanwhile, and what has to be true
//! after each of them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use vix::lab::Product;

use crate::{
    Background, FAILPOINTS, Site, eventually, pause_at,
    proxy::Proxy,
    server::{Pair, Server, place},
    small_guest,
};

/// The only guest of the site.
const GUEST: &str = "mail";
/// What a process says when it begins to wait, and when it need not any more.
const WAITS: &str = "waiting for the database";
const GOES_ON: &str = "the database answers again";
/// An outage that is over by a second attempt need not be noticed.
const SHORT_SECS: u64 = 5;
/// The lease of all runs: a short outage is over before it runs out, a long one is not.
const LEASE_SECS: &str = "12";
/// The warnings that a process may write of one outage: that it waits, and one for each of its three queues
/// if their connections died alone.
const MOST_PROBLEMS: usize = 4;
/// How long a process may take to end that has nothing in work.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// In which way the database is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Connections end, and nobody gets a new one.
    Refused,
    /// Packets disappear; connections that were there stay dead for ever.
    Silent,
    /// The server itself is stopped as by a crash, and recovers.
    Stopped,
    /// The server is gone for good, and its standby answers in its place.
    FailedOver,
}

/// What the processes are at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// They start.
    Starting,
    /// They wait for work.
    None,
    /// A guest is being copied.
    Copying,
}

/// One outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// How the database is away.
    pub way: Way,
    /// What it meets.
    pub work: Work,
    /// For how long.
    pub secs: u64,
}

impl std::fmt::Display for Outage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let way = match self.way {
            Way::Refused => "connections refused",
            Way::Silent => "connections silent",
            Way::Stopped => "server stopped",
            Way::FailedOver => "server replaced by its standby",
        };
        let work = match self.work {
            Work::Starting => "while processes start",
            Work::None => "while processes are idle",
            Work::Copying => "while a guest is copied",
        };
        write!(f, "{way} for {} s {work}", self.secs)
    }
}

impl Outage {
    /// Lets it happen to a site of its own, and holds the outcome against what must be true then.
    ///
    /// # Errors
    /// What is not true, or what hindered the test.
    pub async fn hold(self) -> Result<()> {
        let mut apart = Apart::new(self.way).await?;
        self.happen(&mut apart)
            .await
            .with_context(|| format!("{self}; the processes said:\n{}", apart.said()))
    }

    async fn happen(self, apart: &mut Apart) -> Result<()> {
        let outage = Duration::from_secs(self.secs);
        let run = match self.work {
            Work::Starting => {
                apart.cut(self.way).await?;
                apart.start(&[])?;
                for process in &apart.processes {
                    says(process, WAITS).await?;
                }
                tokio::time::sleep(outage).await;
                apart.mend().await?;
                apart.site.start_run()?
            }
            Work::None => {
                apart.start(&[])?;
                apart.claims_jobs().await?;
                apart.cut(self.way).await?;
                tokio::time::sleep(outage).await;
                apart.mend().await?;
                apart.site.start_run()?
            }
            Work::Copying => self.meets_a_copy(apart, outage).await?,
        };
        apart.site.undisturbed(&run, GUEST).await?;
        let may_pass_unnoticed = self.secs < SHORT_SECS && self.work != Work::Starting;
        for process in &mut apart.processes {
            waited_once(process, may_pass_unnoticed).await?;
            ends_soon(process)?;
        }
        Ok(())
    }

    /// The copy stands at its middle when the outage begins, so it is certain that it is not over before.
    async fn meets_a_copy(self, apart: &mut Apart, outage: Duration) -> Result<String> {
        let held = apart.site.path("held");
        apart.start(&[(FAILPOINTS, &pause_at("copy.middle", &held))])?;
        let run = apart.site.start_run()?;
        eventually("the copy to be under way", async || {
            Ok(held.exists().then_some(()))
        })
        .await?;
        apart.cut(self.way).await?;
        let began = Instant::now();
        if self.secs < SHORT_SECS {
            // The lease holds: the copy goes on, and comes to its end before the database is back.
            std::fs::remove_file(&held)?;
            eventually("the copy to be complete", async || {
                let left = apart.site.leftovers()?;
                let sealed = |at: &std::path::PathBuf| at.join("virtuozo-manifest.json").exists();
                Ok(left.iter().any(sealed).then_some(()))
            })
            .await?;
            tokio::time::sleep(outage.saturating_sub(began.elapsed())).await;
        } else {
            tokio::time::sleep(outage).await;
            std::fs::remove_file(&held)?;
        }
        apart.mend().await?;
        Ok(run)
    }
}

/// What is between the processes and their data.
enum Database {
    Proxy(Proxy),
    Server(Server),
    Pair { proxy: Proxy, pair: Box<Pair> },
}

/// A site whose database can go away from its processes. Fields drop in this order: processes, site,
/// servers, and the directory of these.
pub struct Apart {
    processes: Vec<Background>,
    /// The site.
    pub site: Site,
    database: Database,
    /// Where the processes find the database.
    url: String,
    _place: TempDir,
}

impl Apart {
    /// A site with one guest, whose database can go away in this way.
    ///
    /// # Errors
    /// It cannot be laid.
    pub async fn new(way: Way) -> Result<Self> {
        let place = place()?;
        let (site, database, url) = match way {
            Way::Refused | Way::Silent => {
                let site = Site::new().await?;
                let proxy = Proxy::to(site.url()).await?;
                let url = proxy.url();
                (site, Database::Proxy(proxy), url)
            }
            Way::Stopped => {
                let server = Server::start(place.path().join("pg"), &[])?;
                let url = server.url().to_owned();
                (Site::at(&url).await?, Database::Server(server), url)
            }
            Way::FailedOver => {
                let pair = Pair::start(place.path()).await?;
                let proxy = Proxy::to(pair.primary.url()).await?;
                let url = proxy.url();
                let pair = Box::new(pair);
                let database = Database::Pair { proxy, pair };
                (Site::at(&url).await?, database, url)
            }
        };
        site.virtuozo(&["settings", "set", "lease_secs", LEASE_SECS])?
            .ok()?;
        small_guest(&site.host("alpha", Product::WorkstationShared)?, GUEST)?;
        Ok(Self {
            processes: Vec::new(),
            site,
            database,
            url,
            _place: place,
        })
    }

    /// Starts a scheduler and a worker; `env` is for the worker.
    fn start(&mut self, env: &[(&str, &Path)]) -> Result<()> {
        let scheduler = self.spawn(&["scheduler"], &[])?;
        let worker = self.spawn(&["worker", "--name", "cut-off"], env)?;
        self.processes.extend([scheduler, worker]);
        Ok(())
    }

    /// Starts a process that finds the database where it can go away.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, args: &[&str], env: &[(&str, &Path)]) -> Result<Background> {
        let env = [&[("DATABASE_URL", self.url.as_ref())], env].concat();
        self.site.spawn(args[0], args, &env)
    }

    /// Waits until the worker listens for jobs of all kinds, and a scheduler leads.
    async fn claims_jobs(&self) -> Result<()> {
        eventually("the worker to claim jobs", async || {
            let ready: bool = sqlx::query_scalar(
                "SELECT (SELECT count(*) FROM apalis.workers) >= 3
                    AND EXISTS (SELECT FROM virtuozo_core.lead WHERE lease_until > now())",
            )
            .fetch_one(self.site.pool())
            .await?;
            Ok(ready.then_some(()))
        })
        .await
    }

    /// The database goes away. One that is behind a proxy can be refused or silent in turns.
    ///
    /// # Errors
    /// It does not.
    pub async fn cut(&mut self, way: Way) -> Result<()> {
        match &mut self.database {
            Database::Proxy(proxy) if way == Way::Silent => proxy.fall_silent(),
            Database::Proxy(proxy) => proxy.refuse().await,
            Database::Server(server) => server.crash().await?,
            Database::Pair { proxy, pair } => {
                pair.primary.crash().await?;
                proxy.refuse().await;
            }
        }
        Ok(())
    }

    /// It is there again.
    ///
    /// # Errors
    /// It is not.
    pub async fn mend(&mut self) -> Result<()> {
        match &mut self.database {
            Database::Proxy(proxy) => proxy.open(),
            Database::Server(server) => server.start_again(),
            Database::Pair { proxy, pair } => {
                pair.promote().await?;
                proxy.lead_to(pair.standby.url())?;
                proxy.open()
            }
        }
    }

    fn said(&self) -> String {
        self.processes.iter().map(Background::said).collect()
    }
}

async fn says(process: &Background, what: &str) -> Result<()> {
    eventually(&format!("a process to say: {what}"), async || {
        Ok(process.said().contains(what).then_some(()))
    })
    .await
}

/// Insists that a process runs, and that it has said once that it waits and once that it goes on, and that
/// it warned of not much else.
async fn waited_once(process: &mut Background, may_pass_unnoticed: bool) -> Result<()> {
    let said = |process: &Background| {
        let said = process.said();
        (said.matches(WAITS).count(), said.matches(GOES_ON).count())
    };
    eventually("a process to say that it goes on", async || {
        let (waits, goes_on) = said(process);
        Ok((waits == goes_on && (waits > 0 || may_pass_unnoticed)).then_some(()))
    })
    .await?;
    ensure!(process.runs()?, "a process has ended");
    ensure!(
        said(process).0 <= 1,
        "a process said more than once that it waits"
    );
    let all = process.said();
    let problems = all.lines().filter(|line| {
        (line.contains(" WARN ") || line.contains(" ERROR ")) && !line.contains("a failpoint")
    });
    ensure!(
        problems.count() <= MOST_PROBLEMS,
        "a process said too much of the outage"
    );
    Ok(())
}

fn ends_soon(process: &mut Background) -> Result<()> {
    let told_at = Instant::now();
    process.terminate()?;
    ensure!(
        told_at.elapsed() < ENDS_WITHIN,
        "a process took {:?} to end",
        told_at.elapsed()
    );
    Ok(())
}

/// A scheduler and an idle worker end soon when they are told to, also while nobody answers.
///
/// # Errors
/// One does not, or what hindered the test.
pub async fn processes_end_while_the_database_is(way: Way) -> Result<()> {
    let mut apart = Apart::new(way).await?;
    apart.start(&[])?;
    apart.claims_jobs().await?;
    apart.cut(way).await?;
    for process in &apart.processes {
        says(process, WAITS).await?;
    }
    apart
        .processes
        .iter_mut()
        .try_for_each(ends_soon)
        .with_context(|| apart.said())
}
