//! Which kinds of host this worker can serve: what of their back ends its machine has. Looked at when it starts, and
//! from time to time, since a library may be installed or removed meanwhile.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virtuozo_hypervisor::{Connectors, Probed};
use virtuozo_model::KindServed;
use virtuozo_postgres::Pool;
use virtuozo_runtime::Availability;
use virtuozo_store::workers;

use crate::retry::while_unavailable;

/// How often a worker looks whether it still has all that it had.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// The same where it lacks something, which somebody may be installing.
const LOOK_EVERY_LACKING: Duration = Duration::from_secs(30);

/// The kinds of host that this worker knows, and whether it can serve them.
#[derive(Clone)]
pub(crate) struct Served {
    connectors: Connectors,
    kinds: Arc<watch::Sender<Vec<KindServed>>>,
    look_every_lacking: Duration,
}

impl Served {
    /// Looks at this machine.
    pub(crate) async fn look(connectors: Connectors, look_every_lacking: Option<Duration>) -> Self {
        let kinds = look(&connectors).await;
        Self {
            connectors,
            kinds: Arc::new(watch::Sender::new(kinds)),
            look_every_lacking: look_every_lacking.unwrap_or(LOOK_EVERY_LACKING),
        }
    }

    /// What was found when it was looked last.
    pub(crate) fn kinds(&self) -> Vec<KindServed> {
        self.kinds.borrow().clone()
    }

    /// There are kinds of host that this worker cannot serve.
    pub(crate) fn lacks_any(&self) -> bool {
        self.kinds.borrow().iter().any(|one| !one.is_served)
    }

    /// There is a kind of host that this worker can serve.
    pub(crate) fn serves_any(&self) -> bool {
        serves_any(&self.kinds.borrow())
    }

    /// Waits until there is a kind of host that this worker can serve.
    pub(crate) async fn any(&self) {
        let mut kinds = self.kinds.subscribe();
        // The sender lives as long as this does.
        let _ = kinds.wait_for(|kinds| serves_any(kinds)).await;
    }

    /// Looks again from time to time, and notes what has changed.
    pub(crate) async fn keep_looking(
        self,
        pool: Pool,
        availability: Availability,
        id: Uuid,
        stop: CancellationToken,
    ) {
        loop {
            let pause = match self.lacks_any() {
                true => self.look_every_lacking,
                false => LOOK_EVERY,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            let found = look(&self.connectors).await;
            if found == self.kinds() {
                continue;
            }
            let noting = || workers::serves(&pool, id, &found);
            if let Err(error) =
                while_unavailable(&availability, "which kinds of host a worker serves", noting)
                    .await
            {
                tracing::warn!(%error, "which kinds of host this worker serves could not be noted");
            }
            self.kinds.send_replace(found);
        }
    }
}

fn serves_any(kinds: &[KindServed]) -> bool {
    kinds.iter().any(|one| one.is_served)
}

async fn look(connectors: &Connectors) -> Vec<KindServed> {
    let probed = connectors.probe().await;
    for Probed { back_end, found } in &probed {
        match found {
            Ok(found) => tracing::info!(back_end = back_end.name, "{found}"),
            Err(error) => tracing::warn!(
                back_end = back_end.name,
                %error,
                "hosts of this back end are left to other workers"
            ),
        }
    }
    probed
        .into_iter()
        .flat_map(|Probed { back_end, found }| {
            let is_served = found.is_ok();
            let found = found.unwrap_or_else(|error| error.message);
            back_end.kinds.iter().map(move |kind| KindServed {
                kind: kind.word.to_owned(),
                is_served,
                found: found.clone(),
            })
        })
        .collect()
}
