//! What attempts leave behind in a repository, and how an administrator gets rid of it.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{FAILPOINTS, Site, eventually, pause_at, small_guest};
use vix::lab::Product;

/// A directory of an attempt, with one file in it, last written to so long ago.
fn attempt(dir: &Path, age: Duration) -> Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join("disk.vmdk"), vec![7; 64 << 10])?;
    grow_old(dir, age)
}

fn grow_old(dir: &Path, age: Duration) -> Result<()> {
    let then = SystemTime::now() - age;
    for entry in fs::read_dir(dir)? {
        fs::File::open(entry?.path())?.set_modified(then)?;
    }
    Ok(fs::File::open(dir)?.set_modified(then)?)
}

/// What a scan says about these directories, in this order.
fn findings(scanned: &Value, dirs: &[&Path]) -> Result<Vec<String>> {
    let lines = scanned["findings"].as_array().context("no findings")?;
    dirs.iter()
        .map(|dir| {
            let of_dir = |line: &&Value| line["dir"].as_str().map(Path::new) == Some(*dir);
            let line = lines.iter().find(of_dir).context("not found")?;
            Ok(line["finding"].as_str().context("no finding")?.to_owned())
        })
        .collect()
}

#[tokio::test]
async fn a_scan_removes_what_attempts_have_left_if_it_is_old_and_no_run_goes_on_with_it()
-> Result<()> {
    const DAYS: Duration = Duration::from_secs(3 * 24 * 3600);
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    small_guest(&host, "mail")?;
    site.start(0)?;
    let reached = site.path("reached");
    let pause = pause_at("copy.middle", &reached);
    let mut worker = site.spawn(
        "worker",
        &["worker", "--name", "worker"],
        &[(FAILPOINTS, &pause)],
    )?;
    let run = site.start_run()?;
    eventually("the copy to begin", async || {
        Ok(reached.exists().then_some(()))
    })
    .await?;

    let of_guest = site.repository().join("alpha/mail");
    let (at_work, fence) = sqlx::query_as::<_, (String, i64)>(
        "SELECT replace(id::text, '-', ''), fence FROM virtuozo_core.guest_runs",
    )
    .fetch_one(site.pool())
    .await?;
    let at_work = of_guest.join(format!(".partial-{at_work}-f{fence}"));
    grow_old(&at_work, DAYS)?;
    let run_id = "0199f0c0000070008000000000000001";
    let unknown = site
        .repository()
        .join(format!("alpha/renamed/.partial-{run_id}-f2"));
    let young = of_guest.join(format!(".partial-{run_id}-f3"));
    let deleting = of_guest.join(".deleting-20260301T220000Z-5f2c81aa-f1");
    attempt(&unknown, DAYS)?;
    attempt(&young, Duration::from_secs(3600))?;
    attempt(&deleting, DAYS)?;

    let all: [&Path; 4] = [&at_work, &unknown, &young, &deleting];
    let scanned = site.json(&["repository", "scan"])?;
    ensure!(
        findings(&scanned, &all)? == ["unfinished"; 4],
        "{scanned:#}"
    );
    let text = scanned.to_string();
    for part in [
        "of a guest run that goes on, ",
        "of a guest run that the database does not know, 6",
        " KiB, last written to ",
        "a deletion that was begun, ",
    ] {
        ensure!(text.contains(part), "{part:?} is not in {scanned:#}");
    }
    let remove = ["repository", "scan", "--remove-unfinished"];
    let dry = site.virtuozo(&[&remove[..], &["--dry-run"]].concat())?;
    ensure!(dry.code == 4, "{dry:?}");
    ensure!(
        all.iter().all(|dir| dir.exists()),
        "a dry run removes nothing"
    );
    let scanned = site.json(&remove)?;
    ensure!(
        findings(&scanned, &all)? == ["unfinished", "removed", "unfinished", "removed"],
        "{scanned:#}"
    );
    ensure!(at_work.exists() && young.exists() && !unknown.exists() && !deleting.exists());

    fs::remove_file(&reached)?;
    let run = site.ended(&run).await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    worker.terminate()?;
    site.virtuozo(&["point", "verify", "--all"])?.ok()?;
    site.stop()
}
