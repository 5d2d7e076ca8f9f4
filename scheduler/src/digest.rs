//! The daily digest is queued when it is due.

use sqlx::PgPool;
use virtuozo_postgres::StoreError;
use virtuozo_store::{
    notices::{self, config},
    runs, settings,
};

/// Queues the digest when it is due; of several that were missed only the last.
///
/// # Errors
/// What the database says.
pub(crate) async fn queue_due(pool: &PgPool) -> Result<(), StoreError> {
    let how = config::get(pool).await?;
    if how.digest_time.is_none() {
        return Ok(());
    }
    let rhythm = config::digest_rhythm(&how, &settings::get(pool).await?)?;
    let now = runs::database_now(pool).await?;
    if let Some(due_at) = rhythm.and_then(|rhythm| rhythm.last_until(now))
        && due_at > how.digest_done_until
        && notices::digest(pool, due_at).await?
    {
        tracing::info!(%due_at, "digest queued");
    }
    Ok(())
}
