//! A repository that is not mounted is not a repository: nothing is written to what lies at its place instead,
//! deleted from it, or judged by it.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{MARKER, Site, small_guest};
use vix::lab::Product;

/// A site with a guest that was backed up once, and a worker that knows the repository.
async fn backed_up() -> Result<Site> {
    let mut site = Site::new().await?;
    small_guest(&site.host("alpha", Product::WorkstationShared)?, "mail")?;
    site.virtuozo(&["settings", "set", "keep_last", "1"])?
        .ok()?;
    site.start(1)?;
    succeeds(&site).await?;
    Ok(site)
}

pub(super) async fn succeeds(site: &Site) -> Result<()> {
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    Ok(())
}

/// Backs up, which must fail, and returns why, with the class of the error and the number of attempts.
async fn fails(site: &Site) -> Result<(String, String, i32)> {
    let run = site.back_up().await?;
    ensure!(run["state"] == "failed", "{run:#}");
    let why = sqlx::query_as(
        "SELECT last_error, error_class, attempts FROM virtuozo.guest_runs ORDER BY created_at DESC LIMIT 1",
    );
    Ok(why.fetch_one(site.pool()).await?)
}

/// What `repository list` says of the only repository.
fn listed(site: &Site) -> Result<Value> {
    Ok(site.json(&["repository", "list"])?[0].clone())
}

/// What a scan finds, and its exit code.
pub(super) fn scan(site: &Site) -> Result<(i32, Vec<Value>)> {
    let answer = site.virtuozo(&["repository", "scan", "--json"])?;
    let found = answer.json()?;
    let findings = found["findings"].as_array().context("no findings")?;
    Ok((
        answer.code,
        findings.iter().map(|one| one["finding"].clone()).collect(),
    ))
}

pub(super) fn point_states(site: &Site) -> Result<Vec<Value>> {
    let points = site.json(&["point", "list"])?;
    let points = points.as_array().context("no list")?;
    Ok(points.iter().map(|point| point["state"].clone()).collect())
}

/// Takes the repository's directory away and leaves what is under a mount point.
pub(super) fn unmount(site: &Site, aside: &Path) -> Result<()> {
    fs::rename(site.repository(), aside)?;
    Ok(fs::create_dir(site.repository())?)
}

pub(super) fn mount(site: &Site, aside: &Path) -> Result<()> {
    fs::remove_dir(site.repository())?;
    Ok(fs::rename(aside, site.repository())?)
}

