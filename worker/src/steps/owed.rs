//! What is owed since the record of `validate`: the snapshot that is about to be taken.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};
use virtuozo_hypervisor::snapshot_name;
use virtuozo_model::StepName;
use virtuozo_store::{
    inventory::GuestObservation,
    obligations::Obligation,
    steps::{self, Next},
};

use super::GuestRun;
use crate::{
    error::{StepError, Stop},
    patience::patiently,
};

/// The obligation to remove the snapshot, while nobody has met it.
#[derive(Default)]
pub(super) struct Owed(Mutex<Option<Since>>);

struct Since {
    obligation: Obligation,
    /// When it was recorded, by the database's clock.
    at: DateTime<Utc>,
    /// The same by this machine's, good for what has passed since.
    began: Instant,
}

impl GuestRun {
    /// Records what `validate` has found out; if a snapshot comes next, also that it has to be removed.
    pub(super) async fn record_validated(
        &self,
        output: &Value,
        next: Option<Next>,
        seen: &GuestObservation,
    ) -> Result<(), StepError> {
        let row = &self.row;
        let owed = next
            .is_some_and(|next| next.step == StepName::Snapshot)
            .then(|| snapshot_name::make(row.guest_run_id, row.fence))
            .map(|name| Obligation::of_snapshot(row, name));
        let pool = &self.context.pool;
        let recording = || steps::validated(pool, row, output, next, owed.as_ref(), seen);
        let at = patiently("what validation has found out", recording)
            .await?
            .ok_or(Stop::Fenced)?;
        *self.owed.0.lock().await = owed.map(|obligation| Since {
            obligation,
            at,
            began: Instant::now(),
        });
        Ok(())
    }

    /// What the run owes its guest, where that is known without asking: under its first lease, if nothing was
    /// owed before, it is what this worker has recorded itself.
    pub(crate) async fn owes_only(&self) -> Option<Obligation> {
        if self.is_owed || self.row.fence > 1 {
            return None;
        }
        let owed = self.owed.0.lock().await;
        owed.as_ref().map(|since| since.obligation.clone())
    }

    /// The time by the database's clock, if the snapshot that is about to be taken is owed already.
    pub(super) async fn snapshot_is_owed(&self) -> Option<DateTime<Utc>> {
        let owed = self.owed.0.lock().await;
        owed.as_ref()
            .map(|since| since.at + TimeDelta::from_std(since.began.elapsed()).unwrap_or_default())
    }

    /// What was recorded may have been met meanwhile.
    pub(super) async fn forget_owed(&self) {
        *self.owed.0.lock().await = None;
    }
}
