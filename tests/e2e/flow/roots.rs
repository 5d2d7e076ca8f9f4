//! What the database names is read and written only where the machine's own configuration allows.

use anyhow::{Context, Result, ensure};
use tests::{Site, small_guest};
use vix::lab::Product;

#[tokio::test]
async fn a_worker_reads_and_writes_only_below_the_roots_of_its_machine() -> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    small_guest(&host, "mail")?;
    site.start_scheduler("scheduler")?;
    let elsewhere = site.path("elsewhere");
    std::fs::create_dir(&elsewhere)?;
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    for (variable, setting, refused) in [
        ("VIRTUOZO_WRITE_ROOTS", "write_roots", site.repository()),
        ("VIRTUOZO_READ_ROOTS", "read_roots", site.path("lab")),
    ] {
        let mut worker = site.spawn(setting, &["worker"], &[(variable, &elsewhere)])?;
        let run = site.back_up().await?;
        ensure!(run["state"] == "failed", "{run:#}");
        let guest = &run["guest_runs"][0];
        ensure!(guest["error_class"] == "operator", "{run:#}");
        let why = guest["error"].as_str().context("no error")?;
        for part in [setting, machine.trim(), &*refused.to_string_lossy()] {
            ensure!(why.contains(part), "{part} is not in {why}");
        }
        worker.terminate()?;
    }
    let everything = site.path("");
    let roots = [
        ("VIRTUOZO_WRITE_ROOTS", &*everything),
        ("VIRTUOZO_READ_ROOTS", &*everything),
    ];
    let mut worker = site.spawn("allowed", &["worker"], &roots)?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    worker.terminate()?;
    site.stop()
}
