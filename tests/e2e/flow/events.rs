//! `virtuozo events`: what happened, and what happens while somebody watches.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{
    Background, Site, eventually,
    outage::{Apart, Way},
    small_guest,
};
use vix::lab::Product;

async fn happen(site: &Site, code: i32, message: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO virtuozo_core.events (code, severity, message) VALUES ($1, 'info', $2)",
    )
    .bind(code)
    .bind(message)
    .execute(site.pool())
    .await?;
    Ok(())
}

fn messages(events: &Value) -> Vec<&str> {
    let events = events.as_array().into_iter().flatten();
    events
        .filter_map(|event| event["message"].as_str())
        .collect()
}

#[tokio::test]
async fn events_are_listed_oldest_first_by_run_host_guest_and_kind() -> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    small_guest(&host, "mail")?;
    small_guest(&host, "web")?;
    site.start(1)?;
    let run = site.back_up().await?;
    happen(&site, 100, "of nobody").await?;
    let all = site.json(&["events"])?;
    let ids: Vec<_> = all
        .as_array()
        .context("no list")?
        .iter()
        .filter_map(|event| event["id"].as_i64())
        .collect();
    ensure!(ids.is_sorted() && ids.len() > 4, "{all:#}");
    ensure!(messages(&all).last() == Some(&"of nobody"), "{all:#}");
    ensure!(messages(&site.json(&["events", "--limit", "1"])?) == ["of nobody"]);

    let of_run = site.json(&["events", "--run", "latest"])?;
    ensure!(!messages(&of_run).is_empty());
    for event in of_run.as_array().into_iter().flatten() {
        ensure!(
            event["run_id"] == run["id"] && event["trace_id"] == run["trace_id"],
            "{event:#}"
        );
    }
    let of_user = site.json(&["events", "--user", "--host", "alpha"])?;
    ensure!(messages(&of_user).len() >= 2);
    for event in of_user.as_array().into_iter().flatten() {
        ensure!(
            event["code"] == 200 && event["host"] == "alpha",
            "{event:#}"
        );
    }
    let of_guest = site.json(&["events", "--guest", "alpha/mail"])?;
    ensure!(!messages(&of_guest).is_empty());
    for event in of_guest.as_array().into_iter().flatten() {
        ensure!(event["guest"] == "mail", "{event:#}");
    }
    let text = site
        .virtuozo(&["events", "--guest", "alpha/mail"])?
        .ok()?
        .stdout;
    ensure!(
        text.contains("alpha/mail") && !text.contains("alpha/web"),
        "{text}"
    );
    for wrong in [
        ["--host", "nobody"],
        ["--guest", "alpha/nobody"],
        ["--run", "ffffffff"],
    ] {
        let answer = site.virtuozo(&["events", wrong[0], wrong[1]])?;
        ensure!(answer.code == 2, "{answer:?}");
    }
    site.stop()
}

/// The messages that a process has printed so far as JSON lines, besides what it said to people.
fn followed(process: &Background) -> Result<Vec<String>> {
    let said = process.said();
    let (whole, _) = said.rsplit_once('\n').unwrap_or_default();
    let lines = whole.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| {
            let event: Value = serde_json::from_str(line)?;
            Ok(event["message"].as_str().context("no message")?.to_owned())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_is_told_each_event_once_also_over_an_outage() -> Result<()> {
    let mut apart = Apart::new(Way::Refused).await?;
    for message in ["one", "two"] {
        happen(&apart.site, 200, message).await?;
    }
    let process = apart.spawn(
        &["events", "--follow", "--json", "--user", "--limit", "1"],
        &[],
    )?;
    let told = async |expected: &[&str]| {
        eventually("events to be told", async || {
            let told = followed(&process)?;
            ensure!(told.len() <= expected.len(), "{told:?}");
            Ok((told == expected).then_some(()))
        })
        .await
        .with_context(|| process.said())
    };
    told(&["two"]).await?;
    happen(&apart.site, 50, "not for users").await?;
    let mut late = apart.site.pool().begin().await?;
    sqlx::query(
        "INSERT INTO virtuozo_core.events (code, severity, message) VALUES (200, 'info', 'late')",
    )
    .execute(&mut *late)
    .await?;
    happen(&apart.site, 200, "three").await?;
    told(&["two", "three"]).await?;
    late.commit().await?;
    told(&["two", "three", "late"]).await?;
    apart.cut(Way::Refused).await?;
    eventually("the outage to be said", async || {
        Ok(process.said().contains("still watching").then_some(()))
    })
    .await?;
    happen(&apart.site, 200, "meanwhile").await?;
    apart.mend().await?;
    told(&["two", "three", "late", "meanwhile"]).await?;
    let said = process.said();
    ensure!(said.matches("still watching").count() == 1, "{said}");
    ensure!(said.contains("answers again"), "{said}");
    Ok(())
}
