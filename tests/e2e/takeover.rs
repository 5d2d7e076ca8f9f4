//! Another worker takes over from a dead one soon, and goes on with its copy instead of beginning again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::{Background, FAILPOINTS, PointDisks, Site, eventually, guest_to_resume, pause_at};
use vix::lab::Power;

/// What the product promises with its default settings.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(15);

/// Starts a run and lets a worker come to `place` in it.
async fn worker_at(site: &Site, place: &str) -> Result<(String, Background)> {
    let reached = site.path("reached");
    let victim = site.spawn(
        "victim",
        &["worker", "--name", "victim"],
        &[(FAILPOINTS, &pause_at(place, &reached))],
    )?;
    let run = site.start_run()?;
    eventually(&format!("the worker to come to {place}"), async || {
        Ok(reached.exists().then_some(()))
    })
    .await
    .with_context(|| victim.said())?;
    Ok((run, victim))
}

async fn goes_on_with_the_copy(power: Power) -> Result<()> {
    let mut site = Site::new().await?;
    let guest = guest_to_resume(&site, power)?;
    site.start(0)?;
    let (run, mut victim) = worker_at(&site, "copy.durable").await?;
    victim.kill_9()?;
    site.start_worker("successor")?;
    let shown = site.ended(&run).await?;
    ensure!(shown["state"] == "succeeded", "{shown:#}\n{}", site.logs());

    let (fence, resumed, copied): (i64, i64, i64) = sqlx::query_as(
        "SELECT s.fence, (s.output ->> 'resumed_bytes')::bigint, g.bytes_copied
           FROM virtuozo_core.steps s JOIN virtuozo_core.guest_runs g ON g.id = s.guest_run_id
          WHERE s.name = 'copy' AND s.state = 'done'",
    )
    .fetch_one(site.pool())
    .await?;
    ensure!(fence == 2, "the copy was done under fence {fence}");
    ensure!(
        (8 << 20..copied).contains(&resumed),
        "{resumed} of {copied} bytes were taken over"
    );
    ensure!(guest.power()? == power, "{:?}", guest.power()?);
    ensure!(guest.snapshots()?.is_empty());
    let point = site.only_point("mail").await?;
    if power == Power::On {
        vix::stamps::check(guest.seed()?, &PointDisks::open(&point)?.sources())
            .map_err(anyhow::Error::msg)
            .context("the restore point is no single instant")?;
    }
    site.virtuozo(&["point", "verify", "--all"])?.ok()?;
    ensure!(
        site.leftovers()?.is_empty(),
        "left in the repository: {:?}",
        site.leftovers()?
    );
    site.stop()
}

#[tokio::test]
async fn a_successor_goes_on_with_a_hot_copy_while_the_snapshot_lives() -> Result<()> {
    goes_on_with_the_copy(Power::On).await
}

#[tokio::test]
async fn a_successor_goes_on_with_the_copy_of_a_guest_that_is_still_off() -> Result<()> {
    goes_on_with_the_copy(Power::Off).await
}

#[tokio::test]
async fn another_worker_takes_over_within_fifteen_seconds_by_default() -> Result<()> {
    let mut site = Site::new().await?;
    guest_to_resume(&site, Power::Off)?;
    // What a site has that changes nothing.
    let default: String = sqlx::query_scalar(
        "SELECT column_default FROM information_schema.columns
          WHERE table_schema = 'virtuozo_core' AND table_name = 'settings' AND column_name = 'lease_secs'",
    )
    .fetch_one(site.pool())
    .await?;
    site.virtuozo(&["settings", "set", "lease_secs", &default])?
        .ok()?;
    site.start(0)?;
    let (run, mut victim) = worker_at(&site, "copy.middle").await?;
    site.start_worker("successor")?;
    eventually("the successor to be there", async || {
        let there: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM virtuozo_core.workers WHERE name = 'successor')",
        )
        .fetch_one(site.pool())
        .await?;
        Ok(there.then_some(()))
    })
    .await?;
    // The worst moment: the lease has just been renewed.
    let until = || async {
        Ok::<i64, anyhow::Error>(
            sqlx::query_scalar("SELECT (extract(epoch FROM lease_until) * 1000)::bigint FROM virtuozo_core.guest_runs")
                .fetch_one(site.pool())
                .await?,
        )
    };
    let before = until().await?;
    eventually("the lease to be renewed", async || {
        Ok((until().await? != before).then_some(()))
    })
    .await?;
    victim.kill_9()?;
    let died = Instant::now();
    eventually("the successor to take over", async || {
        let fence: i64 = sqlx::query_scalar("SELECT fence FROM virtuozo_core.guest_runs")
            .fetch_one(site.pool())
            .await?;
        Ok((fence == 2).then_some(()))
    })
    .await?;
    let took = died.elapsed();
    ensure!(took < TAKE_OVER_LIMIT, "it took {took:?}");
    let shown = site.ended(&run).await?;
    ensure!(shown["state"] == "succeeded", "{shown:#}\n{}", site.logs());
    site.stop()
}
