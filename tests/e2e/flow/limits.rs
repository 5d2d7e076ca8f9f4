//! Limits and retention hold over a whole run.

use anyhow::{Context, Result, ensure};
use tests::Site;
use virtuozo_disk::vmdk::DiskKind;
use vix::lab::{DiskSpec, GuestSpec, Product};

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
