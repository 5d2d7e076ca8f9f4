//! The kinds of host that this worker can serve. Each back end is probed at the worker's start and from time to time,
//! since its library may be installed or removed meanwhile.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virtuozo_hypervisor::{Connectors, Probed};
use virtuozo_model::KindServed;
use virtuozo_postgres::Pool;
use virtuozo_queue::Capabilities;
use virtuozo_runtime::{Availability, LIMITS};
use virtuozo_store::workers;

use crate::retry::while_unavailable;

/// The kinds of host that this worker knows, and whether it can serve them.
#[derive(Clone)]
pub(crate) struct Served {
    connectors: Connectors,
    kinds: Arc<watch::Sender<Vec<KindServed>>>,
    reprobe_every: Duration,
    /// The words of those that it can.
    words: Arc<watch::Sender<Vec<String>>>,
}

impl Served {
    /// Probes the back ends on this machine.
    pub(crate) async fn probe(connectors: Connectors, reprobe_every: Duration) -> Self {
        let kinds = probe(&connectors).await;
        Self {
            connectors,
            words: Arc::new(watch::Sender::new(words(&kinds))),
            kinds: Arc::new(watch::Sender::new(kinds)),
            reprobe_every,
        }
    }

    /// The results of the last probe.
    pub(crate) fn kinds(&self) -> Vec<KindServed> {
        self.kinds.borrow().clone()
    }

    /// Whether there is a kind of host that this worker cannot serve.
    fn lacks_any(&self) -> bool {
        self.kinds.borrow().iter().any(|one| !one.is_served)
    }

    /// What this worker's queues claim.
    pub(crate) fn capabilities(&self, id: Uuid) -> Capabilities {
        Capabilities::of_worker(id, self.words.subscribe())
    }

    /// Whether there is a kind of host that this worker can serve.
    pub(crate) fn serves_any(&self) -> bool {
        serves_any(&self.kinds.borrow())
    }

    /// Waits until there is a kind of host that this worker can serve.
    pub(crate) async fn any(&self) {
        let mut kinds = self.kinds.subscribe();
        // Cannot fail: `self` owns the sender.
        let _ = kinds.wait_for(|kinds| serves_any(kinds)).await;
    }

    /// Probes from time to time, and records changes.
    pub(crate) async fn keep_probing(
        self,
        pool: Pool,
        availability: Availability,
        id: Uuid,
        stop: CancellationToken,
    ) {
        loop {
            let pause = match self.lacks_any() {
                true => self.reprobe_every,
                false => LIMITS.worker.probe_every,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            let found = probe(&self.connectors).await;
            if found == self.kinds() {
                continue;
            }
            let noting = || workers::serves(&pool, id, &found);
            if let Err(error) =
                while_unavailable(&availability, "which kinds of host a worker serves", noting)
                    .await
            {
                tracing::warn!(%error, "kinds of host that this worker serves could not be recorded");
            }
            self.words.send_replace(words(&found));
            self.kinds.send_replace(found);
        }
    }
}

fn words(kinds: &[KindServed]) -> Vec<String> {
    let served = kinds.iter().filter(|one| one.is_served);
    served.map(|one| one.kind.clone()).collect()
}

fn serves_any(kinds: &[KindServed]) -> bool {
    kinds.iter().any(|one| one.is_served)
}

async fn probe(connectors: &Connectors) -> Vec<KindServed> {
    let probed = connectors.probe().await;
    for Probed { back_end, found } in &probed {
        match found {
            Ok(found) => tracing::info!(back_end = back_end.name, found, "back end is usable"),
            Err(error) => tracing::warn!(
                back_end = back_end.name,
                %error,
                "back end is not usable; its hosts are left to other workers"
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
