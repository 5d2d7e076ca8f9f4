//! How far the log of the machine has been told, kept in the database: whoever leads next goes on from there.

use sqlx::{FromRow, PgPool};

use super::follow::Place;
use virtuozo_postgres::StoreError;

/// The place that is kept.
#[derive(Debug, Clone, FromRow)]
pub struct Kept {
    #[sqlx(flatten)]
    place: Place,
    version: i64,
}

impl Kept {
    /// What is kept; where nothing is yet, it begins with what happens from now on.
    ///
    /// # Errors
    /// What the database says.
    pub async fn read(pool: &PgPool) -> Result<Self, StoreError> {
        if let Some(kept) = Self::find(pool).await? {
            return Ok(kept);
        }
        sqlx::query(include_str!("mirror_begin.sql"))
            .execute(pool)
            .await?;
        let kept = Self::find(pool).await?;
        kept.ok_or_else(|| StoreError::from(sqlx::Error::RowNotFound))
    }

    async fn find(pool: &PgPool) -> Result<Option<Self>, StoreError> {
        Ok(sqlx::query_as("SELECT since::text, until::text, last_xact, last_id, max_id, version FROM virtuozo_core.event_mirror")
            .fetch_optional(pool)
            .await?)
    }

    /// The place itself.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The same with a place at which nothing more is told, so that it need not be written down.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// Writes a place down instead. None: another scheduler has written one down in the meantime, and this one
    /// is not.
    ///
    /// # Errors
    /// What the database says.
    pub async fn replace(&self, pool: &PgPool, place: Place) -> Result<Option<Self>, StoreError> {
        let done = sqlx::query(include_str!("mirror_save.sql"))
            .bind(&place.since)
            .bind(&place.until)
            .bind(place.last_xact)
            .bind(place.last_id)
            .bind(place.max_id)
            .bind(self.version)
            .execute(pool)
            .await?;
        Ok((done.rows_affected() == 1).then(|| Self {
            place,
            version: self.version + 1,
        }))
    }

    /// The database was restored from a dump: goes on from the same event with the new server's count of
    /// transactions.
    ///
    /// # Errors
    /// What the database says.
    pub async fn restored(&self, pool: &PgPool) -> Result<(), StoreError> {
        sqlx::query(include_str!("mirror_restored.sql"))
            .bind(self.version)
            .execute(pool)
            .await?;
        Ok(())
    }
}
