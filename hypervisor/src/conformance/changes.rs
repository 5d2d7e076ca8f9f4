//! Checks of changed ranges between two instants.

use std::collections::BTreeSet;

use virtuozo_disk::BlockSource;

use super::{
    LIMIT, Merged, Outcome, Violation, an_image_is_well_made, ensure, freeze, image, new_name,
    open, request,
};
use crate::{
    ByteRange, ChangeId, ChangeIds, ChangedRanges, DiskChanges, Guest, GuestImage, Instant,
};

/// Every device of the image has its changes and no other, ranges are in order, apart and within the disk, and a
/// disk whose changes are known is one file.
pub(super) fn changes_are_well_made(image: &GuestImage) -> Outcome {
    let devices: BTreeSet<&String> = image
        .files
        .iter()
        .filter_map(|file| file.device.as_ref())
        .collect();
    ensure(devices == image.changes.keys().collect(), || {
        format!(
            "the devices are {devices:?}, and changes are reported of {:?}",
            image.changes.keys()
        )
    })?;
    for (device, changes) in &image.changes {
        let mut files = image
            .files
            .iter()
            .filter(|file| file.device.as_ref() == Some(device));
        match &changes.since {
            ChangedRanges::Unknown { because } => ensure(!because.trim().is_empty(), || {
                format!("{device}: nobody says why its changes are unknown")
            })?,
            ChangedRanges::Known(ranges) => {
                let (first, second) = (files.next(), files.next());
                ensure(second.is_none(), || {
                    format!("{device} has several files, so its changes mean none of them")
                })?;
                let size = first.map_or(0, |file| file.source.size_bytes());
                ranges_are_well_made(device, ranges, size)?;
            }
        }
    }
    Ok(())
}

fn ranges_are_well_made(device: &str, ranges: &[ByteRange], size: u64) -> Outcome {
    let mut end = None;
    for range in ranges {
        let fits = end.is_none_or(|end| range.offset_bytes > end)
            && range.len_bytes > 0
            && range
                .offset_bytes
                .checked_add(range.len_bytes)
                .is_some_and(|end| end <= size);
        ensure(fits, || {
            format!("{device}: the changed range {range:?} is out of order or place")
        })?;
        end = Some(range.offset_bytes + range.len_bytes);
    }
    Ok(())
}

/// A back end that follows no changes says for every disk why, makes no change ids and has none to forget. The
/// guest must run.
///
/// # Errors
/// The first violation.
pub async fn unknown_changes_have_a_reason(guest: &dyn Guest) -> Outcome {
    let name = new_name();
    freeze(guest, &name).await?;
    let looked = image(guest, &Instant::Frozen(name.clone()), &[]).await;
    guest.release(&name, LIMIT).await?;
    let looked = looked?;
    changes_are_well_made(&looked)?;
    for (device, DiskChanges { change_id, since }) in &looked.changes {
        ensure(
            change_id.is_none() && matches!(since, ChangedRanges::Unknown { .. }),
            || format!("{device} has changes, but the back end should follow none"),
        )?;
    }
    ensure(guest.facts().await?.change_ids.is_empty(), || {
        "the host keeps something for change ids that nobody made".into()
    })?;
    let made_up = ChangeId::new("made up").map_err(|error| Violation(error.to_string()))?;
    ensure(!guest.forget(&made_up).await?, || {
        "forgetting a change id that never was should report that there was nothing".into()
    })
}

