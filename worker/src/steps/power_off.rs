//! Step `power_off`: powers the guest off for a cold backup.

use virtuozo_hypervisor::{PowerOff, PowerState};
use virtuozo_model::StepName;
use virtuozo_runtime::LIMITS;
use virtuozo_store::{obligations, runs};

use super::{Frozen, GuestRun, Validated, late_change::Change, secs};
use crate::{
    error::{StepError, check},
    failpoints::Place,
};

/// Powers the guest off, after recording the obligation to power it on again. A guest that is off or suspended is not
/// changed.
pub(super) async fn run(run: &GuestRun, validated: &Validated) -> Result<Frozen, StepError> {
    let guest = run.open().await?;
    let pool = &run.context.pool;
    let mut power = guest.power_state().await?;
    if power == PowerState::On {
        if validated.resume_power {
            let recorded = run
                .context
                .while_unavailable("the obligation to power the guest on", || {
                    obligations::record_power_on(pool, &run.row)
                });
            check(recorded.await?)?;
        }
        run.lease.allowed().await?;
        if validated.resume_power {
            run.changes(Change::PowerOff).await;
        }
        let place = Place::Change(StepName::PowerOff);
        run.context.failpoints.at(place).await?;
        let how = PowerOff {
            soft_limit: secs(run.settings.soft_power_off_secs),
            hard_limit: LIMITS.worker.power,
        };
        let off = guest.power_off(how).await;
        // The new owner of the lease may have powered the guest on before the change took effect.
        run.lease.held().await?;
        off?;
        power = guest.power_state().await?;
    }
    match power {
        PowerState::Off | PowerState::Suspended => {
            let taken_at = run
                .context
                .while_unavailable("the time", || runs::database_now(pool))
                .await?;
            Ok(Frozen {
                taken_at,
                snapshot: None,
                power,
            })
        }
        PowerState::On => Err(StepError::retry(
            "the guest still runs after it was powered off",
        )),
        PowerState::BlockedOnQuestion => Err(StepError::operator(
            "the guest waits for an answer to a question: answer it in its console",
        )),
    }
}
