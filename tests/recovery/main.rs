//! A worker is killed with SIGKILL in each step; another takes over, and nothing is worse than before.

use anyhow::{Context, Result, ensure};
use disk::vmdk::DiskKind;
use tests::{PointDisks, Site, eventually};
use vix::lab::{DiskSpec, GuestSpec, LabGuest, Power, Product};

/// A running guest with two disks and a foreign snapshot.
fn running_guest(site: &Site, mode: &str) -> Result<LabGuest> {
    let host = site.host("alpha", Product::WorkstationShared)?;
    site.virtuozo(&["settings", "set", "mode", mode])?.ok()?;
    let disks = vec![
        DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 16 << 20),
        DiskSpec::new("scsi0:1", DiskKind::MonolithicFlat, 8 << 20),
    ];
    let mut spec = GuestSpec::new("mail", disks);
    spec.power = Power::On;
    spec.foreign_snapshots = vec!["before-update".to_owned()];
    Ok(host.guest(&spec)?)
}

/// Kills the worker that comes to `place` there, lets another finish, and holds the outcome against
/// what must be true after any crash.
async fn survives_kill_9(mode: &str, place: &str) -> Result<()> {
    let mut site = Site::new().await?;
    let guest = running_guest(&site, mode)?;
    let reached = site.path("reached");
    site.start(0)?;
    let mut victim = site.spawn(
        "victim",
        &["worker", "--name", "victim"],
        &[
            ("VIRTUOZO_HOLD_AT", place.as_ref()),
            ("VIRTUOZO_HOLD_FILE", &reached),
        ],
    )?;
    let run = site.start_run()?;
    eventually(&format!("the worker to come to {place}"), async || {
        Ok(reached.exists().then_some(()))
    })
    .await
    .with_context(|| victim.said())?;
    victim.kill_9()?;

    site.start_worker("successor")?;
    let shown = site.ended(&run).await?;
    ensure!(
        shown["state"] == "succeeded",
        "{place}: {shown:#}\n{}",
        site.logs()
    );
    site.nothing_owed().await?;

    ensure!(
        guest.power()? == Power::On,
        "{place}: the guest was left {:?}",
        guest.power()?
    );
    ensure!(
        guest.snapshots()? == ["before-update"],
        "{place}: snapshots now: {:?}",
        guest.snapshots()?
    );
    let point = site.only_point("mail").await?;
    let stamps = vix::stamps::check(guest.seed()?, &PointDisks::open(&point)?.sources())
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("{place}: the restore point is no single instant"))?;
    ensure!(stamps > 0, "{place}: the guest had written nothing");
    site.virtuozo(&["point", "verify", "--all"])?.ok()?;
    // The next backup sweeps what the killed attempt left in the repository.
    let again = site.back_up().await?;
    ensure!(
        again["state"] == "succeeded",
        "{place}: the next run: {again:#}"
    );
    ensure!(
        site.leftovers()?.is_empty(),
        "{place}: left in the repository: {:?}",
        site.leftovers()?
    );
    site.stop()
}

macro_rules! killed_at {
    ($($test:ident: $mode:literal $place:literal;)+) => {$(
        #[tokio::test]
        async fn $test() -> Result<()> {
            survives_kill_9($mode, $place).await
        }
    )+};
}

killed_at! {
    a_worker_killed_while_it_validates_is_replaced: "auto" "validate.effect";
    a_worker_killed_before_it_takes_the_snapshot_it_owes_is_replaced: "hot" "snapshot.owed";
    a_worker_killed_before_it_records_its_snapshot_leaves_none: "hot" "snapshot.effect";
    a_worker_killed_after_it_recorded_its_snapshot_is_replaced: "hot" "snapshot.recorded";
    a_worker_killed_in_the_middle_of_a_hot_copy_is_replaced: "hot" "copy.middle";
    a_worker_killed_before_it_records_a_hot_copy_is_replaced: "hot" "copy.effect";
    a_worker_killed_before_it_removes_its_snapshot_is_replaced: "hot" "commit.before";
    a_worker_killed_after_it_removed_its_snapshot_is_replaced: "hot" "commit.effect";
    a_worker_killed_before_it_publishes_a_hot_backup_is_replaced: "hot" "publish.before";
    a_worker_killed_between_the_rename_and_the_record_publishes_once: "hot" "publish.effect";
    a_worker_killed_before_it_powers_a_guest_off_is_replaced: "cold" "power_off.owed";
    a_worker_killed_after_it_powered_a_guest_off_brings_it_back_in_the_end: "cold" "power_off.effect";
    a_worker_killed_in_the_middle_of_a_cold_copy_is_replaced: "cold" "copy.middle";
    a_worker_killed_before_it_powers_a_guest_on_again_is_replaced: "cold" "power_on.before";
    a_worker_killed_after_it_powered_a_guest_on_is_replaced: "cold" "power_on.effect";
    a_worker_killed_before_it_records_a_cold_backup_publishes_once: "cold" "publish.effect";
}

#[tokio::test]
async fn a_point_that_was_published_by_a_worker_killed_right_after_is_there_once() -> Result<()> {
    let mut site = Site::new().await?;
    let guest = running_guest(&site, "hot")?;
    let reached = site.path("reached");
    site.start(0)?;
    let mut victim = site.spawn(
        "victim",
        &["worker", "--name", "victim"],
        &[
            ("VIRTUOZO_HOLD_AT", "publish.recorded".as_ref()),
            ("VIRTUOZO_HOLD_FILE", &reached),
        ],
    )?;
    let run = site.start_run()?;
    eventually("the point to be published", async || {
        Ok(reached.exists().then_some(()))
    })
    .await?;
    victim.kill_9()?;
    site.start_worker("successor")?;
    let shown = site.ended(&run).await?;
    ensure!(shown["state"] == "succeeded", "{shown:#}");
    site.only_point("mail").await?;
    ensure!(guest.snapshots()? == ["before-update"]);
    site.stop()
}
