//! What reaches a worker in the middle of verifying a copy: the wish that it stops, and the cancellation of the run.

use std::fs;

use anyhow::{Context, Result, ensure};
use tests::{Background, FAILPOINTS, Site, eventually, pause_at};
use virtuozo_disk::vmdk::DiskKind;
use vix::lab::{DiskSpec, GuestSpec, LabGuest, Power, Product};

/// A site with a guest, and a worker that stands still in the middle of verifying its copy.
async fn verifying() -> Result<(Site, LabGuest, Background, String)> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    let disk = DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 16 << 20);
    let mut spec = GuestSpec::new("mail", vec![disk]);
    spec.power = Power::On;
    let guest = host.guest(&spec)?;
    site.start(0)?;
    let reached = site.path("reached");
    let worker = site.spawn(
        "worker",
        &["worker", "--name", "first"],
        &[(FAILPOINTS, &pause_at("verify.middle", &reached))],
    )?;
    let run = site.start_run()?;
    eventually("the worker to verify", async || {
        Ok(reached.exists().then_some(()))
    })
    .await?;
    Ok((site, guest, worker, run))
}

async fn lease_until(site: &Site) -> Result<Option<String>> {
    let lease = "SELECT lease_until::text FROM virtuozo_core.guest_runs";
    Ok(sqlx::query_scalar(lease).fetch_one(site.pool()).await?)
}

fn steps(site: &Site, run: &str) -> Result<Vec<String>> {
    let shown = site.json(&["run", "show", run])?;
    let steps = shown["steps"].as_array().context("the steps of the run")?;
    Ok(steps
        .iter()
        .map(|step| format!("{} {}", step["name"], step["state"]).replace('"', ""))
        .collect())
}

#[tokio::test]
async fn a_worker_that_stops_while_it_verifies_leaves_the_copy_to_another_one() -> Result<()> {
    let (mut site, guest, first, run) = verifying().await?;
    first.signal("TERM")?;
    eventually("the worker to drain", async || {
        Ok(first.said().contains("worker drains").then_some(()))
    })
    .await?;
    fs::remove_file(site.path("reached"))?;
    eventually("the worker to hand over", async || {
        Ok(first.said().contains("worker has stopped").then_some(()))
    })
    .await?;
    ensure!(guest.power()? == Power::On && guest.snapshots()?.is_empty());
    site.start_worker("second")?;
    let shown = site.ended(&run).await?;
    ensure!(shown["state"] == "succeeded", "{shown:#}");
    let steps = steps(&site, &run)?;
    ensure!(
        steps.iter().filter(|step| step.starts_with("copy")).count() == 1,
        "copied again: {steps:?}"
    );
    ensure!(
        steps.ends_with(&["verify done".to_owned(), "publish done".to_owned()]),
        "{steps:?}"
    );
    site.stop()
}

#[tokio::test]
async fn a_run_that_is_cancelled_while_its_copy_is_verified_publishes_nothing() -> Result<()> {
    let (mut site, guest, worker, run) = verifying().await?;
    site.virtuozo(&["run", "cancel", &run])?.ok()?;
    // A worker hears of it with a renewal; the first may have been under way.
    for _ in 0..2 {
        let before = lease_until(&site).await?;
        eventually("the lease to be renewed", async || {
            Ok((lease_until(&site).await? != before).then_some(()))
        })
        .await?;
    }
    fs::remove_file(site.path("reached"))?;
    let shown = site.ended(&run).await?;
    ensure!(
        shown["state"] == "cancelled",
        "{shown:#}\n{}",
        worker.said()
    );
    ensure!(guest.power()? == Power::On && guest.snapshots()?.is_empty());
    let points = site.json(&["point", "list"])?;
    ensure!(points.as_array().is_some_and(Vec::is_empty), "{points:#}");
    site.stop()
}
