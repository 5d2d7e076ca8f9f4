//! Any number of schedulers may run; one leads, and another when that one dies or freezes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sqlx::PgPool;
use tests::{Background, Site, eventually, small_guest};
use vix::lab::Product;

use super::count;

/// How long the lead may take to move.
const MOVES_WITHIN: Duration = Duration::from_secs(15);

/// The process id of the leading scheduler, while its lease holds.
async fn leader(pool: &PgPool) -> Result<Option<i32>> {
    Ok(sqlx::query_scalar(
        "SELECT w.pid FROM virtuozo_core.lead l JOIN virtuozo_core.workers w ON w.id = l.owner_id
          WHERE l.lease_until > now()",
    )
    .fetch_optional(pool)
    .await?)
}

/// Three schedulers; `end` happens to the leader. Another leads soon, and starts what is due, once.
async fn the_lead_moves(end: impl FnOnce(&mut Background) -> Result<()>) -> Result<()> {
    let site = Site::new().await?;
    small_guest(&site.host("alpha", Product::WorkstationShared)?, "mail")?;
    let mut schedulers = Vec::new();
    for name in ["first", "second", "third"] {
        schedulers.push(site.spawn(name, &["scheduler"], &[])?);
    }
    let pid = eventually("one to lead", async || leader(site.pool()).await).await?;
    let at = schedulers
        .iter()
        .position(|one| i32::try_from(one.pid()).is_ok_and(|its| its == pid))
        .context("the leader is none of ours")?;
    let mut old = schedulers.swap_remove(at);
    end(&mut old)?;
    let began = Instant::now();
    site.add_missed_schedule().await?;
    eventually("the run that is due", async || {
        let runs = count(site.pool(), "SELECT count(*) FROM virtuozo_core.runs").await?;
        Ok((runs > 0).then_some(()))
    })
    .await?;
    ensure!(
        began.elapsed() < MOVES_WITHIN,
        "the lead took {:?} to move",
        began.elapsed()
    );
    let new = leader(site.pool()).await?;
    ensure!(
        new.is_some_and(|new| new != pid),
        "{new:?} leads after {pid}"
    );
    // One that was frozen goes on where it stood, and finds that it leads no more.
    let _ = old.signal("CONT");
    if old.runs()? {
        eventually("the old leader to stand back", async || {
            Ok(old.said().contains("another scheduler leads").then_some(()))
        })
        .await?;
    }
    ensure!(count(site.pool(), "SELECT count(*) FROM virtuozo_core.runs").await? == 1);
    ensure!(count(site.pool(), "SELECT count(*) FROM virtuozo_core.ticks").await? == 1);
    for mut scheduler in schedulers {
        scheduler.terminate()?;
    }
    Ok(())
}

#[tokio::test]
async fn the_lead_moves_when_the_leader_is_killed() -> Result<()> {
    the_lead_moves(Background::kill_9).await
}

#[tokio::test]
async fn the_lead_moves_when_the_leader_is_frozen() -> Result<()> {
    the_lead_moves(|leader| leader.signal("STOP")).await
}
