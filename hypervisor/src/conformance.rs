//! The conformance suite: checks that every back end has to pass.
//!
//! Each check returns a sentence about the first violation. Unless it fails, it leaves a guest as it found it.

mod changes;
mod merged;
mod restore;

pub use changes::{changes_are_reported_from_instant_to_instant, unknown_changes_have_a_reason};
pub use merged::Merged;
pub use restore::a_guest_is_made_written_registered_and_removed;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use uuid::Uuid;
use virtuozo_disk::{DiskError, ranges};

use crate::{
    ChangeIds, ErrorKind, FreezeRequest, Guest, GuestImage, GuestRef, Host, HypervisorError, Image,
    ImageFormat, Instant, PowerOff, PowerState, open_image, snapshot_name,
};

/// How long a single operation may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A violation of the port, as a sentence.
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

fn ensure(holds: bool, sentence: impl FnOnce() -> String) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(Violation(sentence()))
    }
}

/// A name of ours, as a guest run makes it.
fn new_name() -> String {
    snapshot_name::make(Uuid::now_v7(), 1)
}

fn request(name: &str, since: &ChangeIds) -> FreezeRequest {
    FreezeRequest {
        name: name.to_owned(),
        description: "conformance".to_owned(),
        since: since.clone(),
        limit: LIMIT,
    }
}

/// Freezes a guest and compares with nothing.
async fn freeze(guest: &dyn Guest, name: &str) -> Result<(), HypervisorError> {
    guest.freeze(&request(name, &ChangeIds::new())).await
}

/// The files of an image, opened in this process.
fn open(image: Image) -> Result<GuestImage, HypervisorError> {
    match image {
        Image::Open(image) => Ok(image),
        Image::Files(files) => open_image(&files),
    }
}

/// The image of an instant, compared with nothing.
async fn image(
    guest: &dyn Guest,
    at: &Instant,
    ignored: &[String],
) -> Result<GuestImage, HypervisorError> {
    open(guest.image(at, &ChangeIds::new(), ignored).await?)
}

