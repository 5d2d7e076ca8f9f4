//! Obligations: what must be undone on a host whatever happens, written before the change and deleted
//! only after it was seen to be met.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use super::{
    admission,
    guest_runs::GuestLease,
    leases::{Fence, Released, leased, releasing, renewal},
};
use virtuozo_postgres::StoreError;
use virtuozo_queue::UndoJob;

/// Something that must be undone on a guest.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Obligation {
    /// Its id.
    pub id: Uuid,
    /// `remove_snapshot` or `power_on`.
    kind: String,
    /// The host of the guest.
    pub host_id: Uuid,
    /// The guest.
    pub guest_id: Uuid,
    /// The guest run that made it.
    pub guest_run_id: Uuid,
    /// The fence of that guest run when it made, or took over, the obligation.
    pub fence: i64,
    snapshot_name: Option<String>,
    /// Attempts that have failed.
    pub attempts: i32,
    /// The trace of the run that made it.
    pub trace_id: Uuid,
    /// That of the guest run that made it.
    pub trace_fence: i64,
}

/// What is to be done to meet an obligation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndoAction<'a> {
    /// Remove exactly the snapshot of this name.
    RemoveSnapshot(&'a str),
    /// Power the guest on.
    PowerOn,
}

impl Obligation {
    /// That a guest run is to remove a snapshot which it is about to take; to be recorded with the step before.
    pub fn of_snapshot(lease: &GuestLease, name: String) -> Self {
        Self {
            id: Uuid::now_v7(),
            kind: "remove_snapshot".to_owned(),
            host_id: lease.host_id,
            guest_id: lease.guest_id,
            guest_run_id: lease.guest_run_id,
            fence: lease.fence,
            snapshot_name: Some(name),
            attempts: 0,
            trace_id: lease.trace_id,
            trace_fence: lease.trace_fence,
        }
    }

    pub(super) fn snapshot_name(&self) -> Option<&str> {
        self.snapshot_name.as_deref()
    }

    /// What is to be done.
    pub fn action(&self) -> UndoAction<'_> {
        match &self.snapshot_name {
            Some(name) => UndoAction::RemoveSnapshot(name),
            None => UndoAction::PowerOn,
        }
    }
}

/// The right to meet the obligations of a guest, while no run of it is admitted.
#[derive(Debug, Clone)]
pub struct UndoClaim {
    /// The guest.
    pub guest_id: Uuid,
    /// The host of the guest.
    pub host_id: Uuid,
    /// Who has taken it.
    pub owner_id: Uuid,
    /// The number of this lease; grows with every taking.
    pub fence: i64,
    /// How long it holds without renewal, in seconds.
    pub lease_secs: i32,
}

leased!(
    UndoClaim,
    Undo,
    guest_id,
    renewal!("obligations", "guest_id", "false")
);

impl Released for UndoClaim {
    const RELEASING: &'static str = releasing!("obligations", "guest_id", "");
}

/// Records, before a snapshot is taken, that it has to be removed. Returns the time, by the database's clock;
/// none if the lease is no longer ours.
pub async fn record_snapshot(
    db: impl PgExecutor<'_>,
    lease: &GuestLease,
    name: &str,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    Ok(
        sqlx::query_scalar("SELECT virtuozo_core.record_snapshot_obligation($1, $2, $3, $4)")
            .bind(lease.guest_run_id)
            .bind(lease.fence)
            .bind(Uuid::now_v7())
            .bind(name)
            .fetch_one(db)
            .await?,
    )
}

/// Records, before a guest is powered off, that it has to be powered on again.
pub async fn record_power_on(
    db: impl PgExecutor<'_>,
    lease: &GuestLease,
) -> Result<Fence, StoreError> {
    let row: Option<Uuid> = sqlx::query_scalar(include_str!("obligations/insert_power_on.sql"))
        .bind(lease.guest_run_id)
        .bind(lease.fence)
        .bind(Uuid::now_v7())
        .fetch_optional(db)
        .await?;
    Ok(Fence::of(row.is_some()))
}

