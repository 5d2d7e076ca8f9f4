//! A guest is backed up, with one failure on the way, and what is told of it is true.

use std::fs;

use anyhow::{Context, Result, ensure};
use tests::{Background, Endpoint, Site, eventually};
use virtuozo_disk::vmdk::DiskKind;
use vix::lab::{DiskSpec, GuestSpec, Power, Product};

use super::catalogue::{Shown, documented};

/// A site with one running guest, whose first snapshot is refused.
pub(crate) async fn site() -> Result<Site> {
    let site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    let disk = DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 16 << 20);
    let mut spec = GuestSpec::new("mail", vec![disk]);
    spec.power = Power::On;
    host.guest(&spec)?;
    fs::write(
        site.faults(),
        r#"{"function":"VixVM_CreateSnapshot","nth":1,"error":13002}"#,
    )?;
    Ok(site)
}

struct Watched {
    process: Background,
    endpoint: Endpoint,
}

impl Watched {
    async fn start(site: &Site, kind: &str) -> Result<Self> {
        let process = site.spawn(kind, &[kind, "--listen", "127.0.0.1:0"], &[])?;
        let endpoint = Endpoint::of(&process).await?;
        endpoint.becomes(200).await?;
        Ok(Self { process, endpoint })
    }

    async fn shows(&self) -> Result<Shown> {
        let (status, text) = self.endpoint.get("/metrics").await?;
        ensure!(status == 200, "{status}: {text}");
        Shown::read(&text)
    }

    /// Waits until a figure is as it should be.
    async fn tells(&self, name: &str, labels: &[(&str, &str)], value: f64) -> Result<()> {
        eventually(name, async || {
            let is = self.shows().await?.value(name, labels);
            Ok((is == Some(value)).then_some(()))
        })
        .await
        .with_context(|| format!("{name} {labels:?} is not {value}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_true_and_are_those_that_are_documented() -> Result<()> {
    let site = site().await?;
    let mut scheduler = Watched::start(&site, "scheduler").await?;
    scheduler
        .tells("virtuozo_scheduler_leads", &[], 1.0)
        .await?;
    let mut worker = Watched::start(&site, "worker").await?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");

    let (bytes, taken_at): (i64, i64) = sqlx::query_as(
        "SELECT g.bytes_copied, floor(extract(epoch FROM p.taken_at))::bigint
           FROM virtuozo_core.guest_runs g JOIN virtuozo_core.restore_points p ON p.guest_run_id = g.id",
    )
    .fetch_one(site.pool())
    .await?;
    ensure!(bytes > 0);

    // What the worker did itself. The end of an attempt is counted after all can see it.
    let attempts = "virtuozo_guest_run_attempts_total";
    worker
        .tells(attempts, &[("outcome", "succeeded")], 1.0)
        .await?;
    worker
        .tells(attempts, &[("outcome", "retried")], 1.0)
        .await?;
    worker
        .tells("virtuozo_leases_held", &[("kind", "guest")], 0.0)
        .await?;
    let of_worker = worker.shows().await?;
    let is = |name: &str, labels: &[(&str, &str)], value: f64| {
        let found = of_worker.value(name, labels);
        ensure!(
            found == Some(value),
            "{name} {labels:?}: {found:?}, not {value}"
        );
        Ok(())
    };
    is("virtuozo_copy_bytes_total", &[], bytes as f64)?;
    let steps = "virtuozo_step_duration_seconds_count";
    for (step, outcome, times) in [
        ("validate", "succeeded", 2.0),
        ("snapshot", "failed", 1.0),
        ("snapshot", "succeeded", 1.0),
        ("copy", "succeeded", 1.0),
        ("commit", "succeeded", 1.0),
        ("verify", "succeeded", 1.0),
        ("publish", "succeeded", 1.0),
    ] {
        is(steps, &[("step", step), ("outcome", outcome)], times)?;
    }
    let half_a_day = [("step", "copy"), ("outcome", "succeeded"), ("le", "43200")];
    is("virtuozo_step_duration_seconds_bucket", &half_a_day, 1.0)?;
    let calls = "virtuozo_snapshot_call_duration_seconds_count";
    is(calls, &[("call", "create")], 2.0)?;
    is(calls, &[("call", "remove")], 1.0)?;
    is("virtuozo_vix_errors_total", &[("code", "13002")], 1.0)?;
    is(
        "virtuozo_runs_ended_total",
        &[("outcome", "succeeded")],
        1.0,
    )?;
    is("virtuozo_database_available", &[], 1.0)?;
    is("virtuozo_guest_run_takeovers_total", &[], 0.0)?;
    ensure!(
        of_worker.of("virtuozo_guest_rpo_seconds").next().is_none(),
        "a worker tells of the fleet"
    );

    // What the leading scheduler reads of the fleet.
    let mail = [("host", "alpha"), ("guest", "mail")];
    let last = "virtuozo_guest_last_restore_point_timestamp_seconds";
    scheduler.tells(last, &mail, taken_at as f64).await?;
    scheduler.tells("virtuozo_runs_open", &[], 0.0).await?;
    let guest_runs = [("state", "running")];
    scheduler
        .tells("virtuozo_guest_runs_open", &guest_runs, 0.0)
        .await?;
    scheduler
        .tells("virtuozo_processes", &[("kind", "worker")], 1.0)
        .await?;
    scheduler
        .tells("virtuozo_host_slots", &[("host", "alpha")], 2.0)
        .await?;
    scheduler
        .tells("virtuozo_host_slots_used", &[("host", "alpha")], 0.0)
        .await?;
    scheduler
        .tells("virtuozo_host_reachable", &[("host", "alpha")], 1.0)
        .await?;
    scheduler
        .tells("virtuozo_guest_rpo_exceeded", &mail, 0.0)
        .await?;
    site.virtuozo(&["guest", "edit", "alpha/mail", "--rpo-secs", "1"])?
        .ok()?;
    scheduler
        .tells("virtuozo_guest_rpo_seconds", &mail, 1.0)
        .await?;
    scheduler
        .tells("virtuozo_guest_rpo_exceeded", &mail, 1.0)
        .await?;
    let listed = site.json(&["guest", "list"])?;
    ensure!(listed[0]["rpo_exceeded"] == true, "{listed:#}");

    // A worker looks at repositories once a minute, and the first time there was none.
    worker.process.terminate()?;
    let mut again = Watched::start(&site, "worker").await?;
    let repository = eventually("the repository's room", async || {
        let shown = again.shows().await?;
        let found = shown.of("virtuozo_repository_free_bytes").next().cloned();
        Ok(found.map(|free| (free, shown)))
    })
    .await?;
    let (free, of_second) = repository;
    ensure!(
        free.value > 0.0 && free.labels["repository"] == site.repository().display().to_string()
    );
    let size = of_second
        .of("virtuozo_repository_size_bytes")
        .next()
        .context("no size")?;
    ensure!(size.value >= free.value);

    let mut shown = of_worker.catalogue();
    shown.extend(of_second.catalogue());
    shown.extend(scheduler.shows().await?.catalogue());
    let documented = documented()?;
    for (name, metric) in &shown {
        let told = documented.get(name).context("is not documented");
        let told = told.with_context(|| name.clone())?;
        ensure!(
            told == metric,
            "{name}: documented {told:?}, shown {metric:?}"
        );
    }
    for name in documented.keys() {
        ensure!(
            shown.contains_key(name),
            "{name} is documented and not shown"
        );
    }
    again.process.terminate()?;
    scheduler.process.terminate()
}
