//! The database is lost: an export and the repositories bring the site back.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{PointDisks, Site};
use virtuozo_disk::vmdk::DiskKind;
use vix::lab::{DiskSpec, GuestSpec, Power, Product};

/// A site with one guest, backed up `times` times, and nothing that still runs.
async fn backed_up(site: &mut Site, times: usize) -> Result<()> {
    let host = site.host("alpha", Product::WorkstationShared)?;
    let disk = DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 8 << 20);
    let mut spec = GuestSpec::new("mail", vec![disk]);
    spec.power = Power::On;
    host.guest(&spec)?;
    site.virtuozo(&["settings", "set", "keep_last", "2"])?
        .ok()?;
    site.start(1)?;
    for _ in 0..times {
        let run = site.back_up().await?;
        ensure!(run["state"] == "succeeded", "{run:#}");
    }
    site.stop()
}

/// What of restore points must be as before, whichever way they came into the catalogue.
fn points(site: &Site) -> Result<Vec<Value>> {
    let mut points = site.json(&["point", "list"])?;
    let points = points.as_array_mut().context("no list")?;
    for point in points.iter_mut() {
        let fields = point.as_object_mut().context("no point")?;
        for field in ["guest_id", "verified_at"] {
            ensure!(!fields[field].is_null(), "{field} is missing: {fields:#?}");
        }
        for field in [
            "guest_id",
            "verified_at",
            "published_at",
            "found_at",
            "adopted_at",
        ] {
            fields.remove(field);
        }
    }
    Ok(points.clone())
}

fn dir_of(point: &Value) -> Result<PathBuf> {
    let text = |field: &str| point[field].as_str().context("no text");
    Ok(Path::new(text("repository")?).join(text("path")?))
}

/// Runs a command that must end with this code, and returns what it said.
fn ends(site: &Site, args: &[&str], code: i32) -> Result<String> {
    let answer = site.virtuozo(args)?;
    let said = format!("{}{}", answer.stdout, answer.stderr);
    ensure!(answer.code == code, "{args:?}: {}: {said}", answer.code);
    Ok(said)
}

