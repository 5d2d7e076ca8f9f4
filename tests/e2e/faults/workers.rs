//! Workers that are drained, that start together, that are of two versions, and one that a job kills.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tests::{Background, FAILPOINTS, Site, eventually, pause_at, small_guest};
use virtuozo_postgres::testing::TestDb;
use vix::lab::Product;

use super::count;

/// Waits until a process has ended and insists that it ended well.
async fn ends(process: &mut Background) -> Result<()> {
    eventually("the process to end", async || {
        Ok((!process.runs()?).then_some(()))
    })
    .await
    .with_context(|| process.said())?;
    ensure!(
        process.said().contains("worker has stopped"),
        "{}",
        process.said()
    );
    Ok(())
}

/// A worker in the middle of a copy, the run that it copies for, and the file that holds it there until it is
/// removed.
async fn in_mid_copy(site: &Site, name: &str) -> Result<(Background, String, PathBuf)> {
    held_at(site, name, "copy.middle").await
}

/// A worker that stands still at a place, the run that it works on, and the file that holds it there.
async fn held_at(site: &Site, name: &str, place: &str) -> Result<(Background, String, PathBuf)> {
    let held = site.path("held");
    let worker = site.spawn(
        name,
        &["worker", "--name", name],
        &[(FAILPOINTS, &pause_at(place, &held))],
    )?;
    let run = site.start_run()?;
    eventually(&format!("the worker to come to {place}"), async || {
        Ok(held.exists().then_some(()))
    })
    .await
    .with_context(|| worker.said())?;
    Ok((worker, run, held))
}

#[tokio::test]
async fn a_drained_worker_ends_by_itself_and_its_work_is_done_by_another() -> Result<()> {
    let mut site = Site::new().await?;
    small_guest(&site.host("alpha", Product::WorkstationShared)?, "mail")?;
    site.start(0)?;
    let (mut drained, run, held) = held_at(&site, "drained", "snapshot.effect").await?;
    site.virtuozo(&["worker", "drain", "drained"])?.ok()?;
    eventually("the worker to hear of it", async || {
        Ok(drained
            .said()
            .contains("an operator has requested")
            .then_some(()))
    })
    .await?;
    let listed = site.json(&["worker", "list"])?;
    ensure!(listed[0]["drain_requested"] == true, "{listed:#}");
    // While it brings its work to an end it is alive for all to see.
    let sign = "SELECT extract(epoch FROM heartbeat_at)::bigint FROM virtuozo_core.workers WHERE name = 'drained'";
    let before = count(site.pool(), sign).await?;
    eventually("a sign of life of the draining worker", async || {
        Ok((count(site.pool(), sign).await? > before).then_some(()))
    })
    .await?;
    std::fs::remove_file(&held)?;
    ends(&mut drained).await?;

    site.start_worker("successor")?;
    let shown = site.ended(&run).await?;
    ensure!(shown["state"] == "succeeded", "{shown:#}\n{}", site.logs());
    let guest_run = &shown["guest_runs"][0];
    ensure!(
        guest_run["attempts"] == 0 && guest_run["crashes"] == 0,
        "handing over counts neither as an attempt nor as a crash: {guest_run:#}"
    );
    site.nothing_to_undo().await?;
    site.stop()
}

#[tokio::test]
async fn draining_a_worker_that_does_not_run_is_refused() -> Result<()> {
    let site = Site::new().await?;
    let answer = site.virtuozo(&["worker", "drain", "nobody"])?;
    ensure!(
        answer.code != 0 && answer.stderr.contains("no running worker \"nobody\""),
        "{answer:?}"
    );
    Ok(())
}

#[tokio::test]
async fn processes_that_start_together_on_an_empty_database_migrate_it_once() -> Result<()> {
    let site = Site::new().await?;
    let empty = TestDb::empty().await;
    let mut processes = Vec::new();
    for n in 1..=6 {
        let args: &[&str] = if n % 2 == 0 {
            &["scheduler"]
        } else {
            &["worker"]
        };
        processes.push(site.spawn(
            &format!("process-{n}"),
            args,
            &[("DATABASE_URL", empty.url().as_ref())],
        )?);
    }
    eventually("all six to have entered themselves", async || {
        let table: Option<String> =
            sqlx::query_scalar("SELECT to_regclass('virtuozo_core.workers')::text")
                .fetch_one(&empty.pool)
                .await?;
        if table.is_none() {
            return Ok(None);
        }
        let entered: i64 = sqlx::query_scalar("SELECT count(*) FROM virtuozo_core.workers")
            .fetch_one(&empty.pool)
            .await?;
        Ok((entered == 6).then_some(()))
    })
    .await
    .with_context(|| processes.iter().map(Background::said).collect::<String>())?;
    for process in &mut processes {
        process.terminate()?;
    }
    Ok(())
}

