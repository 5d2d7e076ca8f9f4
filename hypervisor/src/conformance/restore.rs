//! Checks of restored guests.

use uuid::Uuid;
use virtuozo_disk::BlockSource;

use super::{LIMIT, Merged, Outcome, Violation, ensure, image};
use crate::{
    DiskDescription, DiskProperties, ErrorKind, Firmware, GuestDescription, GuestRef, Host,
    Instant, Restorer,
};

const MIB: u64 = 1 << 20;

/// A guest is made once however often it is asked for, is nobody's until it is registered, holds what was written
/// and zeros, and is removed by its id as long as it is not registered; then it is left alone. Returns the guest
/// that it leaves behind.
///
/// # Errors
/// The first violation.
pub async fn a_guest_is_made_written_registered_and_removed(
    host: &dyn Host,
) -> Result<GuestRef, Violation> {
    let restorer = host.restorer()?;
    let before = listed(host).await?;

    let dropped = description("dropped");
    restorer.create(&dropped, LIMIT).await?;
    restorer.create(&dropped, LIMIT).await?;
    is_unfinished(restorer.as_ref(), &dropped, true).await?;
    ensure(listed(host).await? == before, || {
        "a guest that is not registered is listed".into()
    })?;
    ensure(restorer.remove(dropped.restore_id, LIMIT).await?, || {
        "a guest that was made should be removed".into()
    })?;
    ensure(!restorer.remove(dropped.restore_id, LIMIT).await?, || {
        "the guest should be removed already; it was made twice".into()
    })?;
    is_unfinished(restorer.as_ref(), &dropped, false).await?;
    let gone = restorer.write_disk(dropped.restore_id, "disk0").await;
    ensure(gone.is_err(), || {
        "a disk of a guest that is gone was opened".into()
    })?;

    let kept = description("kept");
    restorer.create(&kept, LIMIT).await?;
    write(restorer.as_ref(), &kept).await?;
    let guest = restorer.register(kept.restore_id, LIMIT).await?;
    ensure(
        restorer.register(kept.restore_id, LIMIT).await? == guest,
        || "registering a guest again gives another one".into(),
    )?;
    is_unfinished(restorer.as_ref(), &kept, false).await?;
    ensure(!restorer.remove(kept.restore_id, LIMIT).await?, || {
        "a guest that is registered was removed as if it were not".into()
    })?;
    ensure(listed(host).await?.contains(&guest), || {
        format!("{} is registered and not listed", guest.locator)
    })?;
    holds_what_was_written(host, &guest).await?;
    Ok(guest)
}

fn description(name: &str) -> GuestDescription {
    let disk = |device: &str, capacity_bytes| DiskDescription {
        device: device.to_owned(),
        capacity_bytes,
        properties: DiskProperties::default(),
    };
    GuestDescription {
        restore_id: Uuid::now_v7(),
        name: name.to_owned(),
        uuid: None,
        firmware: Firmware::Bios,
        cpus: 1,
        memory_bytes: 64 * MIB,
        disks: vec![disk("disk0", 2 * MIB), disk("disk1", MIB)],
        networks: Vec::new(),
        datastore: None,
        node: None,
    }
}

async fn listed(host: &dyn Host) -> Result<Vec<GuestRef>, Violation> {
    Ok(host.facts().await?.guests)
}

async fn is_unfinished(
    restorer: &dyn Restorer,
    guest: &GuestDescription,
    expected: bool,
) -> Outcome {
    let found = restorer.unfinished().await?.contains(&guest.restore_id);
    ensure(found == expected, || {
        format!("{} is unfinished: {found}", guest.name)
    })
}

/// What is written to the first disk, and where: out of order, and not all of it.
const WRITES: [(u64, u8); 3] = [(MIB, 3), (4096, 1), (2 * MIB - 512, 7)];

async fn write(restorer: &dyn Restorer, guest: &GuestDescription) -> Outcome {
    let mut disk = restorer.write_disk(guest.restore_id, "disk0").await?;
    ensure(disk.size_bytes() == 2 * MIB, || {
        format!("disk0 has {} bytes", disk.size_bytes())
    })?;
    for (offset, byte) in WRITES {
        disk.write_at(offset, &[byte; 512])?;
    }
    ensure(disk.write_at(2 * MIB - 511, &[0; 512]).is_err(), || {
        "something was written past the end of a disk".into()
    })?;
    disk.finish()?;
    match restorer.write_disk(guest.restore_id, "disk7").await {
        Err(error) if error.kind == ErrorKind::GuestInvalid => Ok(()),
        Err(error) => Err(Violation(format!(
            "an unknown disk is {:?}: {error}",
            error.kind
        ))),
        Ok(_) => Err(Violation("a disk that is not there was opened".into())),
    }
}

async fn holds_what_was_written(host: &dyn Host, guest: &GuestRef) -> Outcome {
    let opened = host.guest(guest).await?;
    let image = image(opened.as_ref(), &Instant::PoweredOff, &[]).await?;
    let devices: Vec<_> = image
        .files
        .iter()
        .filter_map(|f| f.device.as_ref())
        .collect();
    ensure(devices.len() == 2, || {
        format!("the guest has the disks {devices:?}")
    })?;
    for file in &image.files {
        let disk = Merged::of(&image, &file.name)
            .ok_or_else(|| Violation(format!("{} lacks a parent", file.name)))?;
        let mut bytes = vec![0; usize::try_from(disk.size_bytes()).unwrap_or(0)];
        disk.read_at(0, &mut bytes)?;
        let mut expected = vec![0; bytes.len()];
        if file.device.as_deref() == Some("disk0") {
            for (offset, byte) in WRITES {
                let from = offset as usize;
                expected[from..from + 512].fill(byte);
            }
        }
        ensure(bytes == expected, || {
            format!("{} does not hold what was written", file.name)
        })?;
    }
    Ok(())
}
