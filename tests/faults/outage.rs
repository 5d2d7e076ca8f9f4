//! The database is away, silent, not there yet, or another one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Background, Site, eventually};
use vix::lab::Product;

use crate::{guest, proxy::Proxy, undisturbed};

/// What a process says when it begins to wait, and when it need not any more.
const WAITS: &str = "waiting for the database";
const GOES_ON: &str = "the database answers again";

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Refused,
    Silent,
}

/// A site whose processes reach the database through a proxy, with the usual leases.
pub(crate) struct Apart {
    pub(crate) site: Site,
    pub(crate) proxy: Proxy,
    url: String,
}

impl Apart {
    pub(crate) async fn new() -> Result<Self> {
        let site = Site::new().await?;
        site.virtuozo(&["settings", "set", "lease_secs", "12"])?
            .ok()?;
        let host = site.host("alpha", Product::WorkstationShared)?;
        guest(&host, "mail")?;
        let proxy = Proxy::to(site.url()).await?;
        let url = proxy.url();
        Ok(Self { site, proxy, url })
    }

    pub(crate) fn spawn(
        &self,
        args: &[&str],
        env: &[(&str, &std::path::Path)],
    ) -> Result<Background> {
        let mut all = vec![("DATABASE_URL", self.url.as_ref())];
        all.extend_from_slice(env);
        self.site.spawn(args[0], args, &all)
    }

    fn cut(&mut self, how: How) {
        match how {
            How::Refused => self.proxy.refuse(),
            How::Silent => self.proxy.fall_silent(),
        }
    }
}

/// Insists that a process runs, and that it has said once that it waits and once that it goes on; of an
/// outage that is short enough for a second attempt it need not say anything.
async fn waited_once(process: &mut Background, is_short: bool) -> Result<()> {
    let said = |process: &Background| {
        let said = process.said();
        (said.matches(WAITS).count(), said.matches(GOES_ON).count())
    };
    eventually("it to say that it goes on", async || {
        let (waits, goes_on) = said(process);
        Ok((waits == goes_on && (waits > 0 || is_short)).then_some(()))
    })
    .await
    .with_context(|| process.said())?;
    ensure!(process.runs()?, "it has ended:\n{}", process.said());
    ensure!(
        said(process).0 <= 1,
        "it said more than once that it waits:\n{}",
        process.said()
    );
    Ok(())
}

/// The database is away for `outage_secs` while a guest is copied; the copy stands at its middle for that
/// time, so it is certain that it is not over before.
async fn survives(how: How, outage_secs: u64) -> Result<()> {
    let mut apart = Apart::new().await?;
    let held = apart.site.path("held");
    let mut scheduler = apart.spawn(&["scheduler"], &[])?;
    let mut worker = apart.spawn(
        &["worker", "--name", "cut-off"],
        &[
            ("VIRTUOZO_HOLD_AT", "copy.middle".as_ref()),
            ("VIRTUOZO_HOLD_FILE", &held),
        ],
    )?;
    let run = apart.site.start_run()?;
    eventually("the copy to be under way", async || {
        Ok(held.exists().then_some(()))
    })
    .await
    .with_context(|| worker.said())?;
    apart.cut(how);
    tokio::time::sleep(Duration::from_secs(outage_secs)).await;
    std::fs::remove_file(&held)?;
    apart.proxy.open().await?;
    undisturbed(&apart.site, &run, "mail")
        .await
        .with_context(|| format!("{}\n{}", scheduler.said(), worker.said()))?;
    for process in [&mut scheduler, &mut worker] {
        waited_once(process, outage_secs < 5).await?;
        process.terminate()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_for_four_seconds_costs_nothing() -> Result<()> {
    survives(How::Refused, 4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_for_forty_seconds_costs_nothing() -> Result<()> {
    survives(How::Refused, 40).await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_silent_for_forty_seconds_and_for_ever_are_replaced() -> Result<()> {
    survives(How::Silent, 40).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes long: make outage-proof"]
async fn a_database_that_is_away_for_ten_minutes_costs_nothing() -> Result<()> {
    survives(How::Refused, 600).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes long: make outage-proof"]
async fn connections_that_are_silent_for_ten_minutes_and_for_ever_are_replaced() -> Result<()> {
    survives(How::Silent, 600).await
}

/// Scheduler and worker start while nobody answers, and do their work when somebody does.
async fn waits_at_the_start(how: How) -> Result<()> {
    let mut apart = Apart::new().await?;
    apart.cut(how);
    let mut scheduler = apart.spawn(&["scheduler"], &[])?;
    let mut worker = apart.spawn(&["worker", "--name", "early"], &[])?;
    for process in [&scheduler, &worker] {
        eventually("it to say what it waits for", async || {
            Ok(process.said().contains(WAITS).then_some(()))
        })
        .await
        .with_context(|| process.said())?;
    }
    apart.proxy.open().await?;
    let run = apart.site.start_run()?;
    undisturbed(&apart.site, &run, "mail")
        .await
        .with_context(|| format!("{}\n{}", scheduler.said(), worker.said()))?;
    for process in [&mut scheduler, &mut worker] {
        waited_once(process, false).await?;
        process.terminate()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_before_the_database_wait_for_it() -> Result<()> {
    waits_at_the_start(How::Refused).await
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_while_the_network_is_silent_wait_for_the_database() -> Result<()> {
    waits_at_the_start(How::Silent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_idle_connections_died_unnoticed_works_on() -> Result<()> {
    let mut apart = Apart::new().await?;
    let mut scheduler = apart.spawn(&["scheduler"], &[])?;
    let mut worker = apart.spawn(&["worker", "--name", "idle"], &[])?;
    eventually("the worker to claim jobs", async || {
        let claimers = crate::count(apart.site.pool(), "SELECT count(*) FROM apalis.workers");
        Ok((claimers.await? >= 3).then_some(()))
    })
    .await?;
    // As when a firewall forgets them: what is there is dead, new ones are fine.
    apart.proxy.fall_silent();
    apart.proxy.open().await?;
    let run = apart.site.start_run()?;
    undisturbed(&apart.site, &run, "mail")
        .await
        .with_context(|| format!("{}\n{}", scheduler.said(), worker.said()))?;
    worker.terminate()?;
    scheduler.terminate()
}
