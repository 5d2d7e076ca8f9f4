//! Monitoring is told of the whole fleet by the scheduler that leads, beside its work.

use std::time::Duration;

use sqlx::PgPool;
use tokio::{sync::watch, task::JoinHandle};
use virtuozo_postgres::count_error;
use virtuozo_runtime::Availability;
use virtuozo_store::gauges;
use virtuozo_telemetry::metrics;

use crate::fleet_gauges::FleetGauges;

/// How old what is told may be.
const EVERY: Duration = Duration::from_secs(10);
/// What takes longer is not told: figures of the past serve nobody.
const LIMIT: Duration = Duration::from_secs(8);

/// Tells what the fleet does while this scheduler leads, until it is dropped; nothing where nobody reads it.
pub(crate) struct Teller {
    leads: watch::Sender<bool>,
    gauges: Option<FleetGauges>,
    task: Option<JoinHandle<()>>,
}

impl Teller {
    pub(crate) fn start(pool: PgPool, availability: Availability) -> Self {
        let (leads, led) = watch::channel(false);
        metrics::set_leads(Some(false));
        let gauges = metrics::are_read().then(|| FleetGauges::register(&metrics::meter()));
        let task = gauges
            .clone()
            .map(|gauges| tokio::spawn(tell(pool, availability, led, gauges)));
        Self {
            leads,
            gauges,
            task,
        }
    }

    /// Says whether this scheduler leads, for certain.
    pub(crate) fn leads(&self, leads: bool) {
        metrics::set_leads(Some(leads));
        self.leads
            .send_if_modified(|before| std::mem::replace(before, leads) != leads);
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        metrics::set_leads(None);
        if let Some(gauges) = &self.gauges {
            gauges.set(None);
        }
    }
}

async fn tell(
    pool: PgPool,
    availability: Availability,
    mut leads: watch::Receiver<bool>,
    gauges: FleetGauges,
) {
    loop {
        let figures = if *leads.borrow_and_update() {
            match tokio::time::timeout(LIMIT, gauges::read(&pool)).await {
                Ok(Ok(figures)) => Some(figures),
                Ok(Err(error)) => {
                    count_error(&availability, &error);
                    tracing::debug!(%error, "the fleet's figures could not be read");
                    None
                }
                Err(_) => None,
            }
        } else {
            None
        };
        gauges.set(figures);
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            changed = leads.changed() => if changed.is_err() { return },
        }
    }
}
