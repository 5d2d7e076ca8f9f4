//! What validation found out about the guests of a host, held against what is stored.

use sqlx::{FromRow, PgConnection, PgExecutor, Postgres, postgres::PgArguments, query::QueryAs};
use uuid::Uuid;

use super::{
    events::{self, NewEvent},
    guests,
};
use virtuozo_model::{Guest, GuestState, Power, Severity, terminal};
use virtuozo_postgres::StoreError;

/// What validation found out about one guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestObservation {
    /// Display name.
    pub name: String,
    /// Power state.
    pub power: Power,
    /// What that makes of the guest.
    pub state: GuestState,
    /// Why, as a sentence.
    pub reason: Option<String>,
    /// The machine of its host that runs it.
    pub node: Option<String>,
    /// Change ids for which its host keeps something.
    pub change_ids: Vec<String>,
    /// The datastore that holds its configuration.
    pub datastore: Option<String>,
    /// Its disks.
    pub disks: Vec<DiskObservation>,
}

/// What validation found out about one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskObservation {
    /// Device, for example `scsi0:0`.
    pub device: String,
    /// The file that the guest's configuration names.
    pub file_name: String,
    /// The datastore that holds it.
    pub datastore: Option<String>,
    /// Size in bytes, where it could be read.
    pub capacity_bytes: Option<u64>,
    /// Why it cannot be backed up, as a sentence.
    pub problem: Option<String>,
}

/// A statement whose last parameters are those of `virtuozo_core.guest_seen` from the name on.
pub(super) type Seeing<'q, O> = QueryAs<'q, Postgres, O, PgArguments>;

impl GuestObservation {
    /// Gives a statement its last parameters.
    pub(super) fn bind<'q, O>(&'q self, statement: Seeing<'q, O>) -> Seeing<'q, O> {
        fn column<'q, T>(
            disks: &'q [DiskObservation],
            value: impl Fn(&'q DiskObservation) -> T,
        ) -> Vec<T> {
            disks.iter().map(value).collect()
        }
        let bytes =
            |disk: &DiskObservation| disk.capacity_bytes.and_then(|n| i64::try_from(n).ok());
        statement
            .bind(&self.name)
            .bind(self.power)
            .bind(self.state)
            .bind(&self.reason)
            .bind(column(&self.disks, |disk| disk.device.as_str()))
            .bind(column(&self.disks, |disk| disk.file_name.as_str()))
            .bind(column(&self.disks, bytes))
            .bind(column(&self.disks, |disk| disk.problem.as_deref()))
            .bind(&self.node)
            .bind(&self.change_ids)
            .bind(&self.datastore)
            .bind(column(&self.disks, |disk| disk.datastore.as_deref()))
    }
}

#[derive(FromRow)]
struct GuestIdName {
    id: Uuid,
    name: String,
    host: String,
}

#[derive(FromRow)]
struct New {
    id: Uuid,
    name: String,
    host: String,
    configured: bool,
}

/// A guest that a host names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedGuest {
    /// What the host finds it by.
    pub locator: String,
    /// What stays the same when it is moved; unique on its host.
    pub uuid: Option<Uuid>,
}

/// Holds the guests that a host names now against the stored guests, and records events about what
/// is new: guests that appeared (the setting `new_guests` decides about them), that are gone and that
/// are back. One whose UUID is named under another locator is the same guest. Returns all guests of the
/// host as they stand then.
pub async fn apply_guest_inventory(
    conn: &mut PgConnection,
    host_id: Uuid,
    listed: &[ListedGuest],
) -> Result<Vec<Guest>, StoreError> {
    let locators: Vec<&str> = listed.iter().map(|one| one.locator.as_str()).collect();
    let uuids: Vec<Option<Uuid>> = listed.iter().map(|one| one.uuid).collect();
    for statement in [
        include_str!("inventory/guests_moved.sql"),
        include_str!("inventory/guests_uuids.sql"),
    ] {
        sqlx::query(statement)
            .bind(host_id)
            .bind(&locators)
            .bind(&uuids)
            .execute(&mut *conn)
            .await?;
    }
    let gone: Vec<GuestIdName> = sqlx::query_as(include_str!("inventory/guests_gone.sql"))
        .bind(host_id)
        .bind(&locators)
        .fetch_all(&mut *conn)
        .await?;
    for GuestIdName { id, name, host } in gone {
        let message = format!(
            "guest {name}: its host no longer knows it; it is not backed up until it is registered \
             again, or forget it with `{}`",
            terminal::command("guest remove", &[format!("{host}/{name}")])
        );
        record_event(conn, Severity::Warning, host_id, id, message).await?;
    }
    let back: Vec<GuestIdName> = sqlx::query_as(include_str!("inventory/guests_back.sql"))
        .bind(host_id)
        .bind(&locators)
        .fetch_all(&mut *conn)
        .await?;
    for GuestIdName { id, name, .. } in back {
        record_event(
            conn,
            Severity::Info,
            host_id,
            id,
            format!("guest {name}: its host knows it again"),
        )
        .await?;
    }
    let names: Vec<&str> = locators.iter().map(|path| guests::name_of(path)).collect();
    let new: Vec<New> = sqlx::query_as(include_str!("inventory/guests_new.sql"))
        .bind(host_id)
        .bind(&locators)
        .bind(names)
        .bind(&uuids)
        .fetch_all(&mut *conn)
        .await?;
    for New {
        id,
        name,
        host,
        configured,
    } in new
    {
        if configured {
            let message = format!("guest {name}: new on its host; it is backed up from now on");
            record_event(conn, Severity::Info, host_id, id, message).await?;
        } else {
            let message = format!(
                "guest {name}: new on its host and not backed up; take it over with `{}`, or leave it out with `{}`",
                terminal::command("guest add", &[&host, &name]),
                terminal::command("guest edit --ignored true", &[format!("{host}/{name}")])
            );
            record_event(conn, Severity::Warning, host_id, id, message).await?;
        }
    }
    guests::list(conn, Some(host_id)).await
}

async fn record_event(
    conn: &mut PgConnection,
    severity: Severity,
    host_id: Uuid,
    guest_id: Uuid,
    message: String,
) -> Result<(), StoreError> {
    let event = NewEvent::user(severity, message)
        .host(host_id)
        .guest(guest_id);
    events::record(conn, &event).await
}

/// Notes what validation found out about a guest and its disks.
pub async fn apply_guest_facts(
    db: impl PgExecutor<'_>,
    guest_id: Uuid,
    seen: &GuestObservation,
) -> Result<(), StoreError> {
    let seeing = sqlx::query_as(
        "SELECT virtuozo_core.guest_seen($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(guest_id);
    let ((),) = seen.bind(seeing).fetch_one(db).await?;
    Ok(())
}

/// Counts a look at a guest that ended the connection to its host, and notes its state.
pub async fn guest_crashed(
    db: impl PgExecutor<'_>,
    guest_id: Uuid,
    reason: &str,
) -> Result<(), StoreError> {
    sqlx::query(include_str!("inventory/guest_crashed.sql"))
        .bind(guest_id)
        .bind(reason)
        .execute(db)
        .await?;
    Ok(())
}

/// Notes a guest's state where nothing else about it is known.
pub async fn set_guest_state(
    conn: &mut PgConnection,
    guest_id: Uuid,
    state: GuestState,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query(include_str!("inventory/guest_set_state.sql"))
        .bind(guest_id)
        .bind(state)
        .bind(reason)
        .execute(conn)
        .await?;
    Ok(())
}
