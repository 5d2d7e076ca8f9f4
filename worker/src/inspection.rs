//! Compares the stored configuration of a host and its guests with the live one, at the start of each run and for
//! `virtuozo host check`, and records the differences.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;
use virtuozo_hypervisor::{Connectors, ErrorKind, Host, HostFacts, HypervisorError, PowerState};
use virtuozo_model::{
    DatastoresProposed, ErrorClass, Guest, GuestState, HostState, HostTested, Settings,
};
use virtuozo_postgres::StoreError;
use virtuozo_runtime::Availability;
use virtuozo_store::{
    datastores, disks, guests,
    host_runs::GuestRunStart,
    hosts,
    inventory::{self, ListedGuest},
    obligations::{self, UndoAction},
    settings,
};

use crate::{
    assess::{self, Eligibility},
    datastore_search::{self, Known},
    error::StepError,
    guest_looks::{self, Connecting, Looked, Looks, connect},
    retry::while_unavailable,
    target::{TargetError, host_target},
};

/// A host could not be checked.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CheckError(#[from] Failure);

/// Which part of a check failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Host(#[from] StepError),
}

impl From<CheckError> for StepError {
    fn from(CheckError(failure): CheckError) -> Self {
        match failure {
            Failure::Target(TargetError::Store(error)) => error.into(),
            Failure::Target(error) => Self::elsewhere(error.to_string()),
            Failure::Host(error) => error,
        }
    }
}

/// Connects to a host outside of any run, over a connection of its own, and reads its inventory. Records nothing but that
/// the host answers.
///
/// # Errors
/// The host cannot be connected to or read.
pub async fn test_host(
    pool: &PgPool,
    key_file: &Path,
    connectors: &Connectors,
    host_id: Uuid,
) -> Result<HostTested, CheckError> {
    let target = host_target(pool, key_file, host_id)
        .await
        .map_err(Failure::from)?;
    let tested = async {
        let back_end = match connectors.of_kind(&target.kind) {
            Some(connector) => connector.probe().await?,
            None => String::new(),
        };
        let host = connect(pool, connectors, &target, host_id).await?;
        let facts = host.facts().await;
        host.close().await;
        let facts = facts?.checked();
        Ok(HostTested {
            back_end,
            guests: facts.guests.len(),
            datastores: facts.datastores,
            warnings: facts.warnings,
        })
    };
    let tested: Result<HostTested, StepError> = tested.await;
    tested.map_err(|error| Failure::Host(error).into())
}

/// Asks a host for its datastores, over a connection of its own, and looks where this machine has them. Records nothing
/// but that the host answers.
///
/// # Errors
/// The host cannot be connected to or read, or the file systems of this machine do not answer.
pub async fn propose_datastores(
    pool: &PgPool,
    key_file: &Path,
    connectors: &Connectors,
    host_id: Uuid,
) -> Result<DatastoresProposed, CheckError> {
    let target = host_target(pool, key_file, host_id)
        .await
        .map_err(Failure::from)?;
    let proposed = async {
        let host = connect(pool, connectors, &target, host_id).await?;
        let datastores = host.datastores().await;
        host.close().await;
        let mapped_of_all = datastores::list(pool, None).await?.into_iter();
        let mapped_of_all = mapped_of_all.filter_map(|one| one.local_path.map(PathBuf::from));
        let known = Known {
            host: target.name.clone(),
            mapped: target.datastores.clone(),
            mapped_of_all: mapped_of_all.collect(),
        };
        datastore_search::search(datastores?, known).await
    };
    let proposed: Result<DatastoresProposed, StepError> = proposed.await;
    proposed.map_err(|error| Failure::Host(error).into())
}

/// Checks a host and all its guests outside of any run, over a connection of its own, and records the result. Returns the
/// guests as they are stored then.
///
/// # Errors
/// The host cannot be connected to or read; that is recorded as its state too.
pub async fn check_host(
    pool: &PgPool,
    availability: &Availability,
    key_file: &Path,
    connectors: &Connectors,
    host_id: Uuid,
) -> Result<Vec<Guest>, CheckError> {
    let target = host_target(pool, key_file, host_id)
        .await
        .map_err(Failure::from)?;
    let checked = async {
        let connecting = Connecting::Apart {
            pool,
            connectors,
            target: &target,
            host_id,
        };
        let mut host = connect(pool, connectors, &target, host_id).await?;
        let checked = check_guests(pool, availability, connecting, &mut host, host_id).await;
        host.close().await;
        checked
    };
    let checked: Result<(), StepError> = checked.await;
    let noted = async {
        if let Err(error) = &checked {
            note_host(pool, host_id, error.class(), &error.to_string()).await?;
        }
        guests::list(pool, Some(host_id)).await
    };
    let guests = noted.await.map_err(|error| Failure::Host(error.into()))?;
    checked
        .map(|()| guests)
        .map_err(|error| Failure::Host(error).into())
}

