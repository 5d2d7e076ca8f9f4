//! A worker proposes where the datastores of a host are read, and what it has found is mapped.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Site, eventually};
use virtuozo_disk::vmdk::DiskKind;
use vix::{
    Power, Product,
    lab::{DiskSpec, GuestSpec, HostSpec, LabHost},
};

/// A host with a guest that is off in each of two datastores.
fn host(site: &Site) -> Result<LabHost> {
    let mut spec = HostSpec::new("alpha", Product::Server2);
    spec.datastores = vec!["standard".to_owned(), "archive".to_owned()];
    let host = site.host_as(&spec)?;
    for (name, datastore) in [("web", "standard"), ("old", "archive")] {
        let disk = DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 1 << 20);
        let mut guest = GuestSpec::new(name, vec![disk]);
        guest.power = Power::Off;
        guest.datastore = datastore.to_owned();
        host.guest(&guest)?;
    }
    Ok(host)
}

/// Directories that may be a datastore: why, and how many guests were found.
type Candidates = Vec<(String, u64)>;

/// The proposal for a datastore: its outcome, the directory that it names, and all candidates.
fn proposal(answer: &Value, name: &str) -> Result<(String, Value, Candidates)> {
    let all = answer["datastores"].as_array().context("no datastores")?;
    let one = all.iter().find(|one| one["name"] == name);
    let one = one.with_context(|| format!("no {name}: {answer:#}"))?;
    let candidates = one["candidates"].as_array().context("no candidates")?;
    let candidates = candidates.iter().map(|one| {
        let why = one["why"].as_str().unwrap_or_default().to_owned();
        (why, one["guests_found"].as_u64().unwrap_or_default())
    });
    let outcome = one["outcome"].as_str().context("no outcome")?.to_owned();
    Ok((outcome, one["directory"].clone(), candidates.collect()))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("not UTF-8")
}

#[tokio::test]
async fn a_worker_finds_a_datastore_beside_one_that_is_mapped_and_apply_maps_it() -> Result<()> {
    let mut site = Site::new().await?;
    let alpha = host(&site)?;
    let [(_, standard), (_, archive)] = alpha.datastores.as_slice() else {
        anyhow::bail!("{alpha:?}");
    };
    // On this machine the archive lies elsewhere, beside another datastore.
    let elsewhere = site.path("shares/archive");
    fs::create_dir_all(site.path("shares/other"))?;
    fs::rename(archive, &elsewhere)?;
    let other = site.path("shares/other");
    site.virtuozo(&["datastore", "map", "alpha", "other", text(&other)?])?
        .ok()?;

    site.start(1)?;
    eventually("a worker to serve hosts", async || {
        let workers = site.json(&["worker", "list"])?.to_string();
        Ok(workers.contains("\"is_served\":true").then_some(()))
    })
    .await?;
    // Whoever asks needs neither key nor library.
    let ask = |args: &[&str]| {
        let here = [
            "--key-file",
            "/absent/key",
            "--vix-library",
            "/absent/libvix.so",
        ];
        let command = ["datastore", "propose", "alpha"];
        site.virtuozo(&[&here, &command[..], args].concat())
    };
    let found = ask(&["--json"])?.ok()?.json()?;
    let worker = found["worker"].as_str().context("no worker")?;
    ensure!(worker.starts_with("worker-1 on "), "{worker}");
    let of = |answer: &Value, name: &str| proposal(answer, name);
    let (outcome, directory, candidates) = of(&found, "standard")?;
    ensure!(
        outcome == "in_place" && directory == text(standard)? && candidates[0].1 == 1,
        "{found:#}"
    );
    let (outcome, directory, candidates) = of(&found, "archive")?;
    ensure!(
        outcome == "found"
            && directory == text(&elsewhere)?
            && candidates == [("beside_mapped".to_owned(), 1)],
        "{found:#}"
    );
    ensure!(of(&found, "other")?.0 == "no_guests", "{found:#}");
    ensure!(found["mapped"] == serde_json::json!([]), "{found:#}");

    // A second directory that holds all its guests: nobody can tell which one it is.
    let copy = site.path("copies/archive");
    fs::create_dir_all(copy.join("old"))?;
    fs::copy(elsewhere.join("old/old.vmx"), copy.join("old/old.vmx"))?;
    let third = site.path("copies/third");
    site.virtuozo(&["datastore", "map", "alpha", "third", text(&third)?])?
        .ok()?;
    let unclear = ask(&["--apply", "--json"])?.ok()?.json()?;
    ensure!(of(&unclear, "archive")?.0 == "ambiguous", "{unclear:#}");
    ensure!(unclear["mapped"] == serde_json::json!([]), "{unclear:#}");

    fs::remove_dir_all(&copy)?;
    let applied = ask(&["--apply"])?.ok()?.stdout;
    ensure!(
        applied.contains("the datastore archive is mapped now")
            && applied.contains("found by worker worker-1 on"),
        "{applied}"
    );
    let here = site.json(&["datastore", "propose", "alpha", "--local"])?;
    let (outcome, directory, candidates) = of(&here, "archive")?;
    ensure!(
        outcome == "in_place"
            && directory == text(&elsewhere)?
            && candidates == [("mapped".to_owned(), 1)]
            && here["worker"].is_null(),
        "{here:#}"
    );

    // Nothing is there any more: it stays mapped, and nothing else is proposed.
    fs::rename(&elsewhere, archive.with_extension("away"))?;
    let gone = ask(&["--apply", "--json"])?.ok()?.json()?;
    ensure!(of(&gone, "archive")?.0 == "not_found", "{gone:#}");

    // Who waits no longer leaves nothing behind.
    let rule = r#"{"function": "VixHost_Connect", "object": "alpha", "hang": true}"#;
    fs::write(site.faults(), format!("{rule}\n"))?;
    let late = ask(&["--timeout", "2"])?;
    ensure!(
        late.code == 1 && late.stderr.contains("no answer within 2 s"),
        "{late:?}"
    );
    let sql = "SELECT state FROM virtuozo_core.requests ORDER BY asked_at DESC LIMIT 1";
    let state: String = sqlx::query_scalar(sql).fetch_one(site.pool()).await?;
    ensure!(state == "cancelled", "{state}");
    site.stop()
}
