//! What every back end has to do, as functions that hold it against the port.
//!
//! Each returns a sentence about the first thing that does not hold. They leave a guest as they find
//! it, unless they fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use uuid::Uuid;
use virtuozo_disk::{BlockRange, BlockSource, DiskError, RangeKind, ranges};

use crate::{
    ErrorKind, Guest, GuestImage, GuestRef, Host, HypervisorError, ImageFile, ImageFormat, Instant,
    PowerOff, PowerState, snapshot_name,
};

/// How long a single operation may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A back end does not keep to the port; a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(String);

impl From<HypervisorError> for Violation {
    fn from(error: HypervisorError) -> Self {
        Self(format!("{:?}: {error}", error.kind))
    }
}

impl From<DiskError> for Violation {
    fn from(error: DiskError) -> Self {
        Self(error.to_string())
    }
}

type Outcome<T = ()> = Result<T, Violation>;

fn hold(holds: bool, sentence: impl FnOnce() -> String) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(Violation(sentence()))
    }
}

/// Power operations reach their state, and repeating one changes nothing. The guest must run.
///
/// # Errors
/// What does not hold.
pub async fn power_operations_are_idempotent(guest: &dyn Guest) -> Outcome {
    let is = async |wanted: PowerState, when: &str| -> Outcome {
        let found = guest.power_state().await?;
        hold(found == wanted, || {
            format!("the guest is {found:?}, not {wanted:?}, {when}")
        })
    };
    let how = PowerOff {
        soft_limit: LIMIT,
        hard_limit: LIMIT,
    };
    is(PowerState::On, "at the beginning").await?;
    guest.power_on(LIMIT).await?;
    is(PowerState::On, "after it was powered on while on").await?;
    guest.power_off(how).await?;
    is(PowerState::Off, "after it was powered off").await?;
    guest.power_off(how).await?;
    is(PowerState::Off, "after it was powered off while off").await?;
    guest.power_on(LIMIT).await?;
    is(PowerState::On, "after it was powered on").await
}

/// A snapshot is made and removed by its exact name, and nothing else changes. The guest may have
/// foreign snapshots.
///
/// # Errors
/// What does not hold.
pub async fn snapshots_are_made_and_removed_exactly(guest: &dyn Guest) -> Outcome {
    let before = guest.snapshots().await?;
    let name = snapshot_name::make(Uuid::now_v7(), 1);
    hold(!guest.remove_snapshot(&name, LIMIT).await?, || {
        "removing a snapshot that never was should tell that there was none".into()
    })?;
    guest.create_snapshot(&name, "conformance", LIMIT).await?;
    let outcome = async {
        let with = guest.snapshots().await?;
        let mut expected: BTreeSet<&String> = before.iter().collect();
        expected.insert(&name);
        hold(
            with.len() == before.len() + 1 && with.iter().collect::<BTreeSet<_>>() == expected,
            || format!("{before:?} and {name} should be there, but there is {with:?}"),
        )?;
        hold(
            guest.create_snapshot(&name, "again", LIMIT).await.is_err(),
            || "a second snapshot of the same name should be refused".into(),
        )?;
        for other in [&name[..name.len() - 1], &format!("{name}0"), "virtuozo"] {
            hold(!guest.remove_snapshot(other, LIMIT).await?, || {
                format!("{other} was removed, but is not there")
            })?;
        }
        hold(guest.snapshots().await? == with, || {
            "removing absent snapshots changed the list".into()
        })
    }
    .await;
    let removed = guest.remove_snapshot(&name, LIMIT).await?;
    outcome?;
    hold(removed, || format!("{name} should have been there"))?;
    hold(!guest.remove_snapshot(&name, LIMIT).await?, || {
        format!("{name} should be gone")
    })?;
    let after = guest.snapshots().await?;
    hold(after == before, || {
        format!("the snapshots were {before:?} and are now {after:?}")
    })
}

