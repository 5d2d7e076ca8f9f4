//! What an administrator sees on a bad night, and can do about it.

use anyhow::{Context, Result, ensure};
use tests::{Site, eventually};

/// Runs SQL of a test's own.
async fn execute(site: &Site, sql: &'static str) -> Result<()> {
    sqlx::raw_sql(sql).execute(site.pool()).await?;
    Ok(())
}

/// What `doctor` says about one thing, and whether that is good.
fn doctor(site: &Site, what: &str) -> Result<(bool, String)> {
    let checks = site.virtuozo(&["doctor", "--json"])?.json()?;
    let checks = checks.as_array().context("no list")?;
    let check = checks.iter().find(|check| check["what"] == what);
    let check = check.with_context(|| format!("nothing about {what}: {checks:?}"))?;
    let found = check["found"].as_str().context("no text")?.to_owned();
    Ok((check["ok"] == true, found))
}

#[tokio::test]
async fn doctor_names_who_died_until_another_takes_their_place_and_who_leads() -> Result<()> {
    let mut site = Site::new().await?;
    site.start(1)?;
    let mut rack2 = site.spawn("rack2", &["worker", "--name", "rack2"], &[])?;
    let all_there = async || {
        let (good, found) = doctor(&site, "processes")?;
        let all = ["worker-1", "rack2", "(leads)"];
        Ok((good && all.iter().all(|name| found.contains(name))).then_some(()))
    };
    eventually("all processes to be there", all_there).await?;

    rack2.kill_9()?;
    // As it is a minute later.
    execute(
        &site,
        "UPDATE virtuozo_core.workers SET started_at = now() - interval '2 minutes', heartbeat_at = now() - interval '1 minute'
          WHERE name = 'rack2'",
    )
    .await?;
    let (good, found) = doctor(&site, "processes")?;
    ensure!(!good, "{found}");
    for word in [
        "worker rack2",
        "not there any more",
        "last heard of at",
        "start it again",
    ] {
        ensure!(found.contains(word), "{word}: {found}");
    }
    ensure!(!found.contains("worker-1"), "{found}");
    let status = site.virtuozo(&["status"])?.ok()?.stdout;
    let line = |name: &str| status.lines().find(|line| line.contains(name));
    let rack2_line = line("worker rack2").context("no line of rack2")?;
    ensure!(rack2_line.contains("GONE, last heard of"), "{rack2_line}");
    let leader = line("up, leads").context("nobody leads")?;
    ensure!(leader.starts_with("scheduler"), "{leader}");

    let _rack2 = site.spawn("rack2-again", &["worker", "--name", "rack2"], &[])?;
    eventually("rack2 to be replaced", all_there).await?;
    site.stop()
}
