//! What is the same for the leases of all tables, written by macros from what differs.

/// What says that a row is under a lease: its key, the fence and the owner.
macro_rules! held {
    ($key:literal) => {
        concat!(
            " WHERE x.",
            $key,
            " = $1 AND x.fence = $2 AND x.owner_id = $3 AND x.lease_until IS NOT NULL"
        )
    };
}
pub(crate) use held;

/// The statement that renews leases of a table: its name, its key, what says that the work is to end, and for how many
/// seconds, if not for `lease_secs`.
macro_rules! renewal {
    ($table:literal, $key:literal, $cancelled:literal) => {
        $crate::leases::renewal!($table, $key, $cancelled, "s.lease_secs")
    };
    ($table:literal, $key:literal, $cancelled:literal, $secs:literal) => {
        concat!(
            "UPDATE virtuozo_core.",
            $table,
            " x SET lease_until = virtuozo_core.lease_end(",
            $secs,
            ") FROM virtuozo_core.settings s",
            $crate::leases::held!($key),
            " RETURNING ",
            $cancelled,
            " AS cancel_requested, ",
            $secs,
            " AS lease_secs"
        )
    };
}
pub(crate) use renewal;

/// The statement that releases leases of a table: its name, its key, and what else it sets, with a comma at its end.
macro_rules! releasing {
    ($table:literal, $key:literal, $set:literal) => {
        concat!(
            "UPDATE virtuozo_core.",
            $table,
            " x SET ",
            $set,
            " lease_until = NULL, owner_id = NULL",
            $crate::leases::held!($key)
        )
    };
}
pub(crate) use releasing;

/// The statement that gives up a lease whose holder does not know of it: its table, and what else it sets, with a comma
/// at its end. Counts as no crash: nothing was done under it.
macro_rules! putting_back {
    ($table:literal, $set:literal) => {
        concat!(
            "UPDATE virtuozo_core.",
            $table,
            " x SET ",
            $set,
            " lease_until = NULL, owner_id = NULL WHERE x.id = $1 AND x.owner_id = $2 AND x.lease_until IS NOT NULL"
        )
    };
}
pub(crate) use putting_back;

/// The beginning of the statement that takes the leases of a table away from owners that are gone: their rows as `lost`, with
/// the crashes that each has met, and whether that was the last one it may. A row that somebody has locked is left alone: a
/// process that was frozen within a transaction is waited for by nobody.
macro_rules! lost {
    ($table:literal) => {
        concat!(
            "WITH lost AS (",
            "SELECT x.id, x.crashes + 1 AS crashes, s.max_crashes, x.crashes + 1 >= s.max_crashes AS is_last FROM virtuozo_core.",
            $table,
            " x CROSS JOIN virtuozo_core.settings s WHERE x.state = 'running'",
            " AND virtuozo_core.is_lost(x.lease_until, s.lease_secs) FOR UPDATE OF x SKIP LOCKED) "
        )
    };
}
pub(crate) use lost;

/// That a type is a lease, with the columns of one as its fields: what it is about, the field with its key, the statement that
/// renews it; and, where its work can be cancelled, the field that says so.
macro_rules! leased {
    ($lease:ty, $kind:ident, $key:ident, $renewal:expr) => {
        $crate::leases::leased!(@ $lease, $kind, $key, $renewal, |_: &$lease| false);
    };
    ($lease:ty, $kind:ident, $key:ident, $renewal:expr, $cancelled:ident) => {
        $crate::leases::leased!(@ $lease, $kind, $key, $renewal, |lease: &$lease| lease.$cancelled);
    };
    (@ $lease:ty, $kind:ident, $key:ident, $renewal:expr, $cancelled:expr) => {
        impl $crate::leases::Leased for $lease {
            const KIND: virtuozo_telemetry::metrics::LeaseKind =
                virtuozo_telemetry::metrics::LeaseKind::$kind;
            const RENEWAL: &'static str = $renewal;

            fn key(&self) -> uuid::Uuid {
                self.$key
            }

            fn fence(&self) -> i64 {
                self.fence
            }

            fn owner_id(&self) -> uuid::Uuid {
                self.owner_id
            }

            fn taken(&self) -> $crate::leases::Renewal {
                let is_cancelled: fn(&Self) -> bool = $cancelled;
                $crate::leases::Renewal {
                    cancel_requested: is_cancelled(self),
                    lease_secs: self.lease_secs,
                }
            }
        }
    };
}
pub(crate) use leased;