/// Records what has to be undone because a change took effect after its guest run's lease was lost.
/// Without a fence: the guest has been changed, whoever has the lease now. An obligation of the same kind
/// that is there already gets a new id, so that it stays even if its owner saw it met before the change.
pub async fn record_late(
    pool: &PgPool,
    guest_run_id: Uuid,
    duty: UndoAction<'_>,
) -> Result<(), StoreError> {
    let (statement, name) = match duty {
        UndoAction::RemoveSnapshot(name) => (
            include_str!("obligations/insert_late_snapshot.sql"),
            Some(name),
        ),
        UndoAction::PowerOn => (include_str!("obligations/insert_late_power_on.sql"), None),
    };
    let query = sqlx::query(statement)
        .bind(guest_run_id)
        .bind(Uuid::now_v7());
    let query = match name {
        Some(name) => query.bind(name),
        None => query,
    };
    query.execute(pool).await?;
    Ok(())
}

/// All obligations of a guest, oldest first.
pub async fn of_guest(
    db: impl PgExecutor<'_>,
    guest_id: Uuid,
) -> Result<Vec<Obligation>, StoreError> {
    Ok(sqlx::query_as(include_str!("obligations/of_guest.sql"))
        .bind(guest_id)
        .fetch_all(db)
        .await?)
}

/// Deletes an obligation that was seen to be met. One that a newer run has taken over since stays.
pub async fn met(db: impl PgExecutor<'_>, obligation: &Obligation) -> Result<(), StoreError> {
    sqlx::query(include_str!("obligations/met.sql"))
        .bind(obligation.id)
        .bind(obligation.guest_run_id)
        .bind(obligation.fence)
        .execute(db)
        .await?;
    Ok(())
}

/// Records that an attempt failed, and when to try again. Returns the number of failed attempts.
pub async fn failed(
    tx: &mut PgConnection,
    obligation: &Obligation,
    error: &str,
    delay_secs: f64,
) -> Result<i32, StoreError> {
    let attempts: Option<i32> = sqlx::query_scalar(include_str!("obligations/failed.sql"))
        .bind(obligation.id)
        .bind(error)
        .bind(delay_secs)
        .fetch_optional(tx)
        .await?;
    Ok(attempts.unwrap_or_default())
}

/// The host of a guest with obligations; none if it has none, or the host's circuit breaker is open.
pub async fn host_of_obligations(
    pool: &PgPool,
    guest_id: Uuid,
) -> Result<Option<Uuid>, StoreError> {
    Ok(
        sqlx::query_scalar(include_str!("obligations/host_of_open.sql"))
            .bind(guest_id)
            .fetch_optional(pool)
            .await?,
    )
}

/// Claims the obligations of a guest. None: nothing is due, somebody is at it, or a run of the guest is in
/// work, which minds its obligations itself.
pub async fn claim(
    pool: &PgPool,
    host_id: Uuid,
    guest_id: Uuid,
) -> Result<Option<UndoClaim>, StoreError> {
    let owner_id = Uuid::now_v7();
    let mut tx = pool.begin().await?;
    admission::lock_host(&mut tx, host_id).await?;
    let claimed: Vec<(i64, i32)> = sqlx::query_as(include_str!("obligations/claim.sql"))
        .bind(guest_id)
        .bind(owner_id)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(claimed.first().map(|&(fence, lease_secs)| UndoClaim {
        guest_id,
        host_id,
        owner_id,
        fence,
        lease_secs,
    }))
}

