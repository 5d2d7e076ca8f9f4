//! The functions that operators have in SQL, for the console: one implementation, in the migrations.

use sqlx::{Encode, PgConnection, PgPool, Postgres, Type};
use uuid::Uuid;

use crate::StoreError;

/// Everything in a run that failed begins afresh: guests, and hosts that could not be validated. Returns
/// what was done, as a sentence.
///
/// # Errors
/// [`StoreError::Refused`] if nothing has failed, or the run is being cancelled.
pub async fn retry_failed(pool: &PgPool, run_id: Uuid) -> Result<String, StoreError> {
    let mut conn = pool.acquire().await?;
    let sql = include_str!("sql/operator_retry_failed.sql");
    call(&mut conn, sql, run_id).await
}

/// Begins no guest of this host any more, or of any host if `host_or_all` is `all`. What is in work goes
/// on. Returns what was done.
///
/// # Errors
/// [`StoreError::Refused`] if there is no such host.
pub async fn pause(pool: &PgPool, host_or_all: &str) -> Result<String, StoreError> {
    let mut conn = pool.acquire().await?;
    call(
        &mut conn,
        include_str!("sql/operator_pause.sql"),
        host_or_all,
    )
    .await
}

/// The end of [`pause`]; `all` also resumes hosts that were paused one by one. Returns what was done.
///
/// # Errors
/// [`StoreError::Refused`] if there is no such host, or all hosts are paused.
pub async fn resume(pool: &PgPool, host_or_all: &str) -> Result<String, StoreError> {
    let mut conn = pool.acquire().await?;
    call(
        &mut conn,
        include_str!("sql/operator_resume.sql"),
        host_or_all,
    )
    .await
}

/// Calls one of the functions. What they refuse is a [`StoreError::Refused`] with their reason.
pub(super) async fn call<'a, T>(
    conn: &mut PgConnection,
    sql: &'static str,
    argument: T,
) -> Result<String, StoreError>
where
    T: Encode<'a, Postgres> + Type<Postgres> + Send + 'a,
{
    sqlx::query_scalar(sql)
        .bind(argument)
        .fetch_one(conn)
        .await
        .map_err(|error| match &error {
            // The codes that the migration names: not in a state for it, or not known.
            sqlx::Error::Database(e) if e.code().is_some_and(|c| c == "55000" || c == "P0002") => {
                let why = e.message().to_owned();
                StoreError::Refused(why)
            }
            _ => error.into(),
        })
}

#[cfg(test)]
mod tests;
