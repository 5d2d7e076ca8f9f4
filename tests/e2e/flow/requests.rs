//! What is asked of a host is done by a worker of the fleet, or by the machine that asks.

use std::fs;

use anyhow::{Context, Result, ensure};
use tests::{Site, eventually, small_guest};
use vix::lab::Product;

/// Until a worker has entered itself and serves hosts.
async fn served(site: &Site) -> Result<()> {
    eventually("a worker to serve hosts", async || {
        let workers = site.json(&["worker", "list"])?;
        Ok(workers
            .to_string()
            .contains("\"is_served\":true")
            .then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_worker_asks_the_host_for_whoever_needs_no_key_library_or_datastore_for_that()
-> Result<()> {
    let mut site = Site::new().await?;
    let alpha = site.host("alpha", Product::Server2)?;
    small_guest(&alpha, "mail")?;

    let alone = site.virtuozo(&["host", "test", "alpha"])?;
    ensure!(
        alone.code == 1
            && alone.stderr.contains("no worker is running")
            && alone.stderr.contains("--local"),
        "{alone:?}"
    );
    let here = site.json(&["host", "test", "alpha", "--local"])?;
    ensure!(here["worker"].is_null() && here["guests"] == 1, "{here:#}");

    site.start(1)?;
    served(&site).await?;
    let elsewhere = [
        "--key-file",
        "/absent/key",
        "--vix-library",
        "/absent/libvix.so",
    ];
    let ask = |args: &[&str]| site.virtuozo(&[&elsewhere, args].concat());
    let tested = ask(&["host", "test", "alpha", "--json"])?.ok()?.json()?;
    let worker = tested["worker"].as_str().context("no worker")?;
    ensure!(worker.starts_with("worker-1 on "), "{worker}");
    for field in ["ok", "back_end", "guests", "datastores", "warnings"] {
        ensure!(tested[field] == here[field], "{field}: {tested:#} {here:#}");
    }
    let said = ask(&["host", "test", "alpha"])?.ok()?.stdout;
    ensure!(
        said.contains("host alpha answers") && said.contains("asked by worker worker-1 on"),
        "{said}"
    );
    let checked = ask(&["host", "check", "--json"])?.ok()?.json()?;
    ensure!(
        checked["guests"][0]["state"] == "ok" && checked["failures"] == serde_json::json!({}),
        "{checked:#}"
    );
    let by = checked["workers"]["alpha"].as_str().context("no worker")?;
    ensure!(by.starts_with("worker-1 on "), "{checked:#}");
    site.stop()
}

#[tokio::test]
async fn what_the_host_says_is_said_with_the_same_words_and_exit_code_as_from_here() -> Result<()> {
    let mut site = Site::new().await?;
    site.host("alpha", Product::Esxi)?;
    site.start(1)?;
    served(&site).await?;
    let rule = r#"{"function": "VixHost_Connect", "object": "alpha", "error": 18000}"#;
    fs::write(site.faults(), format!("{rule}\n"))?;
    for command in ["test", "check"] {
        let here = site.virtuozo(&["host", command, "alpha", "--local"])?;
        let there = site.virtuozo(&["host", command, "alpha"])?;
        ensure!(here.code == 1 && there.code == 1, "{here:?} {there:?}");
        let last = |text: &str| text.lines().last().map(str::to_owned);
        ensure!(
            last(&here.stderr) == last(&there.stderr) && here.stderr.contains("18000"),
            "{here:?} {there:?}"
        );
    }
    site.stop()
}

/// Until a worker has taken what is asked.
async fn taken(site: &Site) -> Result<()> {
    eventually("a worker to take the request", async || {
        let sql = "SELECT EXISTS (SELECT 1 FROM virtuozo_core.requests WHERE state = 'running')";
        let taken: bool = sqlx::query_scalar(sql).fetch_one(site.pool()).await?;
        Ok(taken.then_some(()))
    })
    .await
}

async fn states(site: &Site) -> Result<Vec<String>> {
    let sql = "SELECT state FROM virtuozo_core.requests ORDER BY asked_at";
    Ok(sqlx::query_scalar(sql).fetch_all(site.pool()).await?)
}

#[tokio::test]
async fn who_waits_too_long_or_is_stopped_leaves_nothing_and_a_killed_worker_is_followed()
-> Result<()> {
    let mut site = Site::new().await?;
    site.host("alpha", Product::Esxi)?;
    site.virtuozo(&["settings", "set", "lease_secs", "2"])?
        .ok()?;
    site.start_scheduler("scheduler")?;
    let mut first = site.spawn("first", &["worker", "--name", "first"], &[])?;
    served(&site).await?;
    let rule = r#"{"function": "VixHost_Connect", "object": "alpha", "hang": true}"#;
    fs::write(site.faults(), format!("{rule}\n"))?;

    let late = site.virtuozo(&["host", "test", "alpha", "--timeout", "2"])?;
    ensure!(
        late.code == 1
            && late.stderr.contains("no answer within 2 s")
            && late.stderr.contains("worker first on "),
        "{late:?}"
    );
    ensure!(
        states(&site).await? == ["cancelled"],
        "{:?}",
        states(&site).await?
    );

    let mut stopped = site.spawn("stopped", &["host", "test", "alpha"], &[])?;
    taken(&site).await?;
    stopped.signal("INT")?;
    eventually("the command to end", async || {
        Ok((!stopped.runs()?).then_some(()))
    })
    .await?;
    ensure!(
        states(&site).await? == ["cancelled", "cancelled"],
        "{:?}",
        states(&site).await?
    );

    let mut asker = site.spawn("asker", &["host", "test", "alpha"], &[])?;
    taken(&site).await?;
    fs::write(site.faults(), "")?;
    site.start_worker("second")?;
    first.kill_9()?;
    eventually("the command to end", async || {
        Ok((!asker.runs()?).then_some(()))
    })
    .await?;
    ensure!(
        asker.said().contains("asked by worker second on "),
        "{}",
        asker.said()
    );
    site.stop()
}