/// The image of a running guest under our snapshot is well made, holds all foreign snapshots and not
/// ours. `check` may look closer. The snapshot is removed afterwards.
///
/// # Errors
/// What does not hold.
pub async fn a_hot_image_is_consistent(
    guest: &dyn Guest,
    check: impl AsyncFnOnce(&GuestImage) -> Outcome,
) -> Outcome {
    let before = guest.snapshots().await?;
    let name = snapshot_name::make(Uuid::now_v7(), 1);
    hold(
        matches!(
            guest.image(&Instant::Snapshot(name.clone()), &[]).await,
            Err(HypervisorError {
                kind: ErrorKind::SnapshotNotFound,
                ..
            })
        ),
        || "the image of an absent snapshot should be refused".into(),
    )?;
    guest.create_snapshot(&name, "conformance", LIMIT).await?;
    let outcome = async {
        let image = guest.image(&Instant::Snapshot(name.clone()), &[]).await?;
        hold(image.foreign_snapshots == before, || {
            format!(
                "the image holds the snapshots {:?}, the guest {before:?}",
                image.foreign_snapshots
            )
        })?;
        an_image_is_well_made(&image)?;
        check(&image).await
    }
    .await;
    guest.remove_snapshot(&name, LIMIT).await?;
    outcome?;
    hold(guest.snapshots().await? == before, || {
        "the foreign snapshots changed".into()
    })
}

/// A running guest has no cold image; one that is off has a well made one. The guest must run, and
/// runs again afterwards.
///
/// # Errors
/// What does not hold.
pub async fn a_cold_image_needs_a_guest_that_is_off(
    guest: &dyn Guest,
    check: impl AsyncFnOnce(&GuestImage) -> Outcome,
) -> Outcome {
    hold(
        matches!(
            guest.image(&Instant::PoweredOff, &[]).await,
            Err(HypervisorError {
                kind: ErrorKind::PowerState,
                ..
            })
        ),
        || "a cold image of a running guest should be refused".into(),
    )?;
    guest
        .power_off(PowerOff {
            soft_limit: LIMIT,
            hard_limit: LIMIT,
        })
        .await?;
    let outcome = async {
        let image = guest.image(&Instant::PoweredOff, &[]).await?;
        an_image_is_well_made(&image)?;
        check(&image).await
    }
    .await;
    guest.power_on(LIMIT).await?;
    outcome
}

/// Ignored disks are not in the image, and ignoring all of them is refused. The guest must be off
/// and have more than one disk.
///
/// # Errors
/// What does not hold.
pub async fn ignored_disks_are_left_out(guest: &dyn Guest) -> Outcome {
    let devices: Vec<String> = guest
        .facts()
        .await?
        .disks
        .into_iter()
        .map(|disk| disk.device)
        .collect();
    let (first, rest) = devices
        .split_first()
        .filter(|(_, rest)| !rest.is_empty())
        .ok_or_else(|| Violation("the guest needs two disks".into()))?;
    let image = guest
        .image(&Instant::PoweredOff, std::slice::from_ref(first))
        .await?;
    an_image_is_well_made(&image)?;
    let there: BTreeSet<&String> = image
        .files
        .iter()
        .filter_map(|f| f.device.as_ref())
        .collect();
    hold(there == rest.iter().collect(), || {
        format!("without {first} the image holds {there:?}")
    })?;
    hold(
        guest.image(&Instant::PoweredOff, &devices).await.is_err(),
        || "an image without any disk should be refused".into(),
    )
}

/// A guest that the host does not have is an answer, not an error.
///
/// # Errors
/// What does not hold.
pub async fn an_unknown_guest_has_a_problem(host: &dyn Host, guest: &GuestRef) -> Outcome {
    let facts = host.guest(guest).await?.facts().await?;
    hold(facts.problem.is_some(), || {
        format!("{} should have a problem", guest.vmx_path)
    })
}

