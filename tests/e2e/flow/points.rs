//! Restore points that an administrator deletes by hand.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Answer, FAILPOINTS, MARKER, Site, eventually, pause_at, small_guest};
use vix::lab::Product;

use super::mounts::{ensure_says, mount, point_states, scan, succeeds, unmount};

/// A restore point as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Point {
    id: String,
    dir: PathBuf,
    state: String,
}

/// A site with a guest that was backed up so often, and nothing that still runs.
async fn backed_up(times: usize) -> Result<Site> {
    let mut site = Site::new().await?;
    small_guest(&site.host("alpha", Product::WorkstationShared)?, "mail")?;
    site.start(1)?;
    for _ in 0..times {
        succeeds(&site).await?;
    }
    site.stop()?;
    Ok(site)
}

/// The restore points, newest first.
fn points<const N: usize>(site: &Site) -> Result<[Point; N]> {
    let listed = site.json(&["point", "list"])?;
    let points = listed.as_array().context("no list")?.iter().map(|point| {
        let text = |field: &str| point[field].as_str().context("no text");
        Ok(Point {
            id: text("id")?.to_owned(),
            dir: Path::new(text("repository")?).join(text("path")?),
            state: text("state")?.to_owned(),
        })
    });
    let points: Vec<Point> = points.collect::<Result<_>>()?;
    let count = points.len();
    ensure!(count == N, "{count} points instead of {N}: {points:#?}");
    points.try_into().ok().context("counted")
}

/// Runs `point delete` with these arguments.
fn delete(site: &Site, args: &[&str]) -> Result<Answer> {
    site.virtuozo(&[&["point", "delete"], args].concat())
}

/// Runs `point delete --json`, which must end with this code, and returns what became of each point, and why.
fn deleted(site: &Site, args: &[&str], code: i32) -> Result<Vec<(Value, String)>> {
    let answer = delete(site, &[args, &["--json"]].concat())?;
    ensure!(answer.code == code, "{args:?}: {answer:?}");
    let lines = answer.json()?;
    let lines = lines.as_array().context("no list")?;
    Ok(lines
        .iter()
        .map(|line| {
            let why = line["why"].as_str().unwrap_or_default();
            (line["result"].clone(), why.to_owned())
        })
        .collect())
}

/// Runs both at the same time.
fn at_once(site: &Site, one: &[&str], two: &[&str]) -> Result<[Answer; 2]> {
    thread::scope(|scope| {
        let other = scope.spawn(|| delete(site, two));
        let one = delete(site, one)?;
        let two = other.join().ok().context("it panicked")??;
        Ok([one, two])
    })
}

/// The catalogue and the repository agree, and nothing is left of what was deleted.
fn ensure_tidy(site: &Site) -> Result<()> {
    ensure!(scan(site)? == (0, vec![]), "{:?}", scan(site)?);
    let left = site.leftovers()?;
    ensure!(left.is_empty(), "left in the repository: {left:?}");
    Ok(())
}

