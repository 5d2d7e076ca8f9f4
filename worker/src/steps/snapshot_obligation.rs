//! The obligation to remove the snapshot, which the record of `validate` carries before the snapshot is taken.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};
use virtuozo_hypervisor::snapshot_name;
use virtuozo_model::StepName;
use virtuozo_store::{
    inventory::GuestObservation,
    obligations::Obligation,
    steps::{self, NextStep},
};

use super::GuestRun;
use crate::error::{StepError, Stop};

/// The obligation of this run, until it is met.
#[derive(Default)]
pub(super) struct RecordedObligation(Mutex<Option<Recorded>>);

struct Recorded {
    obligation: Obligation,
    /// When it was recorded, by the database's clock.
    at: DateTime<Utc>,
    /// The same instant by this machine's clock, to measure the time since then.
    began: Instant,
}

impl GuestRun {
    /// Records the output of `validate` and the begin of the next step; if that is `snapshot`, also the obligation to remove
    /// the snapshot.
    pub(super) async fn record_validated(
        &self,
        output: &Value,
        next: Option<NextStep>,
        seen: &GuestObservation,
    ) -> Result<(), StepError> {
        let row = &self.row;
        let obligation = next
            .is_some_and(|next| next.step == StepName::Snapshot)
            .then(|| snapshot_name::make(row.guest_run_id, row.fence))
            .map(|name| Obligation::of_snapshot(row, name));
        let pool = &self.context.pool;
        let recording = || steps::validated(pool, row, output, next, obligation.as_ref(), seen);
        let at = self
            .context
            .while_unavailable("what validation has found out", recording)
            .await?
            .ok_or(Stop::Fenced)?;
        *self.snapshot_obligation.0.lock().await = obligation.map(|obligation| Recorded {
            obligation,
            at,
            began: Instant::now(),
        });
        Ok(())
    }

    /// The obligations of the run, where they are known without a query: under its first lease, if the guest had none
    /// before, they are those that this worker has recorded.
    pub(crate) async fn only_obligation(&self) -> Option<Obligation> {
        if self.has_obligations || self.row.fence > 1 {
            return None;
        }
        let obligation = self.snapshot_obligation.0.lock().await;
        obligation
            .as_ref()
            .map(|recorded| recorded.obligation.clone())
    }

    /// The time by the database's clock, if the obligation to remove the snapshot is recorded already.
    pub(super) async fn now_if_obligation_is_recorded(&self) -> Option<DateTime<Utc>> {
        let obligation = self.snapshot_obligation.0.lock().await;
        obligation.as_ref().map(|recorded| {
            recorded.at + TimeDelta::from_std(recorded.began.elapsed()).unwrap_or_default()
        })
    }

    /// The recorded obligation may have been met meanwhile.
    pub(super) async fn forget_snapshot_obligation(&self) {
        *self.snapshot_obligation.0.lock().await = None;
    }
}
