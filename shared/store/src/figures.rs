//! What monitoring is told of the whole fleet: two statements, read by the leading scheduler now and then.

use sqlx::{FromRow, PgPool};

use super::report::{self, RpoLine};
use virtuozo_postgres::StoreError;

/// One figure.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Of what; none where there is only one.
    pub of: Option<String>,
    /// How much.
    pub value: f64,
}

/// The fleet as it is now.
#[derive(Debug)]
pub struct Figures {
    /// Of queues, hosts, runs and processes.
    pub all: Vec<Figure>,
    /// Of guests.
    pub guests: Vec<RpoLine>,
}

/// Reads them.
///
/// # Errors
/// What the database says.
pub async fn read(pool: &PgPool) -> Result<Figures, StoreError> {
    let all = sqlx::query_as(include_str!("figures/figures.sql"));
    Ok(Figures {
        all: all.fetch_all(pool).await?,
        guests: report::rpo(pool).await?,
    })
}
