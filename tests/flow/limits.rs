//! Limits and retention hold over a whole run.

use anyhow::{Context, Result, ensure};
use disk::vmdk::DiskKind;
use tests::{Site, eventually};
use vix::lab::{DiskSpec, GuestSpec, Product};

/// A host with so many small guests that are off.
fn host_with(site: &Site, name: &str, guests: usize) -> Result<()> {
    let host = site.host(name, Product::WorkstationShared)?;
    for n in 0..guests {
        let disk = DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 1 << 20);
        host.guest(&GuestSpec::new(format!("guest-{n}"), vec![disk]))?;
    }
    Ok(())
}

/// How many guests of a host have a slot, and how many of all hosts.
async fn in_work(site: &Site, host: &str) -> Result<(i64, i64)> {
    Ok(sqlx::query_as(
        "SELECT count(*) FILTER (WHERE h.name = $1), count(*)
           FROM virtuozo_core.guest_slots s JOIN virtuozo_core.hosts h ON h.id = s.host_id
          WHERE s.guest_run_id IS NOT NULL",
    )
    .bind(host)
    .fetch_one(site.pool())
    .await?)
}

async fn comes_to(site: &Site, host: &str, guests: i64) -> Result<()> {
    eventually(&format!("{guests} guests of {host} in work"), async || {
        Ok((in_work(site, host).await?.0 == guests).then_some(()))
    })
    .await
}

/// Insists that `run show` gives this reason for a guest of the host.
async fn is_said(site: &Site, run: &str, host: &str, reason: &str) -> Result<()> {
    let text = async || anyhow::Ok(site.virtuozo(&["run", "show", run])?.ok()?.stdout);
    let said = |text: &str| {
        text.lines()
            .any(|line| line.contains(&format!("{host}/")) && line.contains(reason))
    };
    let found = eventually(reason, async || Ok(said(&text().await?).then_some(()))).await;
    match found {
        Ok(()) => Ok(()),
        Err(problem) => Err(problem.context(text().await?)),
    }
}

