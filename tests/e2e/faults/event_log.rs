//! Every event reaches the log of the machine, also when the lead moves or the log is away.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use anyhow::{Context, Result, ensure};
use sqlx::PgPool;
use tests::{Background, Journal, Site, eventually, small_guest};
use vix::lab::Product;

/// Starts a scheduler whose log of the machine is `log`.
fn scheduler(site: &Site, name: &str, log: &str, journal: &Journal) -> Result<Background> {
    let mut value = OsString::from(format!("{log}:"));
    value.push(journal.path());
    let env = [("VIRTUOZO_EVENT_LOG", Path::new(&value))];
    site.spawn(name, &["scheduler"], &env)
}

async fn ids(pool: &PgPool) -> Result<Vec<i64>> {
    let sql = "SELECT id FROM virtuozo_core.events ORDER BY id";
    Ok(sqlx::query_scalar(sql).fetch_all(pool).await?)
}

/// Adds events as some transaction does, and one more with an early number that is committed only by the caller.
async fn happen(pool: &PgPool, count: i32) -> Result<()> {
    sqlx::query(
        "INSERT INTO virtuozo_core.events (code, severity, message)
         SELECT 200, 'info', 'event ' || n FROM generate_series(1, $1) n",
    )
    .bind(count)
    .execute(pool)
    .await?;
    Ok(())
}

/// How often each event was told.
fn told(journal: &mut Journal) -> Result<BTreeMap<i64, usize>> {
    let mut told = BTreeMap::new();
    for entry in journal.entries()? {
        let id = entry.get("VIRTUOZO_EVENT").context("no number")?.parse()?;
        *told.entry(id).or_default() += 1;
    }
    Ok(told)
}

/// Waits until every event was told, and returns how often each was.
async fn all_told(pool: &PgPool, journal: &mut Journal) -> Result<BTreeMap<i64, usize>> {
    eventually("every event to be told", async || {
        let told = told(journal)?;
        let missing = ids(pool).await?.iter().any(|id| !told.contains_key(id));
        Ok((!missing).then_some(told))
    })
    .await
}

