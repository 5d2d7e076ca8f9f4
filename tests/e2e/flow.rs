//! The main job from outside: guests are backed up hot and cold, verified, restored, and left as they were.

mod administrator;
mod changed_limits;
mod commands;
mod datastores;
mod events;
mod foreign_files;
mod forged;
mod hooks;
mod leftovers;
mod limits;
mod lost_database;
mod mixed;
mod mounts;
mod names;
mod notices;
mod points;
mod requests;
mod roots;

use anyhow::{Context, Result, ensure};
use tests::{PointDisks, Site};
use virtuozo_disk::vmdk::DiskKind;
use vix::{
    lab::{DiskSpec, GuestSpec, LabGuest, Power, Product},
    stamps,
};

/// Two disks of different kinds.
fn two_disks() -> Vec<DiskSpec> {
    vec![
        DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 32 << 20),
        DiskSpec::new("scsi0:1", DiskKind::TwoGbMaxExtentSparse, 16 << 20),
    ]
}

/// The number of the last write in a restore point, which must hold exactly the writes up to it.
async fn last_write_in_point(site: &Site, guest: &LabGuest, name: &str) -> Result<u64> {
    let disks = PointDisks::open(&site.only_point(name).await?)?;
    stamps::check(guest.seed()?, &disks.sources()).map_err(anyhow::Error::msg)
}

#[tokio::test]
async fn a_hot_backup_of_a_writing_guest_holds_exactly_the_writes_up_to_one_instant() -> Result<()>
{
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    let mut spec = GuestSpec::new("mail", two_disks());
    spec.power = Power::On;
    let guest = host.guest(&spec)?;
    site.start(1)?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    ensure!(run["guest_runs"][0]["mode"] == "hot", "{run:#}");

    let in_point = last_write_in_point(&site, &guest, "mail").await?;
    ensure!(
        in_point > 0,
        "the guest had written nothing before the backup"
    );
    ensure!(guest.power()? == Power::On);
    ensure!(
        guest.snapshots()?.is_empty(),
        "snapshots now: {:?}",
        guest.snapshots()?
    );
    guest.power_off()?;
    let in_guest = guest
        .last_stamp()?
        .context("a guest that was shut down knows its last write")?;
    ensure!(
        in_guest > in_point,
        "the guest did not write on while it was backed up"
    );
    site.stop()
}

#[tokio::test]
async fn a_cold_backup_of_a_running_guest_holds_all_its_writes_and_powers_it_on_again() -> Result<()>
{
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::Server2)?;
    site.virtuozo(&["settings", "set", "mode", "cold"])?.ok()?;
    let mut spec = GuestSpec::new("mail", two_disks());
    spec.power = Power::On;
    let guest = host.guest(&spec)?;
    site.start(1)?;
    let run = site.back_up().await?;
    ensure!(
        run["state"] == "succeeded" && run["guest_runs"][0]["mode"] == "cold",
        "{run:#}"
    );
    ensure!(
        guest.power()? == Power::On,
        "the guest was not powered on again"
    );
    ensure!(last_write_in_point(&site, &guest, "mail").await? > 0);
    site.stop()
}

#[tokio::test]
async fn a_cold_backup_of_a_guest_that_is_off_holds_its_very_last_write() -> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::Server2)?;
    let mut spec = GuestSpec::new("mail", two_disks());
    spec.power = Power::On;
    let guest = host.guest(&spec)?;
    guest.power_off()?;
    let last = guest
        .last_stamp()?
        .context("a guest that was shut down knows its last write")?;
    site.start(1)?;
    let run = site.back_up().await?;
    ensure!(
        run["state"] == "succeeded" && run["guest_runs"][0]["mode"] == "cold",
        "{run:#}"
    );
    ensure!(last_write_in_point(&site, &guest, "mail").await? == last);
    ensure!(
        guest.power()? == Power::Off,
        "a guest that was off was left on"
    );
    site.stop()
}

#[tokio::test]
async fn without_resume_power_state_a_cold_backup_leaves_the_guest_off() -> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::Server2)?;
    site.virtuozo(&["settings", "set", "mode", "cold"])?.ok()?;
    site.virtuozo(&["settings", "set", "resume_power_state", "false"])?
        .ok()?;
    let mut spec = GuestSpec::new("mail", two_disks());
    spec.power = Power::On;
    let guest = host.guest(&spec)?;
    site.start(1)?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    ensure!(guest.power()? == Power::Off);
    let last = guest
        .last_stamp()?
        .context("a guest that was shut down knows its last write")?;
    ensure!(last_write_in_point(&site, &guest, "mail").await? == last);
    site.stop()
}

#[tokio::test]
async fn without_backup_when_off_a_guest_that_is_off_is_skipped_and_says_so() -> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::Server2)?;
    site.virtuozo(&["settings", "set", "backup_when_off", "false"])?
        .ok()?;
    host.guest(&GuestSpec::new("mail", two_disks()))?;
    site.start(1)?;
    let run = site.back_up().await?;
    ensure!(
        run["state"] == "succeeded" && run["guest_runs"][0]["state"] == "skipped",
        "{run:#}"
    );
    let guests = site.json(&["guest", "list"])?;
    ensure!(guests[0]["state"] == "powered_off", "{guests:#}");
    site.stop()
}

#[tokio::test]
async fn a_restored_guest_equals_its_point_keeps_its_foreign_snapshots_and_boots() -> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    let mut spec = GuestSpec::new("mail", two_disks());
    spec.power = Power::On;
    spec.foreign_snapshots = vec!["before-update".to_owned(), "second".to_owned()];
    let guest = host.guest(&spec)?;
    site.start(1)?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    ensure!(
        guest.snapshots()? == ["before-update", "second"],
        "{:?}",
        guest.snapshots()?
    );

    let point = site.only_point("mail").await?;
    let in_point = last_write_in_point(&site, &guest, "mail").await?;
    let to = site.path("restored");
    let id = site.json(&["point", "list"])?[0]["id"]
        .as_str()
        .context("no id")?
        .to_owned();
    site.virtuozo(&["restore", &id, "--to", &to.display().to_string()])?
        .ok()?;
    ensure!(PointDisks::open(&point)?.same_bytes(&PointDisks::open(&to)?)?);

    let restored = LabGuest::at(to.join("mail.vmx"));
    ensure!(
        restored.snapshots()? == ["before-update", "second"],
        "{:?}",
        restored.snapshots()?
    );
    restored.power_on()?;
    restored.power_off()?;
    let after = restored
        .last_stamp()?
        .context("a guest that was shut down knows its last write")?;
    ensure!(
        after >= in_point,
        "the restored guest began at {after}, its point held {in_point}"
    );
    // What the restored guest wrote stands on top of what was restored, all of it.
    ensure!(restored.check(&restored.current_disks()?)? == after);
    restored.remove_snapshot("before-update")?;
    restored.remove_snapshot("second")?;
    ensure!(restored.check(&restored.current_disks()?)? == after);
    site.stop()
}