/// Power operations reach their state, and repeating one changes nothing. The guest must run.
///
/// # Errors
/// The first violation.
pub async fn power_operations_are_idempotent(guest: &dyn Guest) -> Outcome {
    let is = async |wanted: PowerState, when: &str| -> Outcome {
        let found = guest.power_state().await?;
        ensure(found == wanted, || {
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

/// A guest is frozen and released by exact names, and nothing else changes. It must run, and may have
/// foreign snapshots.
///
/// # Errors
/// The first violation.
pub async fn a_guest_is_frozen_and_released_by_exact_names(guest: &dyn Guest) -> Outcome {
    let before = guest.snapshots().await?;
    let name = new_name();
    ensure(!guest.release(&name, LIMIT).await?, || {
        "releasing what was never frozen should report that there was nothing".into()
    })?;
    freeze(guest, &name).await?;
    let outcome = async {
        let with = guest.snapshots().await?;
        let mut expected: BTreeSet<&String> = before.iter().collect();
        expected.insert(&name);
        ensure(
            with.len() == before.len() + 1 && with.iter().collect::<BTreeSet<_>>() == expected,
            || format!("{before:?} and {name} should be there, but there is {with:?}"),
        )?;
        ensure(freeze(guest, &name).await.is_err(), || {
            "freezing under the same name again should be refused".into()
        })?;
        for other in [&name[..name.len() - 1], &format!("{name}0"), "virtuozo"] {
            ensure(!guest.release(other, LIMIT).await?, || {
                format!("{other} was released, but is not there")
            })?;
        }
        ensure(guest.snapshots().await? == with, || {
            "releasing absent snapshots changed the list".into()
        })
    }
    .await;
    let removed = guest.release(&name, LIMIT).await?;
    outcome?;
    ensure(removed, || format!("{name} should have been there"))?;
    ensure(!guest.release(&name, LIMIT).await?, || {
        format!("{name} should be gone")
    })?;
    let after = guest.snapshots().await?;
    ensure(after == before, || {
        format!("the snapshots were {before:?} and are now {after:?}")
    })
}

/// The image of a running guest under our snapshot is well made, holds all foreign snapshots and not
/// ours. `check` may look closer. The snapshot is removed afterwards.
///
/// # Errors
/// The first violation.
pub async fn a_hot_image_is_consistent(
    guest: &dyn Guest,
    check: impl AsyncFnOnce(&GuestImage) -> Outcome,
) -> Outcome {
    let before = guest.snapshots().await?;
    let name = new_name();
    ensure(
        matches!(
            image(guest, &Instant::Frozen(name.clone()), &[]).await,
            Err(HypervisorError {
                kind: ErrorKind::SnapshotNotFound,
                ..
            })
        ),
        || "the image of an absent instant should be refused".into(),
    )?;
    freeze(guest, &name).await?;
    let outcome = async {
        let image = image(guest, &Instant::Frozen(name.clone()), &[]).await?;
        ensure(image.foreign_snapshots == before, || {
            format!(
                "the image holds the snapshots {:?}, the guest {before:?}",
                image.foreign_snapshots
            )
        })?;
        an_image_is_well_made(&image)?;
        check(&image).await
    }
    .await;
    guest.release(&name, LIMIT).await?;
    outcome?;
    ensure(guest.snapshots().await? == before, || {
        "the foreign snapshots changed".into()
    })
}

/// A running guest has no cold image; one that is off has a well made one. The guest must run, and
/// runs again afterwards.
///
/// # Errors
/// The first violation.
pub async fn a_cold_image_needs_a_guest_that_is_off(
    guest: &dyn Guest,
    check: impl AsyncFnOnce(&GuestImage) -> Outcome,
) -> Outcome {
    ensure(
        matches!(
            image(guest, &Instant::PoweredOff, &[]).await,
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
        let image = image(guest, &Instant::PoweredOff, &[]).await?;
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
/// The first violation.
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
    let without = std::slice::from_ref(first);
    let image_of_rest = image(guest, &Instant::PoweredOff, without).await?;
    an_image_is_well_made(&image_of_rest)?;
    let there: BTreeSet<&String> = image_of_rest
        .files
        .iter()
        .filter_map(|f| f.device.as_ref())
        .collect();
    ensure(there == rest.iter().collect(), || {
        format!("without {first} the image holds {there:?}")
    })?;
    ensure(
        image(guest, &Instant::PoweredOff, &devices).await.is_err(),
        || "an image without any disk should be refused".into(),
    )
}

/// A guest that the host does not have is not found when it is opened, or has a problem.
///
/// # Errors
/// The first violation.
pub async fn an_unknown_guest_has_a_problem(host: &dyn Host, guest: &GuestRef) -> Outcome {
    let facts = match host.guest(guest).await {
        Err(error) if error.kind == ErrorKind::GuestNotFound => return Ok(()),
        opened => opened?.facts().await?,
    };
    ensure(facts.problem.is_some(), || {
        format!("{} should have a problem", guest.locator)
    })
}

/// Closing twice is no error; afterwards every call says that the connection is lost.
///
/// # Errors
/// The first violation.
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

/// Names are unique and plain, parents stand before their children and have their size, every file can be walked
/// from end to end, and for every device it is said what has changed.
///
/// # Errors
/// The first violation.
pub fn an_image_is_well_made(image: &GuestImage) -> Outcome {
    let mut names = BTreeSet::new();
    let small = image.small.iter().map(|file| &file.name);
    for name in small.chain(image.files.iter().map(|file| &file.name)) {
        ensure(names.insert(name.to_lowercase()), || {
            format!("two files are called {name}")
        })?;
        ensure(!name.is_empty() && !name.contains(['/', '\\']), || {
            format!("{name:?} is no plain name")
        })?;
    }
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for file in &image.files {
        let size = file.source.size_bytes();
        if let ImageFormat::Disk {
            parent: Some(parent),
            ..
        } = &file.format
        {
            ensure(sizes.get(parent.as_str()) == Some(&size), || {
                format!(
                    "the parent {parent} of {} is not before it with its size",
                    file.name
                )
            })?;
        }
        let mut covered = 0;
        for range in ranges(file.source.as_ref()) {
            let range = range?;
            ensure(range.offset_bytes == covered && range.len_bytes > 0, || {
                format!("{} has a gap at {covered}", file.name)
            })?;
            covered = range.end_bytes();
        }
        ensure(covered == size, || {
            format!(
                "{} has {size} bytes, but its ranges end at {covered}",
                file.name
            )
        })?;
        sizes.insert(&file.name, size);
    }
    changes::changes_are_well_made(image)
}
