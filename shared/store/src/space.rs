//! What is free in repositories, as workers saw it: other processes may not reach them.

use sqlx::PgExecutor;

use virtuozo_postgres::StoreError;

/// Records what is free in a repository.
pub async fn seen(db: impl PgExecutor<'_>, path: &str, free_bytes: u64) -> Result<(), StoreError> {
    sqlx::query(include_str!("space/repository_space_seen.sql"))
        .bind(path)
        .bind(i64::try_from(free_bytes).unwrap_or(i64::MAX))
        .execute(db)
        .await?;
    Ok(())
}
