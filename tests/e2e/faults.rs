//! What a fleet meets: a database that is away or silent, schedulers that die or freeze, workers that are
//! drained, updated or poisoned.

mod endpoints;
mod event_log;
mod outage;
mod schedulers;
mod silence;
mod systemd;
mod workers;

use anyhow::Result;
use sqlx::PgPool;

async fn count(pool: &PgPool, sql: &'static str) -> Result<i64> {
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}
