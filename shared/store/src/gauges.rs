//! Gauges of the whole fleet for monitoring: two statements, read by the leading scheduler now and then.

use sqlx::{FromRow, PgPool};

use super::views::{self, RpoLine};
use virtuozo_postgres::StoreError;

/// One gauge.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct Gauge {
    /// Its name.
    pub name: String,
    /// The value of its label; none where there is only one.
    pub of: Option<String>,
    /// Its value.
    pub value: f64,
}

/// The fleet as it is now.
#[derive(Debug, Clone)]
pub struct GaugeReadings {
    /// Of queues, hosts, runs and processes.
    pub all: Vec<Gauge>,
    /// Of guests.
    pub guests: Vec<RpoLine>,
}

/// Reads all gauges of the fleet.
pub async fn read(pool: &PgPool) -> Result<GaugeReadings, StoreError> {
    let all = sqlx::query_as(include_str!("gauges/gauges.sql"));
    Ok(GaugeReadings {
        all: all.fetch_all(pool).await?,
        guests: views::all::<RpoLine>(pool).await?,
    })
}