#[tokio::test]
async fn an_export_and_a_scan_bring_a_site_back_whose_database_is_lost() -> Result<()> {
    let mut site = Site::new().await?;
    backed_up(&mut site, 2).await?;
    let repository = site.repository().display().to_string();
    fs::write(site.path("hook"), "hush hook\n")?;
    let hook = site.path("hook").display().to_string();
    for args in [
        &["schedule", "add", "nightly", "--guest", "alpha/mail"][..],
        &["notice", "settings", "set", "mail_from", "us@example.org"],
        &[
            "notice",
            "settings",
            "set",
            "webhook_url",
            "https://127.0.0.1:1/hook",
        ],
        &[
            "notice",
            "secret",
            "webhook",
            "--password-file",
            hook.as_str(),
        ],
        &["guest", "edit", "alpha/mail", "--keep-last", "2"],
        &["repository", "limit", repository.as_str(), "3"],
    ] {
        site.virtuozo(args)?.ok()?;
    }
    let before = points(&site)?;
    let configuration = site
        .virtuozo(&["export", "--without-passwords"])?
        .ok()?
        .stdout;
    let (file, right, wrong) = (
        site.path("site.toml"),
        site.path("right"),
        site.path("wrong"),
    );
    fs::write(&right, "a long passphrase\n")?;
    fs::write(&wrong, "another passphrase\n")?;
    let (file, right, wrong) = (
        file.display().to_string(),
        right.display().to_string(),
        wrong.display().to_string(),
    );
    let export = ["export", "--out", &file, "--passphrase-file", &right];
    site.virtuozo(&export)?.ok()?;
    let text = fs::read_to_string(&file)?;
    ensure!(
        text.contains("\npassword = ") && text.contains("\nwebhook_secret = "),
        "{text}"
    );

    site.lose_database().await?;
    let said = ends(&site, &["import", &file, "--passphrase-file", &wrong], 2)?;
    ensure!(
        said.contains("passphrase") && said.contains(&file),
        "{said}"
    );
    let said = ends(&site, &["import", &file], 2)?;
    ensure!(said.contains("--passphrase-file"), "{said}");
    let import = ["import", &file, "--passphrase-file", &right];
    let said = ends(&site, &[&import[..], &["--dry-run"]].concat(), 4)?;
    ensure!(
        said.contains("+ host alpha") && said.contains("~ notices"),
        "{said}"
    );
    ensure!(said.contains("webhook_secret: not set → stored"), "{said}");
    ensure!(
        site.json(&["host", "list"])? == json!([]),
        "the site is not empty"
    );
    ensure!(!site.path("key").exists(), "a dry run made a key");
    let (head, rest) = text.split_once("[passwords]").context("no passwords")?;
    let (_, rest) = rest.split_once("\n\n[").context("nothing after it")?;
    for (broken, why) in [
        (text.replacen("[end]", "", 1), "ends early"),
        (format!("{head}[{rest}"), "[passwords]"),
        (
            text.replacen("[settings]", "[settings]\ncolour = 1", 1),
            "colour",
        ),
        (
            text.replacen("\npassword = \"", "\npassword = \"00", 1),
            "damaged",
        ),
        (
            text.replacen("format_version = 1", "format_version = 9", 1),
            "newer",
        ),
    ] {
        ensure!(broken != text);
        let place = site.path("broken.toml").display().to_string();
        fs::write(&place, broken)?;
        let said = ends(&site, &["import", &place, "--passphrase-file", &right], 2)?;
        ensure!(said.contains(why) && said.contains(&place), "{said}");
    }
    ensure!(
        site.json(&["host", "list"])? == json!([]),
        "a broken file changed something"
    );
    site.virtuozo(&import)?.ok()?;
    let said = ends(&site, &[&import[..], &["--dry-run", "--prune"]].concat(), 0)?;
    ensure!(said.contains("0 added, 0 changed, 0 removed"), "{said}");
    let now = site
        .virtuozo(&["export", "--without-passwords"])?
        .ok()?
        .stdout;
    ensure!(now == configuration, "{now}\ninstead of\n{configuration}");
    site.virtuozo(&export)?.ok()?;
    ensure!(
        fs::read_to_string(&file)? == text,
        "passwords have another text"
    );

    ends(&site, &["repository", "scan", "--dry-run"], 4)?;
    ensure!(site.json(&["point", "list"])? == json!([]));
    ends(&site, &["repository", "scan"], 0)?;
    let unverified = site.json(&["point", "list"])?;
    ensure!(unverified[0]["verified_at"].is_null(), "{unverified:#}");
    let again = site.json(&["repository", "scan", "--verify"])?;
    ensure!(again["findings"] == json!([]), "{again:#}");
    ensure!(points(&site)? == before, "{:#?}", points(&site)?);

    let oldest = before.last().context("no point")?;
    let to = site.path("restored");
    let id = oldest["id"].as_str().context("no id")?;
    let to_text = to.display().to_string();
    let restore = ["restore", id, "--to", &to_text];
    // The key is another one: these points are authenticated anew by somebody who knows them.
    let said = ends(&site, &restore, 1)?;
    ensure!(said.contains("--unauthenticated"), "{said}");
    ensure!(!to.exists(), "something was restored");
    site.virtuozo(&[&restore[..], &["--unauthenticated"]].concat())?
        .ok()?;
    fs::remove_dir_all(&to)?;
    let text_of = |point: &Value| point["id"].as_str().map(str::to_owned).context("no id");
    let ids: Vec<String> = before.iter().map(text_of).collect::<Result<_>>()?;
    let mut adopt = vec!["point", "adopt"];
    adopt.extend(ids.iter().map(String::as_str));
    site.virtuozo(&adopt)?.ok()?;
    ensure!(points(&site)? == before, "{:#?}", points(&site)?);
    site.virtuozo(&restore)?.ok()?;
    let oldest = dir_of(oldest)?;
    ensure!(PointDisks::open(&oldest)?.same_bytes(&PointDisks::open(&to)?)?);

    // The password works under the new key, and retention counts what was found.
    site.start(1)?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    site.stop()?;
    let after = points(&site)?;
    ensure!(after.len() == 2 && after[1] == before[0], "{after:#?}");
    ensure!(!oldest.exists(), "retention left the oldest point");
    Ok(())
}

