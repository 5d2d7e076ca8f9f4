//! Leases: the right of one owner to act for a row, in the columns `fence`, `owner_id` and `lease_until`.

mod keeper;
mod statements;

use sqlx::{FromRow, PgExecutor, postgres::PgRow};
use uuid::Uuid;

pub use keeper::{BootInstant, LeaseEnd, LeaseHandle, LeaseKeeper};
pub(super) use statements::{held, leased, lost, putting_back, releasing, renewal};

use virtuozo_postgres::StoreError;
use virtuozo_telemetry::metrics::LeaseKind;

/// Whether a fenced statement found its row. Not the same as a connection error, after which nothing is
/// known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Fence {
    /// The lease is still ours.
    Held,
    /// Somebody else has it, or the run has ended: stop, and write nothing more.
    Lost,
}

impl Fence {
    pub(super) fn of(found: bool) -> Self {
        if found { Self::Held } else { Self::Lost }
    }
}

/// The answer to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Renewal {
    /// Somebody wants the run to end.
    pub cancel_requested: bool,
    /// How long the lease holds from now on, in seconds.
    pub lease_secs: i32,
}

/// What an owner has taken.
pub trait Leased: Send + Sync + 'static {
    /// What it is about, for those who count.
    const KIND: LeaseKind;

    /// Renews a lease of its table, as `renewal!` writes it: $1 is the key of the row, or of the rows that are held
    /// together, $2 the fence, $3 the owner.
    const RENEWAL: &'static str;

    /// What is held.
    fn key(&self) -> Uuid;

    /// The number of this lease; grows with every taking.
    fn fence(&self) -> i64;

    /// Who has taken it. After a failover to a server that had missed the taking, a fence may have been given twice.
    fn owner_id(&self) -> Uuid;

    /// How it stood when it was taken.
    fn taken(&self) -> Renewal;
}

/// A lease that a process takes by the key of its row, and under its own id.
pub trait TakenByKey: Leased + for<'r> FromRow<'r, PgRow> + Unpin {
    /// Takes a lease of its table and returns it: $1 is the key of the row, $2 who takes it.
    const TAKING: &'static str;

    /// Puts such a lease back, as `putting_back!` writes it: $1 is the key of the row, $2 who has it.
    const PUTTING_BACK: &'static str;
}

/// A lease that its owner can release before its work has ended.
pub trait Released: Leased {
    /// Releases a lease of its table, as `releasing!` writes it; its parameters are those of [`Leased::RENEWAL`].
    const RELEASING: &'static str;
}

/// Takes the lease of what is free and due. None: somebody has it, it is not due, or has ended; then there is nothing
/// to do.
pub async fn take<L: TakenByKey>(
    db: impl PgExecutor<'_>,
    key: Uuid,
    owner_id: Uuid,
) -> Result<Option<L>, StoreError> {
    Ok(sqlx::query_as(L::TAKING)
        .bind(key)
        .bind(owner_id)
        .fetch_optional(db)
        .await?)
}

/// Gives up a lease of `owner_id` that it does not know of, because the answer to its taking was lost: it can be taken
/// again. Only for what nobody works on in that process.
pub async fn put_back<L: TakenByKey>(
    db: impl PgExecutor<'_>,
    key: Uuid,
    owner_id: Uuid,
) -> Result<(), StoreError> {
    sqlx::query(L::PUTTING_BACK)
        .bind(key)
        .bind(owner_id)
        .execute(db)
        .await?;
    Ok(())
}

/// Releases a lease: others may take it.
pub async fn release<L: Released>(db: impl PgExecutor<'_>, lease: &L) -> Result<Fence, StoreError> {
    let released = sqlx::query(L::RELEASING)
        .bind(lease.key())
        .bind(lease.fence())
        .bind(lease.owner_id())
        .execute(db)
        .await?;
    Ok(Fence::of(released.rows_affected() > 0))
}

/// Renews a lease. None: it is lost.
pub async fn renew<L: Leased>(
    db: impl PgExecutor<'_>,
    lease: &L,
) -> Result<Option<Renewal>, StoreError> {
    Ok(sqlx::query_as(L::RENEWAL)
        .bind(lease.key())
        .bind(lease.fence())
        .bind(lease.owner_id())
        .fetch_optional(db)
        .await?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::sweeps;
    use virtuozo_postgres::testing::TestDb;
    use virtuozo_telemetry::metrics::Metrics;

    #[tokio::test]
    async fn a_worker_frozen_within_a_transaction_holds_up_no_other_take_over() {
        let db = TestDb::new().await;
        sqlx::raw_sql(
            "UPDATE virtuozo_core.settings SET lease_secs = 2;
             INSERT INTO virtuozo_core.runs (id, requested_by) VALUES (md5('run')::uuid, 'test');
             INSERT INTO virtuozo_core.hosts (id, name, kind)
             SELECT md5(n)::uuid, n, 'esxi' FROM unnest('{frozen,dead}'::text[]) n;
             INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, state, fence, lease_until, owner_id)
             SELECT id, md5('run')::uuid, id, 'running', 1, '1970-01-01', id FROM virtuozo_core.hosts;
             INSERT INTO virtuozo_core.guests (id, host_id, locator, name)
             SELECT id, id, name, name FROM virtuozo_core.hosts;
             INSERT INTO virtuozo_core.guest_runs
                    (id, run_id, host_run_id, host_id, guest_id, state, fence, lease_until, owner_id, admitted_at)
             SELECT id, md5('run')::uuid, id, id, id, 'running', 1, '1970-01-01', id, now()
               FROM virtuozo_core.hosts;",
        )
        .execute(&db.pool)
        .await
        .unwrap();
        let mut frozen = db.pool.begin().await.unwrap();
        sqlx::raw_sql(
            "SELECT FROM virtuozo_core.host_runs WHERE id = md5('frozen')::uuid FOR UPDATE;
             SELECT FROM virtuozo_core.guest_runs WHERE id = md5('frozen')::uuid FOR UPDATE;",
        )
        .execute(&mut *frozen)
        .await
        .unwrap();

        // A server that was just started gives every lease one more length.
        let found = async {
            let (mut hosts, mut guests) = (Vec::new(), Vec::new());
            while hosts.is_empty() || guests.is_empty() {
                hosts.extend(
                    sweeps::expire_host_runs(&db.pool, &Metrics::default())
                        .await
                        .unwrap(),
                );
                guests.extend(
                    sweeps::expire_guest_runs(&db.pool, &Metrics::default())
                        .await
                        .unwrap(),
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (hosts, guests)
        };
        let (hosts, guests) = tokio::time::timeout(Duration::from_secs(30), found)
            .await
            .expect("the dead worker's runs are taken over");
        assert_eq!((hosts.len(), guests.len()), (1, 1));
        assert_eq!(
            (hosts[0].name.as_str(), guests[0].name.as_str()),
            ("dead", "dead/dead")
        );
        frozen.rollback().await.unwrap();
        let guests = sweeps::expire_guest_runs(&db.pool, &Metrics::default())
            .await
            .unwrap();
        assert_eq!(guests.len(), 1, "{guests:?}");
    }
}
