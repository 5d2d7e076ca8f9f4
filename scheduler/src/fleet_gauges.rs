//! The gauges of the whole fleet, read from the database by the scheduler that leads.

mod instruments;

use std::time::Duration;

use sqlx::PgPool;
use virtuozo_postgres::StoreError;
use virtuozo_runtime::LIMITS;
use virtuozo_store::gauges;
use virtuozo_telemetry::metrics::Metrics;

use crate::leader::{LeaderTask, Next, TaskError};
use instruments::FleetInstruments;

/// Reads the gauges; none where no metrics are exported. And says whether this scheduler leads.
pub(crate) struct FleetGauges {
    pool: PgPool,
    metrics: Metrics,
    instruments: Option<FleetInstruments>,
}

impl FleetGauges {
    pub(crate) fn new(pool: PgPool, metrics: Metrics) -> Self {
        metrics.set_leads(Some(false));
        Self {
            pool,
            instruments: metrics
                .are_read()
                .then(|| FleetInstruments::register(metrics.meter())),
            metrics,
        }
    }
}

impl LeaderTask for FleetGauges {
    const NAME: &'static str = "the gauges of the fleet";
    /// How old a value may be.
    const EVERY: Duration = LIMITS.leader.gauges_every;

    async fn activate(&mut self) -> Result<Next, TaskError> {
        self.metrics.set_leads(Some(true));
        if let Some(instruments) = &self.instruments {
            let read = tokio::time::timeout(LIMITS.leader.gauges, gauges::read(&self.pool)).await;
            let read = read.unwrap_or(Err(StoreError::Silent {
                limit: LIMITS.leader.gauges,
            }));
            instruments.set(read.as_ref().ok().cloned());
            read?;
        }
        Ok(Next::Later)
    }

    fn lost_leadership(&mut self) {
        self.metrics.set_leads(Some(false));
        if let Some(instruments) = &self.instruments {
            instruments.set(None);
        }
    }
}

impl Drop for FleetGauges {
    fn drop(&mut self) {
        self.lost_leadership();
        self.metrics.set_leads(None);
    }
}