/// From instant to instant a back end reports what has changed: with what it reports, an older copy becomes the newer
/// one, byte for byte. A mark that is forgotten, or was never made, makes changes unknown, and so does asking for
/// another one than the guest was frozen for, unless the answer is right all the same. `write` changes the running
/// guest's disks. Nothing is kept on the host afterwards.
///
/// # Errors
/// The first violation.
pub async fn changes_are_reported_from_instant_to_instant(
    guest: &dyn Guest,
    mut write: impl AsyncFnMut(),
) -> Outcome {
    let nothing = ChangeIds::new();
    let first = instant(guest, &nothing, &nothing).await?;
    for (device, one) in &first {
        ensure(matches!(one.since, ChangedRanges::Unknown { .. }), || {
            format!("{device}: compared with nothing, changes should be unknown")
        })?;
    }
    let marks = change_ids(&first)?;

    write().await;
    let second = instant(guest, &marks, &marks).await?;
    brings_up_to_date(&first, &second)?;
    ensure(second != first, || "the guest was not written to".into())?;
    let later_marks = change_ids(&second)?;
    ensure(later_marks != marks, || {
        "two instants have the same change ids".into()
    })?;

    // Nothing was written since.
    let third = instant(guest, &later_marks, &later_marks).await?;
    brings_up_to_date(&second, &third)?;

    // Frozen without a mark, and asked about one.
    write().await;
    let fourth = instant(guest, &nothing, &marks).await?;
    brings_up_to_date(&first, &fourth)?;

    let never = ChangeId::new("never made").map_err(|error| Violation(error.to_string()))?;
    let unknown: ChangeIds = marks
        .keys()
        .map(|one| (one.clone(), never.clone()))
        .collect();
    for (device, one) in instant(guest, &unknown, &unknown).await? {
        ensure(matches!(one.since, ChangedRanges::Unknown { .. }), || {
            format!("{device}: changes since an instant that never was should be unknown")
        })?;
    }

    for id in guest.facts().await?.change_ids {
        ensure(guest.forget(&id).await?, || {
            format!("{id} is kept on the host and should be forgotten")
        })?;
        ensure(!guest.forget(&id).await?, || {
            format!("{id} should be forgotten already")
        })?;
    }
    ensure(guest.facts().await?.change_ids.is_empty(), || {
        "something is still kept on the host".into()
    })?;
    let last = instant(guest, &marks, &marks).await?;
    brings_up_to_date(&first, &last)?;
    for id in guest.facts().await?.change_ids {
        guest.forget(&id).await?;
    }
    Ok(())
}

/// One disk at one instant.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    bytes: Vec<u8>,
    change_id: Option<ChangeId>,
    since: ChangedRanges,
}

type Instants = std::collections::BTreeMap<String, Seen>;

/// Freezes the guest, reads all its disks and releases it.
async fn instant(
    guest: &dyn Guest,
    frozen_for: &ChangeIds,
    asked_about: &ChangeIds,
) -> Result<Instants, Violation> {
    let name = new_name();
    guest.freeze(&request(&name, frozen_for)).await?;
    let looked = guest
        .image(&Instant::Frozen(name.clone()), asked_about, &[])
        .await
        .and_then(open);
    let read = looked.map_err(Violation::from).and_then(|image| {
        an_image_is_well_made(&image)?;
        read(&image)
    });
    guest.release(&name, LIMIT).await?;
    read
}

fn read(image: &GuestImage) -> Result<Instants, Violation> {
    let mut seen = Instants::new();
    for file in &image.files {
        let Some(device) = &file.device else { continue };
        let Some(changes) = image.changes.get(device) else {
            continue;
        };
        let whole = Merged::of(image, &file.name)
            .ok_or_else(|| Violation(format!("{} lacks a parent", file.name)))?;
        let size = usize::try_from(whole.size_bytes())
            .map_err(|_| Violation(format!("{} is too large for a test", file.name)))?;
        let mut bytes = vec![0; size];
        whole.read_at(0, &mut bytes)?;
        // The last link of a device stands after its parents.
        seen.insert(
            device.clone(),
            Seen {
                bytes,
                change_id: changes.change_id.clone(),
                since: changes.since.clone(),
            },
        );
    }
    Ok(seen)
}

fn change_ids(seen: &Instants) -> Result<ChangeIds, Violation> {
    seen.iter()
        .map(|(device, one)| match &one.change_id {
            Some(id) => Ok((device.clone(), id.clone())),
            None => Err(Violation(format!("{device} has no change id"))),
        })
        .collect()
}

/// With the changes it names, the older copy becomes the newer one; unless they are unknown.
fn brings_up_to_date(older: &Instants, newer: &Instants) -> Outcome {
    for (device, new) in newer {
        let (ChangedRanges::Known(ranges), Some(old)) = (&new.since, older.get(device)) else {
            continue;
        };
        let mut bytes = old.bytes.clone();
        for range in ranges {
            let (from, len) = (range.offset_bytes as usize, range.len_bytes as usize);
            bytes[from..from + len].copy_from_slice(&new.bytes[from..from + len]);
        }
        ensure(bytes == new.bytes, || {
            format!("{device}: something has changed outside of the ranges that were reported")
        })?;
    }
    Ok(())
}
