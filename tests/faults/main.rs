//! What a fleet meets: a database that is away or silent, schedulers that die or freeze, workers that are
//! drained, updated or poisoned.

mod endpoints;
mod outage;
mod proxy;
mod schedulers;
mod workers;

use anyhow::{Result, ensure};
use disk::vmdk::DiskKind;
use sqlx::PgPool;
use tests::Site;
use vix::lab::{DiskSpec, GuestSpec, LabHost, Power};

/// A running guest with one small disk.
fn guest(host: &LabHost, name: &str) -> Result<()> {
    let disk = DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 16 << 20);
    let mut spec = GuestSpec::new(name, vec![disk]);
    spec.power = Power::On;
    host.guest(&spec)?;
    Ok(())
}

/// Insists that a run succeeded at its first attempt, under its first lease, with one point.
async fn undisturbed(site: &Site, run: &str, guest: &str) -> Result<()> {
    let shown = site.ended(run).await?;
    ensure!(shown["state"] == "succeeded", "{shown:#}\n{}", site.logs());
    let (attempts, crashes, fence): (i32, i32, i64) = sqlx::query_as(
        "SELECT g.attempts, g.crashes, g.fence FROM virtuozo_core.guest_runs g
           JOIN virtuozo_core.guests u ON u.id = g.guest_id
          WHERE g.run_id = $1::uuid AND u.name = $2",
    )
    .bind(run)
    .bind(guest)
    .fetch_one(site.pool())
    .await?;
    ensure!(
        (attempts, crashes, fence) == (0, 0, 1),
        "attempts, crashes, fence: {:?}",
        (attempts, crashes, fence)
    );
    ensure!(count(site.pool(), "SELECT count(*) FROM virtuozo_core.runs").await? == 1);
    site.only_point(guest).await?;
    site.nothing_owed().await
}

async fn count(pool: &PgPool, sql: &'static str) -> Result<i64> {
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}