#[tokio::test]
async fn every_event_reaches_journald_once_with_what_it_is_about() -> Result<()> {
    let mut site = Site::new().await?;
    small_guest(&site.host("alpha", Product::WorkstationShared)?, "mail")?;
    let mut journal = Journal::listen(site.path("journal"))?;
    let mut process = scheduler(&site, "scheduler", "journald", &journal)?;
    Journal::looked_after(site.pool()).await?;
    sqlx::query("DELETE FROM virtuozo_core.events")
        .execute(site.pool())
        .await?;
    site.start_worker("worker")?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    // What a function of the operators tells, and a message of two lines.
    sqlx::raw_sql(
        "SELECT virtuozo.pause('alpha');
         INSERT INTO virtuozo_core.events (code, severity, message) VALUES (200, 'error', E'one\\ntwo')",
    )
    .execute(site.pool())
    .await?;
    let told = all_told(site.pool(), &mut journal).await?;
    process.terminate()?;
    ensure!(told.values().all(|times| *times == 1), "{told:?}");
    let (entries, rows) = (
        journal.entries()?,
        site.json(&["events", "--limit", "999"])?,
    );
    let rows = rows.as_array().context("no list")?;
    ensure!(
        entries.len() == rows.len() && rows.len() >= 4,
        "{entries:#?}"
    );
    let of_user: Vec<&str> = rows
        .iter()
        .filter(|row| row["code"] == 200)
        .filter_map(|row| row["severity"].as_str())
        .collect();
    ensure!(
        of_user.contains(&"warning") && of_user.contains(&"info"),
        "{rows:#?}"
    );
    for row in rows {
        let id = row["id"].to_string();
        let entry = entries.iter().find(|one| one["VIRTUOZO_EVENT"] == id);
        let entry = entry.context("an event was not told")?;
        let field = |name: &str| entry.get(name).map(String::as_str);
        ensure!(field("MESSAGE") == row["message"].as_str(), "{entry:?}");
        ensure!(
            field("EVENT_ID") == Some(&row["code"].to_string()),
            "{entry:?}"
        );
        let priority = match (row["code"].as_i64(), row["severity"].as_str()) {
            (Some(200), Some("error")) => "3",
            (Some(200), Some("warning")) => "4",
            (Some(200), Some("info")) => "6",
            _ => "7",
        };
        ensure!(field("PRIORITY") == Some(priority), "{entry:?}");
        ensure!(field("SYSLOG_IDENTIFIER") == Some("virtuozo"), "{entry:?}");
        for (name, column) in [
            ("VIRTUOZO_RUN", "run_id"),
            ("VIRTUOZO_HOST", "host"),
            ("VIRTUOZO_GUEST", "guest"),
            ("VIRTUOZO_GUEST_RUN", "guest_run_id"),
            ("TRACE_ID", "trace_id"),
        ] {
            ensure!(
                field(name) == row[column].as_str(),
                "{name}: {entry:?} for {row}"
            );
        }
        let of_run = row["run_id"].as_str();
        ensure!(
            of_run.is_none() || row["trace_id"] == run["trace_id"],
            "{row}"
        );
    }
    ensure!(
        rows.iter().any(|row| !row["trace_id"].is_null()),
        "{rows:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn when_the_lead_moves_no_event_is_left_out() -> Result<()> {
    let site = Site::new().await?;
    let mut journal = Journal::listen(site.path("journal"))?;
    let mut first = scheduler(&site, "first", "journald", &journal)?;
    Journal::looked_after(site.pool()).await?;
    let second = scheduler(&site, "second", "journald", &journal)?;
    // Its number is early, its end late.
    let mut late = site.pool().begin().await?;
    sqlx::query(
        "INSERT INTO virtuozo_core.events (code, severity, message) VALUES (50, 'info', 'late')",
    )
    .execute(&mut *late)
    .await?;
    happen(site.pool(), 1000).await?;
    eventually("some to be told", async || {
        Ok((told(&mut journal)?.len() > 100).then_some(()))
    })
    .await?;
    first.kill_9()?;
    happen(site.pool(), 100).await?;
    late.commit().await?;
    let told = all_told(site.pool(), &mut journal).await?;
    // At most what was told and not written down when the first one died.
    let twice = told.values().filter(|times| **times > 1).count();
    ensure!(twice <= 200, "{twice} events were told more than once");
    let last: Vec<_> = told.iter().rev().take(50).collect();
    ensure!(last.iter().all(|(_, times)| **times == 1), "{last:?}");
    drop(second);
    Ok(())
}

#[tokio::test]
async fn a_syslog_that_is_away_holds_up_nothing_and_is_told_all_when_it_is_back() -> Result<()> {
    let site = Site::new().await?;
    let mut log = Journal::listen(site.path("log"))?;
    let mut process = scheduler(&site, "scheduler", "syslog", &log)?;
    Journal::looked_after(site.pool()).await?;
    happen(site.pool(), 3).await?;
    eventually("the first three", async || {
        Ok((log.heard().len() == 3).then_some(()))
    })
    .await?;
    log.go_away()?;
    happen(site.pool(), 5).await?;
    eventually("it to be said", async || {
        Ok(process
            .said()
            .contains("does not take events")
            .then_some(()))
    })
    .await?;
    // It does its work, as if nothing were.
    small_guest(&site.host("alpha", Product::WorkstationShared)?, "mail")?;
    site.add_missed_schedule().await?;
    eventually("the run that is due", async || {
        let runs = super::count(site.pool(), "SELECT count(*) FROM virtuozo_core.runs").await?;
        Ok((runs > 0).then_some(()))
    })
    .await?;
    log.listen_again()?;
    let expected = ids(site.pool()).await?.len();
    eventually("the rest", async || {
        Ok((log.heard().len() >= expected).then_some(()))
    })
    .await?;
    process.terminate()?;
    let said = process.said();
    ensure!(said.matches("does not take events").count() == 1, "{said}");
    ensure!(said.contains("takes events again"), "{said}");
    let lines: Vec<String> = log
        .heard()
        .iter()
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    for id in ids(site.pool()).await? {
        let mark = format!("VIRTUOZO_EVENT={id}");
        let of_it = |line: &&String| line.split([' ', ']']).any(|word| word == mark);
        let count = lines.iter().filter(of_it).count();
        ensure!(count == 1, "event {id} was told {count} times: {lines:#?}");
    }
    ensure!(
        lines[0].starts_with("<30>") && lines[0].contains(" virtuozo["),
        "{lines:#?}"
    );
    Ok(())
}