#[tokio::test]
async fn limits_that_change_in_the_middle_of_a_run_apply_at_once_and_run_show_names_them()
-> Result<()> {
    let mut site = Site::new().await?;
    host_with(&site, "busy", 1)?;
    host_with(&site, "alpha", 4)?;
    host_with(&site, "beta", 4)?;
    let set = |args: &[&str]| site.virtuozo(args)?.ok().map(drop);
    set(&["settings", "set", "host_threads", "1"])?;
    let scheduler = site.spawn("scheduler", &["scheduler"], &[])?;
    // A worker without room for another host: so what has a slot keeps it for as long as the test wants.
    let held = site.path("held");
    let variables = [
        ("VIRTUOZO_HOLD_AT", "copy.middle".as_ref()),
        ("VIRTUOZO_HOLD_FILE", held.as_path()),
    ];
    let full = site.spawn("full", &["worker", "--name", "full"], &variables)?;
    site.json(&["run", "now", "--host", "busy"])?;
    eventually("the worker to be full", async || {
        Ok(held.exists().then_some(()))
    })
    .await?;

    set(&["host", "pause", "alpha"])?;
    set(&["host", "pause", "beta"])?;
    set(&["host", "edit", "alpha", "--guest-threads", "1"])?;
    set(&["host", "edit", "beta", "--guest-threads", "2"])?;
    let mut finder = site.spawn("finder", &["worker", "--name", "finder"], &[])?;
    let run = site.json(&["run", "now", "--host", "alpha", "--host", "beta"])?;
    let run = run["run_id"].as_str().context("no run id")?.to_owned();
    eventually("all guests to be found", async || {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM virtuozo_core.guest_runs WHERE state = 'waiting'",
        )
        .fetch_one(site.pool())
        .await?;
        Ok((waiting == 8).then_some(()))
    })
    .await?;
    finder.terminate()?;
    is_said(&site, &run, "alpha", "paused").await?;
    is_said(&site, &run, "beta", "paused").await?;

    // A host that is full or paused does not hold up the other.
    set(&["host", "resume", "alpha"])?;
    comes_to(&site, "alpha", 1).await?;
    is_said(&site, &run, "alpha", "slots full: 1 of 1 busy").await?;
    is_said(&site, &run, "beta", "paused").await?;
    set(&["host", "resume", "beta"])?;
    comes_to(&site, "beta", 2).await?;

    set(&["host", "edit", "alpha", "--guest-threads", "3"])?;
    comes_to(&site, "alpha", 3).await?;

    // Six are in work, and a cap below that lets no other begin where slots are free.
    set(&["settings", "set", "fleet_guest_threads", "3"])?;
    set(&["host", "edit", "beta", "--guest-threads", "4"])?;
    is_said(&site, &run, "beta", "cap reached: fleet, 6 of 3").await?;
    set(&["settings", "set", "fleet_guest_threads", "7"])?;
    comes_to(&site, "beta", 3).await?;
    is_said(&site, &run, "beta", "cap reached: fleet, 7 of 7").await?;
    let repository = site.repository().display().to_string();
    set(&["settings", "set", "fleet_guest_threads", ""])?;
    comes_to(&site, "beta", 4).await?;
    set(&["repository", "limit", &repository, "2"])?;
    set(&["host", "edit", "alpha", "--guest-threads", "4"])?;
    is_said(&site, &run, "alpha", "cap reached: repository").await?;

    // Eight are in work: as they end, the ninth has to wait until fewer than two are.
    let mut second = site.spawn("second", &["worker", "--name", "second"], &[])?;
    let mut most = in_work(&site, "alpha").await?.1;
    ensure!(most == 8, "{most} in work");
    eventually("all but the one that is held to be done", async || {
        let now = in_work(&site, "alpha").await?.1;
        ensure!(
            now <= most.max(2),
            "{now} in work after {most}, with a cap of 2"
        );
        most = now;
        let left: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM virtuozo_core.guest_runs WHERE ended_at IS NULL",
        )
        .fetch_one(site.pool())
        .await?;
        Ok((left == 1).then_some(()))
    })
    .await?;
    let shown = site.ended(&run).await?;
    ensure!(shown["state"] == "succeeded", "{shown:#}");
    std::fs::remove_file(&held)?;
    second.terminate()?;
    drop((full, scheduler));
    site.stop()
}

#[tokio::test]
async fn no_host_ever_has_more_guests_in_work_than_its_slots() -> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    for n in 0..6 {
        let disk = DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 8 << 20);
        host.guest(&GuestSpec::new(format!("guest-{n}"), vec![disk]))?;
    }
    site.virtuozo(&["host", "edit", "alpha", "--guest-threads", "2"])?
        .ok()?;
    site.start(3)?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    // How many were in work when each began, by what the database recorded.
    let most: i64 = sqlx::query_scalar(
        "SELECT max((SELECT count(*) FROM virtuozo_core.guest_runs b
                      WHERE b.started_at <= a.started_at AND b.ended_at > a.started_at))
           FROM virtuozo_core.guest_runs a",
    )
    .fetch_one(site.pool())
    .await?;
    ensure!(
        (1..=2).contains(&most),
        "{most} guests at once with 2 slots"
    );
    site.stop()
}

#[tokio::test]
async fn retention_keeps_the_last_verified_points_and_removes_older_ones_from_disk_too()
-> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    let disk = DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 8 << 20);
    host.guest(&GuestSpec::new("mail", vec![disk]))?;
    site.virtuozo(&["settings", "set", "keep_last", "2"])?
        .ok()?;
    site.start(1)?;
    for _ in 0..4 {
        let run = site.back_up().await?;
        ensure!(run["state"] == "succeeded", "{run:#}");
    }
    let two = || async {
        let points = site.json(&["point", "list"])?;
        Ok((points.as_array().context("no list")?.len() == 2).then_some(()))
    };
    tests::eventually("two points to be left", two).await?;
    let on_disk = std::fs::read_dir(site.repository().join("alpha/mail"))?.count();
    ensure!(on_disk == 2, "{on_disk} folders on disk");
    site.virtuozo(&["point", "verify", "--all"])?.ok()?;
    site.stop()
}