/// What a later version may do to the schema (migrations/README.md): add, never take away.
const LATER_VERSION: &str = "
    ALTER TABLE virtuozo_core.guest_runs ADD COLUMN later_a text, ADD COLUMN later_b integer NOT NULL DEFAULT 7;
    ALTER TABLE virtuozo_core.host_runs ADD COLUMN later_a text;
    ALTER TABLE virtuozo_core.runs ADD COLUMN later_a text;
    ALTER TABLE virtuozo_core.settings ADD COLUMN later_a integer NOT NULL DEFAULT 1;
    ALTER TABLE virtuozo_core.hosts ADD COLUMN later_a text;
    ALTER TABLE virtuozo_core.guests ADD COLUMN later_a text;
    ALTER TABLE virtuozo_core.disks ADD COLUMN later_a text;
    ALTER TABLE virtuozo_core.steps ADD COLUMN later_a jsonb;
    ALTER TABLE virtuozo_core.obligations ADD COLUMN later_a text;
    ALTER TABLE virtuozo_core.restore_points ADD COLUMN later_a text;
    ALTER TABLE virtuozo_core.workers ADD COLUMN later_a text;
    CREATE TABLE virtuozo_core.later (id uuid PRIMARY KEY, guest_run_id uuid REFERENCES virtuozo_core.guest_runs ON DELETE CASCADE);
    INSERT INTO public._sqlx_migrations (version, description, success, checksum, execution_time)
    VALUES (99991231235959, 'of a later version', true, '\\x00', 0);
";

#[tokio::test]
async fn a_worker_goes_on_while_a_later_version_expands_the_schema_and_one_starts_after_it()
-> Result<()> {
    let mut site = Site::new().await?;
    small_guest(&site.host("alpha", Product::WorkstationShared)?, "mail")?;
    site.start(0)?;
    let (mut before, run, held) = in_mid_copy(&site, "before").await?;
    sqlx::raw_sql(LATER_VERSION).execute(site.pool()).await?;
    std::fs::remove_file(&held)?;
    let shown = site.ended(&run).await?;
    ensure!(
        shown["state"] == "succeeded",
        "{shown:#}\n{}",
        before.said()
    );
    before.terminate()?;
    site.start_worker("after")?;
    let shown = site.back_up().await?;
    ensure!(shown["state"] == "succeeded", "{shown:#}\n{}", site.logs());
    site.virtuozo(&["status"])?.ok()?;
    site.stop()
}

#[tokio::test]
async fn a_guest_that_kills_its_workers_is_given_up_and_holds_up_no_other() -> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    small_guest(&host, "poison")?;
    site.virtuozo(&["settings", "set", "guest_threads", "1"])?
        .ok()?;
    site.start(0)?;
    let run = site.start_run()?;
    for crash in 1..=3 {
        let held = site.path(&format!("held-{crash}"));
        let mut victim = site.spawn(
            &format!("victim-{crash}"),
            &["worker", "--name", "victim"],
            &[(FAILPOINTS, &pause_at("copy.middle", &held))],
        )?;
        eventually("the job to be about to kill its worker", async || {
            Ok(held.exists().then_some(()))
        })
        .await
        .with_context(|| victim.said())?;
        victim.kill_9()?;
    }
    let shown = site.ended(&run).await?;
    let poison = &shown["guest_runs"][0];
    ensure!(
        shown["state"] == "failed" && poison["state"] == "failed" && poison["crashes"] == 3,
        "{shown:#}"
    );
    ensure!(
        poison["error"]
            .as_str()
            .is_some_and(|error| error.contains("3 of at most 3 times")),
        "{poison:#}"
    );
    // The next worker meets its obligation, and the slot is free again.
    small_guest(&host, "mail")?;
    site.start_worker("healthy")?;
    site.nothing_to_undo().await?;
    let again = site.back_up().await?;
    ensure!(again["state"] == "succeeded", "{again:#}\n{}", site.logs());
    let slots = "SELECT count(*) FROM virtuozo_core.guest_slots WHERE guest_run_id IS NOT NULL";
    ensure!(count(site.pool(), slots).await? == 0, "a slot is leaked");
    site.stop()
}
