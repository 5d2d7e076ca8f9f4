//! The watermark of the event forwarder, kept in the database: whoever leads next goes on from there.

use sqlx::{FromRow, PgPool};

use super::follow::Watermark;
use virtuozo_postgres::StoreError;

/// The kept watermark, and the number of its version.
#[derive(Debug, Clone, FromRow)]
pub struct ForwarderPosition {
    #[sqlx(flatten)]
    watermark: Watermark,
    version: i64,
}

impl ForwarderPosition {
    /// What is kept; where nothing is yet, it begins with what happens from now on.
    pub async fn read(pool: &PgPool) -> Result<Self, StoreError> {
        if let Some(kept) = Self::find(pool).await? {
            return Ok(kept);
        }
        sqlx::query(include_str!("forwarder_begin.sql"))
            .execute(pool)
            .await?;
        let kept = Self::find(pool).await?;
        kept.ok_or_else(|| StoreError::from(sqlx::Error::RowNotFound))
    }

    async fn find(pool: &PgPool) -> Result<Option<Self>, StoreError> {
        Ok(sqlx::query_as("SELECT since::text, until::text, last_xact, last_id, max_id, version FROM virtuozo_core.event_forwarder")
            .fetch_optional(pool)
            .await?)
    }

    /// The watermark itself.
    pub fn watermark(&self) -> &Watermark {
        &self.watermark
    }

    /// The same with a watermark that no forwarded event separates from the kept one, so that it need not be written down.
    #[must_use]
    pub fn at(self, watermark: Watermark) -> Self {
        Self { watermark, ..self }
    }

    /// Writes a watermark down instead. None: another scheduler has written one down in the meantime, and this one
    /// is not.
    pub async fn replace(
        &self,
        pool: &PgPool,
        watermark: Watermark,
    ) -> Result<Option<Self>, StoreError> {
        let done = sqlx::query(include_str!("forwarder_save.sql"))
            .bind(&watermark.since)
            .bind(&watermark.until)
            .bind(watermark.last_xact)
            .bind(watermark.last_id)
            .bind(watermark.max_id)
            .bind(self.version)
            .execute(pool)
            .await?;
        Ok((done.rows_affected() == 1).then(|| Self {
            watermark,
            version: self.version + 1,
        }))
    }

    /// The database was restored from a dump: goes on from the same event with the new server's count of
    /// transactions.
    pub async fn restored(&self, pool: &PgPool) -> Result<(), StoreError> {
        sqlx::query(include_str!("forwarder_restored.sql"))
            .bind(self.version)
            .execute(pool)
            .await?;
        Ok(())
    }
}