#[tokio::test]
async fn an_administrator_deletes_points_and_the_last_verified_one_only_by_force() -> Result<()> {
    let site = backed_up(5).await?;
    let all: [Point; 5] = points(&site)?;
    let ids: Vec<&str> = all.iter().map(|point| point.id.as_str()).collect();
    let [newest, fourth, third, second, oldest] = ids[..] else {
        anyhow::bail!("five");
    };

    let dry = deleted(&site, &[&ids[..], &["--dry-run"]].concat(), 1)?;
    let results: Vec<&Value> = dry.iter().map(|(result, _)| result).collect();
    let go = json!("would_go");
    ensure!(
        results == [&go, &go, &go, &go, &json!("stays")],
        "{results:?}"
    );
    let dry = deleted(&site, &[oldest, "--dry-run"], 4)?;
    ensure!(dry == [(go, String::new())], "{dry:?}");
    // One that is not there keeps the others from being touched.
    let unknown = delete(&site, &[oldest, "ffffffff"])?;
    ensure!(unknown.code == 2, "{unknown:?}");
    ensure!(points(&site)? == all && all.iter().all(|point| point.dir.is_dir()));

    // By the end of its id, and said with the name of who did it.
    let end = oldest.rsplit('-').next().context("no end")?;
    let user = Path::new("carla");
    let mut by_carla = site.spawn(
        "by-carla",
        &["point", "delete", end],
        &[("SUDO_USER", user)],
    )?;
    eventually("the deletion", async || {
        Ok((!by_carla.runs()?).then_some(()))
    })
    .await?;
    ensure_says(&by_carla.said(), &["alpha/mail", "deleted"])?;
    ensure!(points::<4>(&site)? == all[..4]);
    ensure!(!all[4].dir.exists());
    let events = site.virtuozo(&["events", "--user"])?.ok()?.stdout;
    ensure_says(
        &events,
        &[
            "guest alpha/mail: its restore point",
            "is deleted by user carla",
        ],
    )?;

    let gone = deleted(&site, &[second, third, second], 0)?;
    ensure!(
        gone == [
            (json!("deleted"), String::new()),
            (json!("deleted"), String::new())
        ],
        "{gone:?}"
    );
    ensure!(points::<2>(&site)? == all[..2]);
    ensure_tidy(&site)?;

    // Of two who take the other's cover one is refused.
    let mut codes = at_once(&site, &[newest], &[fourth])?.map(|answer| answer.code);
    codes.sort_unstable();
    ensure!(codes == [0, 1], "{codes:?}");
    let [last] = points(&site)?;
    ensure!(last.state == "published" && last.dir.is_dir(), "{last:?}");
    let refused = deleted(&site, &[&last.id], 1)?;
    ensure_says(
        &refused[0].1,
        &[
            "no other restore point of alpha/mail is verified",
            "--force",
        ],
    )?;
    let [left] = points(&site)?;
    ensure!(left == last && last.dir.is_dir(), "{left:?}");
    deleted(&site, &[&last.id, "--force"], 0)?;
    let [] = points(&site)?;
    ensure!(!last.dir.exists());
    ensure_tidy(&site)
}

#[tokio::test]
async fn a_deletion_that_was_interrupted_is_finished_by_the_next_backup_and_by_the_same_command()
-> Result<()> {
    let mut site = backed_up(4).await?;
    let [_, third, second, first]: [Point; 4] = points(&site)?;
    let begun = |point: &Point| -> Result<PathBuf> {
        let name = point.dir.file_name().context("no name")?;
        let name = format!(".deleting-{}", name.to_str().context("no text")?);
        Ok(point.dir.with_file_name(name))
    };
    // It ended between the mark and the directory ...
    let in_the_way = begun(&first)?;
    fs::write(&in_the_way, "")?;
    let result = deleted(&site, &[&first.id], 1)?;
    ensure!(result[0].0 == "unfinished", "{result:?}");
    ensure_says(&result[0].1, &["remove", "next backup"])?;
    ensure!(first.dir.is_dir());
    ensure!(point_states(&site)? == ["published", "published", "published", "deleting"]);
    ensure!(scan(&site)? == (0, vec![]), "{:?}", scan(&site)?);
    fs::remove_file(&in_the_way)?;
    // ... in the midst of the directory ...
    mark(&site, &second).await?;
    fs::rename(&second.dir, begun(&second)?)?;
    // ... and between the directory and the row.
    mark(&site, &third).await?;
    fs::remove_dir_all(&third.dir)?;

    // The same command, twice at once: who comes last may find nothing.
    for answer in at_once(&site, &[&second.id], &[&second.id])? {
        ensure!([0, 2].contains(&answer.code), "{answer:?}");
    }
    ensure!(point_states(&site)? == ["published", "deleting", "deleting"]);
    ensure!(!begun(&second)?.exists());

    site.start(1)?;
    succeeds(&site).await?;
    // Retention is over when the worker has ended.
    site.stop()?;
    ensure!(point_states(&site)? == ["published", "published"]);
    ensure!(!first.dir.exists());
    ensure_tidy(&site)
}

