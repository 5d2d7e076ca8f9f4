//! The gauges of the whole fleet, read from the database by the scheduler that leads.

use std::time::Duration;

use sqlx::PgPool;
use tokio::{sync::watch, task::JoinHandle};
use virtuozo_postgres::count_error;
use virtuozo_store::gauges as store;
use virtuozo_telemetry::{Telemetry, metrics::Metrics};

mod instruments;

use instruments::FleetGauges;

/// How old a value may be.
const EVERY: Duration = Duration::from_secs(10);
/// A reading that takes longer is not exported: its values would be of the past.
const LIMIT: Duration = Duration::from_secs(8);

/// Reads the gauges while this scheduler leads, until it is dropped; does nothing where no metrics are exported.
pub(crate) struct FleetGaugeReader {
    metrics: Metrics,
    leads: watch::Sender<bool>,
    gauges: Option<FleetGauges>,
    task: Option<JoinHandle<()>>,
}

impl FleetGaugeReader {
    pub(crate) fn start(pool: PgPool, telemetry: Telemetry) -> Self {
        let metrics = telemetry.metrics.clone();
        let (leads, led) = watch::channel(false);
        metrics.set_leads(Some(false));
        let gauges = metrics
            .are_read()
            .then(|| FleetGauges::register(metrics.meter()));
        let task = gauges
            .clone()
            .map(|gauges| tokio::spawn(read(pool, telemetry, led, gauges)));
        Self {
            metrics,
            leads,
            gauges,
            task,
        }
    }

    /// Says whether this scheduler leads, for certain.
    pub(crate) fn leads(&self, leads: bool) {
        self.metrics.set_leads(Some(leads));
        self.leads
            .send_if_modified(|before| std::mem::replace(before, leads) != leads);
    }
}

impl Drop for FleetGaugeReader {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        self.metrics.set_leads(None);
        if let Some(gauges) = &self.gauges {
            gauges.set(None);
        }
    }
}

async fn read(
    pool: PgPool,
    telemetry: Telemetry,
    mut leads: watch::Receiver<bool>,
    gauges: FleetGauges,
) {
    loop {
        let values = if *leads.borrow_and_update() {
            match tokio::time::timeout(LIMIT, store::read(&pool)).await {
                Ok(Ok(values)) => Some(values),
                Ok(Err(error)) => {
                    count_error(&telemetry.health.availability, &error);
                    tracing::debug!(%error, "the gauges of the fleet could not be read");
                    None
                }
                Err(_) => None,
            }
        } else {
            None
        };
        gauges.set(values);
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            changed = leads.changed() => if changed.is_err() { return },
        }
    }
}
