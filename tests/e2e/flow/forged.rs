//! Restore points that are not what they say: forged, swapped, of somebody else.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Site, small_guest};
use uuid::Uuid;
use vix::lab::Product;

/// A copy of a restore point whose manifest says something else, with hashes that are right and no code.
fn forge(dir: &Path, name: &str, change: impl Fn(&mut Value)) -> Result<()> {
    let forged = dir.with_file_name(name);
    fs::create_dir(&forged)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        fs::copy(entry.path(), forged.join(entry.file_name()))?;
    }
    let path = forged.join("virtuozo-manifest.json");
    let envelope: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
    let mut manifest = envelope["manifest"].clone();
    change(&mut manifest);
    let text = manifest.to_string();
    let hash = blake3::hash(text.as_bytes()).to_hex();
    let forged = format!("{{\"format_version\":1,\"blake3\":\"{hash}\",\"manifest\":{text}}}");
    Ok(fs::write(path, forged)?)
}

async fn backed_up(site: &mut Site, guests: &[&str], times: usize) -> Result<()> {
    let host = site.host("alpha", Product::WorkstationShared)?;
    for guest in guests {
        small_guest(&host, guest)?;
    }
    site.virtuozo(&["settings", "set", "keep_last", "2"])?
        .ok()?;
    site.start(1)?;
    for _ in 0..times {
        let run = site.back_up().await?;
        ensure!(run["state"] == "succeeded", "{run:#}");
    }
    Ok(())
}

/// The directories and ids of restore points, newest first.
fn points(site: &Site) -> Result<Vec<(String, String)>> {
    let points = site.json(&["point", "list"])?;
    let text = |point: &Value, field: &str| point[field].as_str().map(str::to_owned);
    let of = |point: &Value| {
        let (root, path) = (text(point, "repository")?, text(point, "path")?);
        Some((format!("{root}/{path}"), text(point, "id")?))
    };
    let points = points.as_array().context("no list")?.iter().map(of);
    points.collect::<Option<_>>().context("no point")
}

#[tokio::test]
async fn forged_points_of_the_future_make_a_scan_and_retention_remove_nothing() -> Result<()> {
    let mut site = Site::new().await?;
    backed_up(&mut site, &["mail"], 2).await?;
    let real = points(&site)?;
    let newest = Path::new(&real[0].0).to_owned();
    for (year, guest) in (2091..2098).zip(["mail"; 7]) {
        forge(
            &newest,
            &format!("{year}0101T000000Z-00000000-f1"),
            |manifest| {
                manifest["point_id"] = json!(Uuid::now_v7());
                manifest["guest_run_id"] = json!(Uuid::now_v7());
                manifest["guest"] = guest.into();
                manifest["taken_at"] = format!("{year}-01-01T00:00:00Z").into();
            },
        )?;
    }
    // One that has a time as it should be, and is by nobody who has the key either.
    forge(&newest, "forged", |manifest| {
        manifest["point_id"] = json!(Uuid::now_v7());
        manifest["guest_run_id"] = json!(Uuid::now_v7());
    })?;
    let scanned = site.json(&["repository", "scan", "--verify"])?;
    let findings = scanned["findings"].as_array().context("no findings")?;
    ensure!(findings.len() == 8, "{scanned:#}");
    ensure!(
        findings.iter().all(|line| line["about"]
            .as_str()
            .is_some_and(|about| about.contains("not authenticated"))),
        "{scanned:#}"
    );
    for _ in 0..2 {
        let run = site.back_up().await?;
        ensure!(run["state"] == "succeeded", "{run:#}");
    }
    site.stop()?;
    // Of four real backups the newest two stay, as without the forged ones.
    let left = points(&site)?;
    ensure!(left.len() == 2 + 8, "{left:#?}");
    for (dir, _) in &left {
        ensure!(Path::new(dir).is_dir(), "{dir} is gone");
    }
    let told: i64 =
        sqlx::query_scalar("SELECT count(*) FROM virtuozo.stuck WHERE kind = 'future_point'")
            .fetch_one(site.pool())
            .await?;
    ensure!(told == 7, "{told}");
    Ok(())
}

#[tokio::test]
async fn of_two_swapped_points_none_is_good_or_restored_as_the_other() -> Result<()> {
    let mut site = Site::new().await?;
    backed_up(&mut site, &["mail", "web"], 1).await?;
    site.stop()?;
    let all = points(&site)?;
    let [(one, one_id), (two, two_id)] = all.as_slice() else {
        anyhow::bail!("{all:#?}")
    };
    let aside = site.path("aside");
    fs::rename(one, &aside)?;
    fs::rename(two, one)?;
    fs::rename(&aside, two)?;
    let to = site.path("restored").display().to_string();
    for id in [one_id, two_id] {
        let restored = site.virtuozo(&["restore", id, "--to", &to])?;
        ensure!(restored.code == 1, "{}", restored.stdout);
        ensure!(
            restored
                .stderr
                .contains("another restore point is in its directory"),
            "{}",
            restored.stderr
        );
        ensure!(!Path::new(&to).exists(), "something was restored");
        ensure!(site.virtuozo(&["point", "verify", id])?.code == 1);
    }
    let states = site.json(&["point", "list"])?;
    let states = states.as_array().context("no list")?.iter();
    ensure!(states.clone().all(|point| point["state"] == "damaged"));
    // Put back, they are good again.
    fs::rename(one, &aside)?;
    fs::rename(two, one)?;
    fs::rename(&aside, two)?;
    site.virtuozo(&["point", "verify", "--all"])?.ok()?;
    site.virtuozo(&["restore", one_id, "--to", &to])?.ok()?;
    Ok(())
}