/// What a scan finds, as `finding name`, and its exit code.
fn scan(site: &Site, args: &[&str]) -> Result<(i32, Vec<String>)> {
    let answer = site.virtuozo(&[&["repository", "scan", "--json"], args].concat())?;
    let found = answer.json()?;
    let lines = found["findings"].as_array().context("no findings")?.iter();
    let mut lines = lines
        .map(|line| {
            let dir = line["dir"].as_str().context("no directory")?;
            let name = Path::new(dir).file_name().context("no name")?;
            let finding = line["finding"].as_str().context("no finding")?;
            Ok(format!("{finding} {}", name.to_string_lossy()))
        })
        .collect::<Result<Vec<_>>>()?;
    lines.sort();
    Ok((answer.code, lines))
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

async fn sql(site: &Site, statement: &'static str) -> Result<()> {
    sqlx::raw_sql(statement).execute(site.pool()).await?;
    Ok(())
}

#[tokio::test]
async fn a_scan_says_what_lies_in_a_repository_and_deletes_nothing() -> Result<()> {
    let mut site = Site::new().await?;
    backed_up(&mut site, 1).await?;
    let dir = site.only_point("mail").await?;
    let name = dir.file_name().context("no name")?.to_string_lossy();
    let name = &*name;
    let state = || -> Result<Value> { Ok(site.json(&["point", "list"])?[0]["state"].clone()) };
    ensure!(scan(&site, &[])? == (0, vec![]));

    // Renamed, but not recorded yet: as long as its run is not over, the run does that.
    sql(&site, "DELETE FROM virtuozo_core.restore_points").await?;
    sql(
        &site,
        "UPDATE virtuozo_core.guest_runs SET state = 'waiting', ended_at = NULL",
    )
    .await?;
    ensure!(scan(&site, &[])? == (0, vec![]));
    ensure!(site.json(&["point", "list"])? == json!([]));
    sql(
        &site,
        "UPDATE virtuozo_core.guest_runs SET state = 'failed', ended_at = now()",
    )
    .await?;
    ensure!(scan(&site, &["--dry-run"])? == (4, vec![format!("recorded {name}")]));
    // What is broken counts more than what would be entered.
    let torn = dir.with_file_name("torn");
    copy_dir(&dir, &torn)?;
    fs::write(torn.join("virtuozo-manifest.json"), "{")?;
    let both = vec!["broken torn".to_owned(), format!("recorded {name}")];
    ensure!(scan(&site, &["--dry-run"])? == (1, both));
    fs::remove_dir_all(&torn)?;
    ensure!(scan(&site, &["--verify"])? == (0, vec![format!("recorded {name}")]));
    ensure!(points(&site)?.len() == 1);

    // Before its guest is known it has none, and gets it with the next scan.
    sql(
        &site,
        "UPDATE virtuozo_core.restore_points SET guest_id = NULL",
    )
    .await?;
    ensure!(scan(&site, &[])? == (0, vec![format!("linked {name}")]));
    // One that a run had recorded, and whose guest was forgotten since, stays without.
    sql(
        &site,
        "UPDATE virtuozo_core.restore_points SET guest_id = NULL, found_at = NULL",
    )
    .await?;
    ensure!(scan(&site, &[])? == (0, vec![]));

    let aside = site.path("aside");
    fs::rename(&dir, &aside)?;
    ensure!(scan(&site, &["--dry-run"])? == (1, vec![format!("missing {name}")]));
    ensure!(state()? == "published");
    ensure!(scan(&site, &[])? == (1, vec![format!("missing {name}")]));
    ensure!(state()? == "damaged");
    fs::rename(&aside, &dir)?;
    ensure!(scan(&site, &[])? == (0, vec![format!("found_again {name}")]));
    ensure!(state()? == "published");
    ensure!(site.json(&["point", "list"])?[0]["verified_at"].is_null());

    // What is known of a damage outlives a time in which the directory is away.
    sql(
        &site,
        "UPDATE virtuozo_core.restore_points SET state = 'damaged', damage = 'rust'",
    )
    .await?;
    fs::rename(&dir, &aside)?;
    ensure!(scan(&site, &[])? == (1, vec![format!("missing {name}")]));
    fs::rename(&aside, &dir)?;
    ensure!(scan(&site, &[])? == (0, vec![]));
    ensure!(site.json(&["point", "list"])?[0]["damage"] == "rust");
    // A recorded point whose manifest is torn counts no more, although nobody has read its bytes.
    sql(
        &site,
        "UPDATE virtuozo_core.restore_points SET state = 'published', damage = NULL, verified_at = now()",
    )
    .await?;
    let manifest = dir.join("virtuozo-manifest.json");
    let text = fs::read_to_string(&manifest)?;
    fs::write(&manifest, &text[..text.len() / 2])?;
    let torn = vec![format!("broken {name}"), format!("damaged {name}")];
    ensure!(scan(&site, &["--dry-run"])? == (1, torn.clone()));
    ensure!(state()? == "published");
    ensure!(scan(&site, &[])? == (1, torn));
    ensure!(state()? == "damaged");
    fs::write(&manifest, &text)?;
    site.virtuozo(&["point", "verify", "--all"])?.ok()?;
    ensure!(state()? == "published");

    // A repository that is not mounted is an empty directory: nothing is marked.
    let repository = site.repository();
    fs::rename(&repository, &aside)?;
    fs::create_dir(&repository)?;
    ensure!(scan(&site, &[])? == (1, vec!["not_mounted repository".to_owned()]));
    ensure!(state()? == "published");
    let moved = aside.display().to_string();
    ensure!(scan(&site, &[&moved])? == (1, vec![format!("elsewhere {name}")]));
    ensure!(scan(&site, &[&moved, "--moved"])? == (0, vec![format!("moved {name}")]));
    ensure!(site.json(&["point", "list"])?[0]["repository"] == json!(moved));
    ensure!(scan(&site, &[&moved])? == (0, vec![]));

    let folder = aside.join("alpha/mail");
    copy_dir(&folder.join(name), &folder.join("twin"))?;
    copy_dir(&folder.join(name), &folder.join("torn"))?;
    let manifest = folder.join("torn/virtuozo-manifest.json");
    let text = fs::read_to_string(&manifest)?;
    fs::write(&manifest, &text[..text.len() / 2])?;
    fs::create_dir(folder.join("holiday"))?;
    let partial = ".partial-0199000000007000800000000000abcd-f1";
    fs::create_dir(folder.join(partial))?;
    let (code, lines) = scan(&site, &[&moved])?;
    let expected = [
        "broken torn".to_owned(),
        "copy twin".to_owned(),
        "foreign holiday".to_owned(),
        format!("unfinished {partial}"),
    ];
    ensure!(code == 1 && lines == expected, "{lines:?}");
    for left in [name, "twin", "torn", "holiday", partial] {
        ensure!(folder.join(left).exists(), "{left} is gone");
    }
    // Damage that only the bytes show.
    sql(&site, "DELETE FROM virtuozo_core.restore_points").await?;
    fs::remove_dir_all(folder.join("twin"))?;
    fs::remove_file(folder.join(name).join("mail.vmx"))?;
    let (code, lines) = scan(&site, &[&moved, "--verify"])?;
    ensure!(code == 1, "{lines:?}");
    ensure!(lines.contains(&format!("damaged {name}")), "{lines:?}");
    ensure!(state()? == "damaged");
    Ok(())
}
