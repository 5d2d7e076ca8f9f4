//! Good and bad guests and hosts in one run.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Site, eventually};
use virtuozo_disk::vmdk::DiskKind;
use vix::lab::{Broken, DiskSpec, GuestSpec, HostSpec, LabHost, Power, Product};

fn small_guest(host: &LabHost, name: &str, change: impl FnOnce(&mut GuestSpec)) -> Result<()> {
    let mut spec = GuestSpec::new(
        name,
        vec![DiskSpec::new(
            "scsi0:0",
            DiskKind::MonolithicSparse,
            8 << 20,
        )],
    );
    change(&mut spec);
    host.guest(&spec)?;
    Ok(())
}

fn of<'a>(run: &'a Value, guest: &str) -> Result<&'a Value> {
    run["guest_runs"]
        .as_array()
        .and_then(|all| all.iter().find(|g| g["guest"] == guest))
        .with_context(|| format!("no run of {guest} in {run:#}"))
}

#[tokio::test]
async fn broken_guests_and_a_dead_host_fail_alone_with_a_reason_each() -> Result<()> {
    let mut site = Site::new().await?;
    let alpha = site.host("alpha", Product::WorkstationShared)?;
    // A host that is known to the site but answers nobody.
    let mut gone = HostSpec::new("beta", Product::Server2);
    gone.datastores = vec!["standard".to_owned()];
    let beta = site.host_as(&gone)?;
    std::fs::remove_dir_all(&beta.dir)?;
    small_guest(&alpha, "good", |g| g.power = Power::On)?;
    small_guest(&alpha, "truncated", |g| {
        g.broken = Some(Broken::TruncatedDisk)
    })?;
    small_guest(&alpha, "missing", |g| g.broken = Some(Broken::MissingDisk))?;
    small_guest(&alpha, "damaged", |g| g.broken = Some(Broken::BrokenVmx))?;
    small_guest(&alpha, "foreign-parent", |g| {
        g.foreign_snapshots = vec!["a".to_owned()];
        g.broken = Some(Broken::WrongCid);
    })?;
    site.start(2)?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "failed", "{run:#}");
    ensure!(of(&run, "good")?["state"] == "succeeded", "{run:#}");
    for guest in ["truncated", "missing", "damaged", "foreign-parent"] {
        let outcome = of(&run, guest)?;
        ensure!(outcome["state"] == "failed", "{guest}: {outcome:#}");
        let error = outcome["error"].as_str().unwrap_or_default();
        ensure!(
            error.contains(guest),
            "{guest}: the reason names no file of it: {error}"
        );
        ensure!(!error.contains("panicked"), "{guest}: {error}");
    }
    let hosts = run["host_runs"].as_array().context("no host runs")?;
    let beta = hosts
        .iter()
        .find(|h| h["host"] == "beta")
        .context("no run of beta")?;
    ensure!(beta["state"] == "failed", "{run:#}");
    ensure!(
        beta["error"].as_str().is_some_and(|e| e.contains("beta")),
        "{beta:#}"
    );
    ensure!(site.leftovers()?.is_empty(), "{:?}", site.leftovers()?);
    site.stop()
}

#[tokio::test]
async fn an_ignored_guest_is_left_out_and_an_ignored_disk_is_not_in_the_point() -> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    small_guest(&host, "kept", |g| {
        g.disks.push(DiskSpec::new(
            "scsi0:1",
            DiskKind::MonolithicSparse,
            8 << 20,
        ));
    })?;
    small_guest(&host, "left-out", |_| ())?;
    site.virtuozo(&["host", "check", "--local"])?.ok()?;
    site.virtuozo(&["guest", "edit", "alpha/left-out", "--ignored", "true"])?
        .ok()?;
    site.virtuozo(&["disk", "edit", "alpha/kept", "scsi0:1", "--ignored", "true"])?
        .ok()?;
    site.start(1)?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    ensure!(
        run["guest_runs"]
            .as_array()
            .is_some_and(|all| all.len() == 1),
        "{run:#}"
    );
    let point = site.only_point("kept").await?;
    ensure!(tests::PointDisks::open(&point)?.len() == 1);
    site.stop()
}

#[tokio::test]
async fn a_running_guest_of_a_host_that_keeps_one_snapshot_is_backed_up_cold_when_it_has_a_foreign_one()
-> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::Server2)?;
    small_guest(&host, "mail", |g| {
        g.power = Power::On;
        g.foreign_snapshots = vec!["precious".to_owned()];
    })?;
    site.start(1)?;
    let run = site.back_up().await?;
    ensure!(
        run["state"] == "succeeded" && run["guest_runs"][0]["mode"] == "cold",
        "{run:#}"
    );
    site.virtuozo(&["settings", "set", "mode", "hot"])?.ok()?;
    let refused = site.back_up().await?;
    let error = refused["guest_runs"][0]["error"]
        .as_str()
        .context("no error")?;
    ensure!(error.contains("precious"), "{error}");
    site.stop()
}

#[tokio::test]
async fn a_snapshot_of_ours_from_an_earlier_failure_is_removed_first_and_a_similar_foreign_name_stays()
-> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    let ours = "virtuozo-0123456789abcdef0123456789abcdef-f7";
    let mut spec = GuestSpec::new(
        "mail",
        vec![DiskSpec::new(
            "scsi0:0",
            DiskKind::MonolithicSparse,
            8 << 20,
        )],
    );
    spec.power = Power::On;
    spec.foreign_snapshots = vec!["virtuozo-of-bob".to_owned(), ours.to_owned()];
    let guest = host.guest(&spec)?;
    site.start(1)?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    ensure!(
        guest.snapshots()? == ["virtuozo-of-bob"],
        "{:?}",
        guest.snapshots()?
    );
    site.stop()
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_left_alone_until_somebody_finds_that_it_does() -> Result<()>
{
    let mut site = Site::new().await?;
    let alpha = site.host("alpha", Product::Esxi)?;
    for name in ["mail", "web"] {
        small_guest(&alpha, name, |_| {})?;
    }
    // So long that no other attempt is made in this test.
    site.virtuozo(&["settings", "set", "retry_delay_secs", "3600"])?
        .ok()?;
    let rule = r#"{"function": "VixHost_Connect", "object": "alpha", "error": 18000}"#;
    std::fs::write(site.faults(), format!("{rule}\n"))?;
    site.start(2)?;
    let run = site.start_run()?;
    let waits = eventually("the host run to wait for its host", async || {
        let shown = site.json(&["run", "show", &run])?;
        let reason = shown["host_runs"][0]["held_reason"].as_str();
        Ok(reason.map(str::to_owned))
    })
    .await?;
    ensure!(
        waits.starts_with("its host does not answer (attempt 1 of 3 failed at")
            && waits.contains("VIX error 18000")
            && waits.contains("; next probe at"),
        "{waits}"
    );
    let hosts = site.json(&["host", "list"])?;
    ensure!(
        hosts
            .to_string()
            .contains("does not answer (attempt 1 of 3"),
        "{hosts:#}"
    );
    let refused = site.virtuozo(&["host", "check", "alpha"])?;
    ensure!(
        refused.code == 1 && refused.stderr.contains("18000"),
        "{refused:?}"
    );
    // Two workers, one of which tried, and the check.
    let counts: Value = serde_json::from_slice(&std::fs::read(site.path("faults.state"))?)?;
    ensure!(counts[rule] == 2, "{counts}");

    std::fs::write(site.faults(), "")?;
    site.virtuozo(&["host", "check", "alpha"])?.ok()?;
    let run = site.ended(&run).await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    site.stop()
}
