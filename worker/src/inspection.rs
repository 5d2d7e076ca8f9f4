//! Compares the stored configuration of a host and its guests with the live one, at the start of each run and for
//! `virtuozo host check`, and records the differences.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;
use virtuozo_hypervisor::{
    Connectors, ErrorKind, GuestFacts, Host, HostFacts, HostTarget, HypervisorError, PowerState,
};
use virtuozo_model::{
    DatastoresProposed, ErrorClass, Guest, GuestState, HostState, HostTested, Settings,
};
use virtuozo_postgres::StoreError;
use virtuozo_runtime::Availability;
use virtuozo_store::{
    circuit_breakers, datastores, disks, guests,
    host_runs::GuestRunStart,
    hosts,
    inventory::{self, ListedGuest},
    obligations::{self, UndoAction},
    settings,
};

use crate::{
    assess::{self, Eligibility},
    connections,
    datastore_search::{self, Known},
    error::StepError,
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
        let facts = facts?;
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

/// Connects to a host outside of any run. That it answers closes its circuit breaker.
async fn connect(
    pool: &PgPool,
    connectors: &Connectors,
    target: &HostTarget,
    host_id: Uuid,
) -> Result<Arc<dyn Host>, StepError> {
    let host = connectors.connect(target).await?;
    circuit_breakers::close(pool, host_id).await?;
    Ok(host)
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
        let host = connect(pool, connectors, &target, host_id).await?;
        let checked = check_guests(pool, availability, host.as_ref(), host_id).await;
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
    host: &dyn Host,
    host_id: Uuid,
) -> Result<(), StepError> {
    let settings = settings::get(pool).await?;
    let (guests, inventory) = take_stock(pool, availability, host, host_id).await?;
    for guest in guests
        .iter()
        .filter(|guest| inventory.contains(&guest.locator))
    {
        let facts = look(host, guest).await;
        judge(pool, availability, &settings, guest, facts).await?;
    }
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
/// locators of those that the host knows.
pub(crate) async fn take_stock(
    pool: &PgPool,
    availability: &Availability,
    host: &dyn Host,
    host_id: Uuid,
) -> Result<(Vec<Guest>, BTreeSet<String>), StepError> {
    let facts = host.facts().await?;
    let stored = while_unavailable(availability, "the host's guests", || {
        guests::list(pool, Some(host_id))
    })
    .await?;
    let listed = inventory_of(host, &facts, &stored).await?;
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
    facts: Result<GuestFacts, HypervisorError>,
) -> Result<GuestRunStart, StepError> {
    let facts = match facts {
        Ok(facts) => facts,
        // The failure is about the host, not about the guest.
        Err(error) if error.is_connection_lost() => return Err(error.into()),
        Err(error) => {
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
    while_unavailable(availability, "a guest's state", || async {
        let mut tx = pool.begin().await?;
        inventory::apply_guest_facts(&mut *tx, guest.id, &seen.observation).await?;
        Ok(tx.commit().await?)
    })
    .await?;
    Ok(start)
}

/// All guests that the host knows.
async fn inventory_of(
    host: &dyn Host,
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
        for guest in stored {
            let is_listed = listed.contains_key(&guest.locator)
                || guest.uuid.is_some_and(|uuid| uses.contains_key(&uuid));
            if is_listed {
                continue;
            }
            // A guest that can be opened is known too.
            match look(host, guest).await {
                Err(error) if error.is_connection_lost() => return Err(error.into()),
                Err(error) if error.kind == ErrorKind::GuestNotFound => {}
                Ok(_) | Err(_) => {
                    listed.insert(guest.locator.clone(), guest.uuid);
                }
            }
        }
    }
    let listed = listed.into_iter();
    Ok(listed
        .map(|(locator, uuid)| ListedGuest { locator, uuid })
        .collect())
}

/// The live facts of a guest.
pub(crate) async fn look(host: &dyn Host, guest: &Guest) -> Result<GuestFacts, HypervisorError> {
    host.guest(&connections::reference(guest)?)
        .await?
        .facts()
        .await
}