async fn check_guests(
    pool: &PgPool,
    availability: &Availability,
    connecting: Connecting<'_>,
    host: &mut Arc<dyn Host>,
    host_id: Uuid,
) -> Result<(), StepError> {
    let settings = settings::get(pool).await?;
    let (guests, inventory) = take_stock(pool, availability, connecting, host, host_id).await?;
    let known = guests
        .into_iter()
        .filter(|guest| inventory.contains(&guest.locator));
    let mut looks = Looks::new(connecting, host, known, 1);
    while let Some((guest, looked)) = looks.next().await? {
        judge(pool, availability, &settings, &guest, looked).await?;
    }
    *host = looks.into_host();
    Ok(())
}

/// Records a failure as the state of a host.
pub(crate) async fn note_host(
    db: impl PgExecutor<'_>,
    host_id: Uuid,
    class: ErrorClass,
    why: &str,
) -> Result<(), StoreError> {
    let state = match class {
        ErrorClass::Retry => HostState::Unreachable,
        ErrorClass::Permanent | ErrorClass::Operator => HostState::Invalid,
        // The failure is about this machine, not about the host.
        ErrorClass::Elsewhere => return Ok(()),
    };
    hosts::set_state(db, host_id, state, Some(why)).await
}

/// Reads a host's inventory and configuration and records them. Returns its guests as they are stored then, and the
/// locators of those that the host knows. A connection that is lost over a guest is replaced.
pub(crate) async fn take_stock(
    pool: &PgPool,
    availability: &Availability,
    connecting: Connecting<'_>,
    host: &mut Arc<dyn Host>,
    host_id: Uuid,
) -> Result<(Vec<Guest>, BTreeSet<String>), StepError> {
    let facts = host.facts().await?.checked();
    let stored = while_unavailable(availability, "the host's guests", || {
        guests::list(pool, Some(host_id))
    })
    .await?;
    let listed = inventory_of(pool, availability, connecting, host, &facts, &stored).await?;
    let guests = while_unavailable(availability, "the host's inventory", || async {
        let mut tx = pool.begin().await?;
        hosts::apply_host_facts(&mut tx, host_id, &facts.datastores, &facts.warnings).await?;
        let guests = inventory::apply_guest_inventory(&mut tx, host_id, &listed).await?;
        tx.commit().await?;
        Ok(guests)
    })
    .await?;
    Ok((guests, listed.into_iter().map(|one| one.locator).collect()))
}