/// Closing twice is no error; afterwards every call says that the connection is lost.
///
/// # Errors
/// What does not hold.
pub async fn a_closed_host_says_so(host: &dyn Host) -> Outcome {
    host.close().await;
    host.close().await;
    match host.facts().await {
        Err(error) if error.kind == ErrorKind::ConnectionLost => Ok(()),
        other => Err(Violation(format!(
            "a closed connection should be lost, not {other:?}"
        ))),
    }
}

/// Names are unique and plain, parents stand before their children and have their size, and every
/// file can be walked from end to end.
///
/// # Errors
/// What does not hold.
pub fn an_image_is_well_made(image: &GuestImage) -> Outcome {
    let mut names = BTreeSet::new();
    let small = image.small.iter().map(|file| &file.name);
    for name in small.chain(image.files.iter().map(|file| &file.name)) {
        hold(names.insert(name.to_lowercase()), || {
            format!("two files are called {name}")
        })?;
        hold(!name.is_empty() && !name.contains(['/', '\\']), || {
            format!("{name:?} is no plain name")
        })?;
    }
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for file in &image.files {
        let size = file.source.size_bytes();
        if let ImageFormat::Vmdk {
            parent: Some(parent),
            ..
        } = &file.format
        {
            hold(sizes.get(parent.as_str()) == Some(&size), || {
                format!(
                    "the parent {parent} of {} is not before it with its size",
                    file.name
                )
            })?;
        }
        let mut covered = 0;
        for range in ranges(file.source.as_ref()) {
            let range = range?;
            hold(range.offset_bytes == covered && range.len_bytes > 0, || {
                format!("{} has a gap at {covered}", file.name)
            })?;
            covered = range.end_bytes();
        }
        hold(covered == size, || {
            format!(
                "{} has {size} bytes, but its ranges end at {covered}",
                file.name
            )
        })?;
        sizes.insert(&file.name, size);
    }
    Ok(())
}

/// A link of an image and all its parents, read as the guest saw them.
pub struct Merged<'a> {
    /// Newest first, never empty.
    links: Vec<&'a ImageFile>,
}

impl<'a> Merged<'a> {
    /// The chain whose newest link has this name; none if the image does not hold it all.
    pub fn of(image: &'a GuestImage, newest: &str) -> Option<Self> {
        let mut links = Vec::new();
        let mut wanted = Some(newest);
        while let Some(name) = wanted {
            let link = image.files.iter().find(|file| file.name == name)?;
            wanted = match &link.format {
                ImageFormat::Vmdk { parent, .. } if links.len() < image.files.len() => {
                    parent.as_deref()
                }
                _ => return None,
            };
            links.push(link);
        }
        Some(Self { links })
    }

    /// The link that holds the byte at an offset, and up to where.
    fn holder(&self, offset_bytes: u64) -> Result<(BlockRange, Option<&'a ImageFile>), DiskError> {
        let mut merged = BlockRange {
            offset_bytes,
            len_bytes: u64::MAX - offset_bytes,
            kind: RangeKind::Absent,
        };
        for link in &self.links {
            let range = link.source.range_at(offset_bytes)?;
            merged.len_bytes = merged.len_bytes.min(range.len_bytes);
            merged.kind = range.kind;
            if range.kind != RangeKind::Absent {
                return Ok((merged, Some(link)));
            }
        }
        Ok((merged, None))
    }
}

impl BlockSource for Merged<'_> {
    fn size_bytes(&self) -> u64 {
        self.links
            .first()
            .map_or(0, |link| link.source.size_bytes())
    }

    fn range_at(&self, offset_bytes: u64) -> Result<BlockRange, DiskError> {
        Ok(self.holder(offset_bytes)?.0)
    }

    fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let mut at = offset_bytes;
        let mut rest = buf;
        while !rest.is_empty() {
            let (range, holder) = self.holder(at)?;
            let len =
                usize::try_from(range.len_bytes).map_or(rest.len(), |len| len.min(rest.len()));
            let (piece, tail) = rest.split_at_mut(len);
            match holder {
                Some(link) => link.source.read_at(at, piece)?,
                None => piece.fill(0),
            }
            at += len as u64;
            rest = tail;
        }
        Ok(())
    }
}
