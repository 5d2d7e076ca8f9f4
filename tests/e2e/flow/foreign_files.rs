//! Guests whose files name files that are not theirs: nothing of those is read, and the guest says which it was.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::Site;
use virtuozo_disk::vmdk::{DiskKind, create_delta};
use vix::lab::{DiskSpec, GuestSpec, LabHost, Product};

/// What no restore point may hold.
const SECRET: &str = "the secret of this machine";

/// Adds a guest that is off, changes its files, and adds lines to its configuration.
fn guest(
    host: &LabHost,
    name: &str,
    lines: &str,
    change: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let disk = DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 1 << 20);
    let guest = host.guest(&GuestSpec::new(name, vec![disk]))?;
    // Of two lines of one key the first would count.
    let key = |line: &str| {
        line.split_once('=')
            .map(|(key, _)| key.trim().to_lowercase())
    };
    let new: Vec<_> = lines.lines().filter_map(key).collect();
    let text = fs::read_to_string(guest.vmx())?;
    let mut text: String = text
        .lines()
        .filter(|line| key(line).is_none_or(|key| !new.contains(&key)))
        .map(|line| format!("{line}\n"))
        .collect();
    text.push_str(lines);
    fs::write(guest.vmx(), text)?;
    change(guest.vmx().parent().context("no folder")?)
}

fn state_of<'a>(guests: &'a Value, name: &str) -> Result<&'a Value> {
    let guests = guests.as_array().context("no guests")?;
    let found = guests.iter().find(|guest| guest["name"] == name);
    found.with_context(|| format!("no guest {name}"))
}

/// Files below a directory whose content has a text.
fn with_text(dir: &Path, text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(with_text(&path, text)?);
        } else if String::from_utf8_lossy(&fs::read(&path)?).contains(text) {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

#[tokio::test]
async fn a_guest_that_names_files_of_others_is_invalid_and_names_them_while_the_rest_is_backed_up()
-> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    let secret = site.path("secret");
    fs::write(&secret, SECRET.repeat(100))?;
    let named = secret.display().to_string();
    let none = |_: &Path| Ok(());
    guest(&host, "nvram", &format!("nvram = \"{named}\"\n"), none)?;
    guest(
        &host,
        "state",
        "checkpoint.vmState = \"../../../../../../../../../../../etc/hostname\"\n",
        none,
    )?;
    guest(&host, "linked", "nvram = \"firmware\"\n", |folder| {
        Ok(symlink(&secret, folder.join("firmware"))?)
    })?;
    guest(&host, "pipe", "nvram = \"pipe\"\n", |folder| {
        let made = Command::new("mkfifo").arg(folder.join("pipe")).status()?;
        ensure!(made.success(), "no pipe");
        Ok(())
    })?;
    let extra = "scsi0:1.present = \"TRUE\"\nscsi0:1.fileName = \"extra.vmdk\"\n";
    guest(&host, "extent", extra, |folder| {
        let line = format!("RW 4 FLAT \"{named}\" 0");
        Ok(fs::write(
            folder.join("extra.vmdk"),
            format!(
                "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n\
                 createType=\"monolithicFlat\"\n{line}\n"
            ),
        )?)
    })?;
    guest(&host, "good", "", none)?;
    let good = "scsi0:1.present = \"TRUE\"\nscsi0:1.fileName = \"../good/disk0.vmdk\"\n";
    guest(&host, "thief", good, |folder| {
        let disks = fs::read_dir(folder.with_file_name("good"))?;
        let disk = disks
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|ext| ext == "vmdk"))
            .context("no disk")?;
        let again = disk.with_file_name("disk0.vmdk");
        if !again.exists() {
            fs::hard_link(&disk, again)?;
        }
        let clone = folder.with_file_name("clone");
        fs::create_dir(&clone)?;
        create_delta(clone.join("clone.vmdk"), disk)?;
        Ok(())
    })?;
    let extra = "scsi0:1.present = \"TRUE\"\nscsi0:1.fileName = \"../clone/clone.vmdk\"\n";
    guest(&host, "borrower", extra, none)?;

    site.start(1)?;
    let run = site.back_up().await?;
    let guests = site.json(&["guest", "list"])?;
    for (name, path) in [
        ("nvram", named.as_str()),
        ("state", "etc/hostname"),
        ("linked", "firmware"),
        ("pipe", "pipe/pipe"),
        ("extent", named.as_str()),
        ("thief", "good/disk0.vmdk"),
    ] {
        let guest = state_of(&guests, name)?;
        ensure!(guest["state"] == "invalid", "{guest:#}");
        let reason = guest["state_reason"].as_str().unwrap_or_default();
        ensure!(reason.contains(path), "{name}: {reason}");
        ensure!(site.only_point(name).await.is_err(), "{name} has a point");
    }
    for name in ["good", "borrower"] {
        let guest = state_of(&guests, name)?;
        ensure!(guest["state"] == "ok", "{guest:#}\n{run:#}");
        site.only_point(name).await?;
    }
    let found = with_text(&site.repository(), SECRET)?;
    ensure!(found.is_empty(), "{found:?}");
    let events = site.json(&["events"])?.to_string();
    ensure!(
        events.contains("in the folder of another guest") && events.contains("/good/"),
        "nobody is told of the parent: {events}"
    );
    site.virtuozo(&["point", "verify", "--all"])?.ok()?;
    site.stop()
}