/// Assesses a guest by its live facts, and records the result.
pub(crate) async fn judge(
    pool: &PgPool,
    availability: &Availability,
    settings: &Settings,
    guest: &Guest,
    looked: Looked,
) -> Result<GuestRunStart, StepError> {
    let facts = match looked {
        Looked::Facts(Ok(facts)) => facts,
        Looked::Crashed(error) => {
            let why = note_crash(pool, availability, guest, &error).await?;
            return Ok(GuestRunStart::Failed(why, ErrorClass::Operator));
        }
        Looked::Facts(Err(error)) if error.kind == ErrorKind::FilesSilent => {
            let why = format!("it is left out of this run: {error}");
            note_invalid(pool, availability, guest, &why).await?;
            return Ok(GuestRunStart::Failed(why, ErrorClass::Operator));
        }
        Looked::Facts(Err(error)) => {
            let state = match error.kind {
                ErrorKind::GuestNotFound => GuestState::NotInInventory,
                _ => GuestState::Invalid,
            };
            while_unavailable(availability, "a guest's state", || async {
                let mut conn = pool.acquire().await?;
                inventory::set_guest_state(&mut conn, guest.id, state, Some(&error.message)).await
            })
            .await?;
            let error = StepError::from(error);
            return Ok(match error.class() {
                // The guest run tries again.
                ErrorClass::Retry | ErrorClass::Elsewhere => GuestRunStart::Waiting,
                class => GuestRunStart::Failed(error.to_string(), class),
            });
        }
    };
    let (stored, obligations) = while_unavailable(availability, "a guest's disks", || async {
        Ok((
            disks::list(pool, Some(guest.id)).await?,
            obligations::of_guest(pool, guest.id).await?,
        ))
    })
    .await?;
    let ignored: Vec<String> = stored
        .into_iter()
        .filter(|d| d.ignored)
        .map(|d| d.device)
        .collect();
    let mut seen = assess::guest(&facts, &ignored);
    let when_off = guest.backup_when_off.unwrap_or(settings.backup_when_off);
    // A guest that an earlier run has powered off, and not on again, counts as running.
    let off = facts.power == PowerState::Off
        && !obligations
            .iter()
            .any(|o| o.action() == UndoAction::PowerOn);
    let start = match seen.eligibility {
        Eligibility::Ineligible {
            class: ErrorClass::Retry | ErrorClass::Elsewhere,
            ..
        } => GuestRunStart::Waiting,
        Eligibility::Ineligible { class, reason, .. } => GuestRunStart::Failed(reason, class),
        Eligibility::Eligible if off && !when_off => {
            let reason = "it is off, and is not to be backed up while it is".to_owned();
            seen.observation.state = GuestState::PoweredOff;
            seen.observation.reason = Some(reason.clone());
            GuestRunStart::Skipped(reason)
        }
        Eligibility::Eligible => GuestRunStart::Waiting,
    };
    let noted = while_unavailable(availability, "a guest's state", || async {
        let mut tx = pool.begin().await?;
        inventory::apply_guest_facts(&mut *tx, guest.id, &seen.observation).await?;
        Ok(tx.commit().await?)
    });
    match noted.await {
        Ok(()) => Ok(start),
        // One guest's facts cost no other guest of the host its run.
        Err(error) if error.is_about_values() => {
            let why = format!("what was found out about it cannot be stored: {error}");
            note_invalid(pool, availability, guest, &why).await?;
            Ok(GuestRunStart::Failed(why, ErrorClass::Permanent))
        }
        Err(error) => Err(error.into()),
    }
}

async fn note_invalid(
    pool: &PgPool,
    availability: &Availability,
    guest: &Guest,
    why: &str,
) -> Result<(), StoreError> {
    while_unavailable(availability, "a guest's state", || async {
        let mut conn = pool.acquire().await?;
        inventory::set_guest_state(&mut conn, guest.id, GuestState::Invalid, Some(why)).await
    })
    .await
}

/// Counts a look at a guest that ended the connection. Returns why the guest is left out.
async fn note_crash(
    pool: &PgPool,
    availability: &Availability,
    guest: &Guest,
    error: &HypervisorError,
) -> Result<String, StoreError> {
    let why = guest_looks::why_left_out(guest, error);
    while_unavailable(availability, "a guest's crash", || {
        inventory::guest_crashed(pool, guest.id, &why)
    })
    .await?;
    Ok(why)
}

/// All guests that the host knows.
async fn inventory_of(
    pool: &PgPool,
    availability: &Availability,
    connecting: Connecting<'_>,
    host: &mut Arc<dyn Host>,
    facts: &HostFacts,
    stored: &[Guest],
) -> Result<Vec<ListedGuest>, StepError> {
    let mut listed: BTreeMap<String, Option<Uuid>> = facts
        .guests
        .iter()
        .map(|guest| (guest.locator.to_string(), guest.uuid))
        .collect();
    let mut uses: HashMap<Uuid, usize> = HashMap::new();
    for uuid in listed.values().flatten() {
        *uses.entry(*uuid).or_default() += 1;
    }
    for uuid in listed.values_mut() {
        // A UUID that two guests share identifies neither.
        *uuid = uuid.filter(|one| uses.get(one) == Some(&1));
    }
    if !facts.guests_are_complete {
        let is_listed = |guest: &&Guest| {
            listed.contains_key(&guest.locator)
                || guest.uuid.is_some_and(|uuid| uses.contains_key(&uuid))
        };
        let others = stored.iter().filter(|guest| !is_listed(guest)).cloned();
        let others: Vec<Guest> = others.collect();
        let mut looks = Looks::new(connecting, host, others, 1);
        while let Some((guest, looked)) = looks.next().await? {
            match looked {
                Looked::Facts(Err(error)) if error.kind == ErrorKind::GuestNotFound => continue,
                // A guest that can be opened is known too.
                Looked::Facts(_) => {}
                Looked::Crashed(error) => {
                    note_crash(pool, availability, &guest, &error).await?;
                }
            }
            listed.insert(guest.locator, guest.uuid);
        }
        *host = looks.into_host();
    }
    let listed = listed.into_iter();
    Ok(listed
        .map(|(locator, uuid)| ListedGuest { locator, uuid })
        .collect())
}