/// As `point delete` does first.
async fn mark(site: &Site, point: &Point) -> Result<()> {
    let marked =
        sqlx::query("SELECT virtuozo_core.begin_delete($1::uuid, 1, false)").bind(&point.id);
    marked.execute(site.pool()).await?;
    Ok(())
}

#[tokio::test]
async fn in_a_repository_that_is_not_mounted_points_are_forgotten_if_wanted_but_never_deleted()
-> Result<()> {
    let site = backed_up(2).await?;
    let [newer, older]: [Point; 2] = points(&site)?;
    let aside = site.path("aside");
    let refused = deleted(&site, &[&older.id, "--forget"], 1)?;
    ensure_says(&refused[0].1, &["is there", "without --forget"])?;

    unmount(&site, &aside)?;
    let refused = deleted(&site, &[&older.id, "--force"], 1)?;
    ensure!(refused[0].0 == "stays", "{refused:?}");
    ensure_says(&refused[0].1, &["is missing", "Mount it", "--forget"])?;
    let other = "{\"format_version\":1,\"id\":\"0199aaaa-0000-7000-8000-00000000beef\"}\n";
    fs::write(site.repository().join(MARKER), other)?;
    let refused = deleted(&site, &[&older.id, "--force"], 1)?;
    ensure_says(&refused[0].1, &["0199aaaa-0000-7000-8000-00000000beef"])?;
    fs::remove_file(site.repository().join(MARKER))?;
    ensure!(point_states(&site)? == ["published", "published"]);

    let done = deleted(&site, &[&older.id, &newer.id, "--forget"], 1)?;
    let results: Vec<&Value> = done.iter().map(|(result, _)| result).collect();
    ensure!(results == ["forgotten", "stays"], "{done:?}");
    ensure_says(&done[1].1, &["--force"])?;
    let [left] = points(&site)?;
    ensure!(left == newer, "{left:?}");
    deleted(&site, &[&newer.id, "--forget", "--force"], 0)?;
    let [] = points(&site)?;
    let events = site.virtuozo(&["events", "--user"])?.ok()?.stdout;
    ensure_says(&events, &["is forgotten by user"])?;

    // No file was touched: should it come back after all, a scan finds them.
    mount(&site, &aside)?;
    let (_, found) = scan(&site)?;
    ensure!(found == ["recorded", "recorded"], "{found:?}");
    ensure!(points::<2>(&site)? == [newer, older]);
    site.virtuozo(&["point", "verify", "--all"])?.ok()?;
    Ok(())
}

#[tokio::test]
async fn retention_does_not_count_on_a_point_that_somebody_deletes_just_then() -> Result<()> {
    let mut site = backed_up(2).await?;
    site.virtuozo(&["settings", "set", "keep_last", "2"])?
        .ok()?;
    let before: [Point; 2] = points(&site)?;
    site.start(0)?;
    let reached = site.path("reached");
    let pause = pause_at("publish.recorded", &reached);
    let mut worker = site.spawn(
        "worker",
        &["worker", "--name", "worker"],
        &[(FAILPOINTS, &pause)],
    )?;
    let run = site.start_run()?;
    eventually("the point to be published", async || {
        Ok(reached.exists().then_some(()))
    })
    .await?;
    // The worker knows of three points now, so the oldest would go.
    let [newest, ..]: [Point; 3] = points(&site)?;
    deleted(&site, &[&newest.id], 0)?;
    fs::remove_file(&reached)?;
    let run = site.ended(&run).await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    // Retention is over when the worker has ended.
    worker.terminate()?;
    site.stop()?;
    ensure!(points(&site)? == before && before.iter().all(|point| point.dir.is_dir()));
    ensure_tidy(&site)
}