pub(super) fn ensure_says(said: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(said.contains(part), "{part:?} is not in: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_repository_that_is_not_mounted_is_left_alone_until_it_is_back_or_another_is_adopted()
-> Result<()> {
    let mut site = backed_up().await?;
    let (repository, aside) = (site.repository(), site.path("aside"));
    let place = repository.display().to_string();
    let here = listed(&site)?;
    ensure!(
        here["state"] == "mounted" && here["id"] == here["id_here"],
        "{here:#}"
    );
    let id = here["id"].as_str().context("no id")?.to_owned();
    let marker = fs::read_to_string(repository.join(MARKER))?;
    ensure_says(&marker, &[&id])?;

    unmount(&site, &aside)?;
    let (why, class, attempts) = fails(&site).await?;
    let adopt = format!("virtuozo repository adopt {place}");
    let parts = [
        place.as_str(),
        MARKER,
        "is missing",
        "Mount it",
        adopt.as_str(),
    ];
    ensure_says(&why, &parts)?;
    ensure!(
        class == "retry" && attempts > 1,
        "a mount may come back: {class}, {attempts}"
    );
    ensure!(
        listed(&site)?["state"] == "not_mounted",
        "{:#}",
        listed(&site)?
    );
    let doctor = site.virtuozo(&["doctor"])?;
    ensure!(doctor.code == 1, "{doctor:?}");
    ensure_says(&doctor.stdout, &parts)?;
    let lacks = format!("lacks {place}, found at");
    ensure_says(&doctor.stdout, &[&lacks, "no other running worker has it"])?;
    let workers = site.json(&["worker", "list"])?;
    let lacks: Vec<&Value> = workers
        .as_array()
        .context("no list")?
        .iter()
        .flat_map(|one| one["lacks"].as_array())
        .flatten()
        .collect();
    ensure!(
        lacks.len() == 1 && lacks[0]["location"] == place && lacks[0]["host"].is_null(),
        "{workers:#}"
    );
    ensure!(scan(&site)? == (1, vec![json!("not_mounted")]));
    ensure!(point_states(&site)? == ["published"]);
    let left = fs::read_dir(&repository)?.count();
    ensure!(left == 0, "{left} entries under the mount point");

    mount(&site, &aside)?;
    succeeds(&site).await?;
    ensure!(fs::read_to_string(repository.join(MARKER))? == marker);
    tests::eventually("retention to leave one point", async || {
        Ok((point_states(&site)?.len() == 1).then_some(()))
    })
    .await?;

    // Another disk at its place.
    unmount(&site, &aside)?;
    let other = "0199aaaa-0000-7000-8000-00000000beef";
    let text = format!("{{\"format_version\":1,\"id\":\"{other}\"}}\n");
    fs::write(repository.join(MARKER), &text)?;
    let (why, class, attempts) = fails(&site).await?;
    ensure_says(&why, &[&id, other, &adopt])?;
    ensure!(
        class == "retry" && attempts > 1,
        "other workers may have the right one: {class}, {attempts}"
    );
    ensure!(scan(&site)? == (1, vec![json!("other_repository")]));
    ensure!(listed(&site)?["id_here"] == other);
    ensure!(fs::read_dir(&repository)?.count() == 1);

    // It was replaced on purpose. The worker that knew the old one needs no restart.
    let adopted = site.json(&["repository", "adopt", &place])?;
    ensure!(
        adopted["id"] == other && adopted["was"] == json!(id),
        "{adopted:#}"
    );
    ensure!(adopted["points_missing"] == 1, "{adopted:#}");
    ensure!(listed(&site)?["state"] == "mounted");
    ensure!(scan(&site)? == (1, vec![json!("missing")]));
    ensure!(point_states(&site)? == ["damaged"]);
    succeeds(&site).await?;
    ensure!(fs::read_to_string(repository.join(MARKER))? == text);
    let events = site.virtuozo(&["events", "--user"])?.ok()?.stdout;
    ensure_says(&events, &[other, &id])?;
    site.stop()
}

#[tokio::test]
async fn retention_takes_nothing_for_deleted_that_lies_in_a_repository_that_is_not_mounted()
-> Result<()> {
    let mut site = backed_up().await?;
    let point = site.only_point("mail").await?;
    let aside = site.path("aside");
    let kept = aside.join(point.strip_prefix(site.repository())?);
    unmount(&site, &aside)?;
    let elsewhere = site.path("elsewhere").display().to_string();
    site.virtuozo(&["guest", "edit", "alpha/mail", "--destination", &elsewhere])?
        .ok()?;
    succeeds(&site).await?;
    // Retention is over when the worker has ended.
    site.stop()?;
    ensure!(point_states(&site)? == ["published", "published"]);
    ensure!(kept.is_dir(), "{} is gone", kept.display());
    ensure!(fs::read_dir(site.repository())?.count() == 0);

    mount(&site, &aside)?;
    site.start(1)?;
    succeeds(&site).await?;
    site.stop()?;
    ensure!(point_states(&site)? == ["published"]);
    ensure!(!point.exists(), "retention left {}", point.display());
    Ok(())
}

#[tokio::test]
async fn a_directory_of_an_older_version_becomes_a_repository_only_where_its_points_are()
-> Result<()> {
    let mut site = backed_up().await?;
    site.stop()?;
    let (repository, aside) = (site.repository(), site.path("aside"));
    fs::remove_file(repository.join(MARKER))?;
    sqlx::query("DELETE FROM virtuozo_core.repository_ids")
        .execute(site.pool())
        .await?;
    ensure!(scan(&site)? == (0, vec![]));
    unmount(&site, &aside)?;
    ensure!(scan(&site)? == (1, vec![json!("not_mounted")]));
    site.start(1)?;
    let (why, class, _) = fails(&site).await?;
    ensure_says(
        &why,
        &["restore point recorded there is missing", "Mount it"],
    )?;
    ensure!(class == "retry", "{class}");
    ensure!(fs::read_dir(&repository)?.count() == 0);

    mount(&site, &aside)?;
    ensure!(listed(&site)?["state"] == "mounted" && listed(&site)?["id"].is_null());
    succeeds(&site).await?;
    let here = listed(&site)?;
    ensure!(
        here["id"].is_string() && here["id"] == here["id_here"],
        "{here:#}"
    );
    ensure!(repository.join(MARKER).is_file());
    site.stop()
}