/// Pushes a job for each guest with due obligations that nobody works on. Returns how many.
pub async fn push_due(pool: &PgPool) -> Result<usize, StoreError> {
    let mut tx = pool.begin().await?;
    let guests: Vec<Uuid> = sqlx::query_scalar(include_str!("obligations/due.sql"))
        .bind(<UndoJob as virtuozo_queue::Job>::QUEUE)
        .fetch_all(&mut *tx)
        .await?;
    let jobs: Vec<UndoJob> = guests
        .iter()
        .map(|&guest_id| UndoJob { guest_id })
        .collect();
    virtuozo_queue::push(&mut tx, &jobs, 0).await?;
    tx.commit().await?;
    Ok(jobs.len())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{guest_runs, guests, inventory::GuestObservation, leases, steps};
    use virtuozo_model::{GuestState, Power};
    use virtuozo_postgres::testing::TestDb;

    /// A guest run that a worker has taken.
    async fn taken(pool: &PgPool) -> GuestLease {
        sqlx::raw_sql(
            "INSERT INTO virtuozo_core.runs (id, requested_by) VALUES (md5('run')::uuid, 'test');
             INSERT INTO virtuozo_core.hosts (id, name, kind) VALUES (md5('host')::uuid, 'alpha', 'esxi');
             INSERT INTO virtuozo_core.host_runs (id, run_id, host_id)
             VALUES (md5('host run')::uuid, md5('run')::uuid, md5('host')::uuid);
             INSERT INTO virtuozo_core.guests (id, host_id, locator, name)
             VALUES (md5('guest')::uuid, md5('host')::uuid, '[s] mail.vmx', 'mail');
             INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, state, admitted_at)
             VALUES (md5('guest run')::uuid, md5('run')::uuid, md5('host run')::uuid, md5('host')::uuid,
                     md5('guest')::uuid, 'admitted', now());",
        )
        .execute(pool)
        .await
        .unwrap();
        let guest_run: Uuid = sqlx::query_scalar("SELECT id FROM virtuozo_core.guest_runs")
            .fetch_one(pool)
            .await
            .unwrap();
        leases::take::<GuestLease>(pool, guest_run, Uuid::now_v7())
            .await
            .unwrap()
            .unwrap()
    }

    #[tokio::test]
    async fn what_is_owed_late_stays_although_its_like_was_seen_to_be_met_before() {
        let db = TestDb::new().await;
        let lease = taken(&db.pool).await;
        let name = "virtuozo-late";
        assert_eq!(
            record_power_on(&db.pool, &lease).await.unwrap(),
            Fence::Held
        );
        let owed_at = record_snapshot(&db.pool, &lease, name).await.unwrap();
        assert!(owed_at.is_some());
        let seen = of_guest(&db.pool, lease.guest_id).await.unwrap();
        assert_eq!(seen.len(), 2);

        for duty in [UndoAction::PowerOn, UndoAction::RemoveSnapshot(name)] {
            record_late(&db.pool, lease.guest_run_id, duty)
                .await
                .unwrap();
        }
        for obligation in &seen {
            met(&db.pool, obligation).await.unwrap();
        }
        let open = of_guest(&db.pool, lease.guest_id).await.unwrap();
        let duties: Vec<_> = open.iter().map(Obligation::action).collect();
        assert_eq!(open.len(), 2, "{open:?}");
        assert!(duties.contains(&UndoAction::PowerOn), "{duties:?}");
        assert!(
            duties.contains(&UndoAction::RemoveSnapshot(name)),
            "{duties:?}"
        );

        for obligation in &open {
            met(&db.pool, obligation).await.unwrap();
        }
        assert!(of_guest(&db.pool, lease.guest_id).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_a_worker_has_seen_after_its_lease_was_lost_is_not_recorded() {
        let db = TestDb::new().await;
        let zombie = taken(&db.pool).await;
        sqlx::query("UPDATE virtuozo_core.guest_runs SET fence = fence + 1")
            .execute(&db.pool)
            .await
            .unwrap();
        let alive = GuestLease {
            fence: zombie.fence + 1,
            ..zombie.clone()
        };
        let seen = |name: &str| GuestObservation {
            name: name.into(),
            power: Power::On,
            state: GuestState::Ok,
            reason: None,
            node: None,
            datastore: None,
            change_ids: Vec::new(),
            disks: Vec::new(),
        };
        let name = async || guests::by_id(&db.pool, zombie.guest_id).await.unwrap().name;
        let late = seen("seen too late");
        let recorded = steps::validated(&db.pool, &zombie, &Value::Null, None, None, &late).await;
        assert_eq!(recorded.unwrap(), None);
        guest_runs::saw(&db.pool, &zombie, &late).await.unwrap();
        assert_eq!(name().await, "mail");

        guest_runs::saw(&db.pool, &alive, &seen("first"))
            .await
            .unwrap();
        assert_eq!(name().await, "first");
        let second = seen("second");
        let recorded = steps::validated(&db.pool, &alive, &Value::Null, None, None, &second).await;
        assert!(recorded.unwrap().is_some());
        assert_eq!(name().await, "second");
    }

    #[tokio::test]
    async fn what_is_owed_late_needs_no_lease() {
        let db = TestDb::new().await;
        let lease = taken(&db.pool).await;
        sqlx::query("UPDATE virtuozo_core.guest_runs SET fence = fence + 1")
            .execute(&db.pool)
            .await
            .unwrap();
        let fence = record_power_on(&db.pool, &lease).await.unwrap();
        assert_eq!(fence, Fence::Lost, "before a change the lease counts");
        record_late(&db.pool, lease.guest_run_id, UndoAction::PowerOn)
            .await
            .unwrap();
        let open = of_guest(&db.pool, lease.guest_id).await.unwrap();
        assert_eq!(open.len(), 1, "{open:?}");
        assert_eq!(open[0].guest_run_id, lease.guest_run_id);
    }
}
