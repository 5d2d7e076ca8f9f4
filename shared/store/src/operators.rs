//! The functions that operators have in SQL, for the console: one implementation, in the migrations.

use sqlx::{PgConnection, PgPool, Postgres, postgres::PgArguments, query::QueryScalar};
use uuid::Uuid;

use virtuozo_postgres::StoreError;

/// Everything in a run that failed begins afresh: guests, and hosts that could not be validated. Returns
/// what was done, as a sentence.
///
/// # Errors
/// [`StoreError::Refused`] if nothing has failed, or the run is being cancelled.
pub async fn retry_failed(pool: &PgPool, run_id: Uuid) -> Result<String, StoreError> {
    let mut conn = pool.acquire().await?;
    let sql = "SELECT virtuozo.retry_failed($1)";
    call(&mut conn, sqlx::query_scalar(sql).bind(run_id)).await
}

/// Gives up an obligation that can never be met: what became of the guest is for people to look after. Returns what
/// was done.
///
/// # Errors
/// [`StoreError::Refused`] if there is none of this id, somebody works on it or its guest, or no reason is given.
pub async fn forgive(pool: &PgPool, obligation: Uuid, reason: &str) -> Result<String, StoreError> {
    let mut conn = pool.acquire().await?;
    let sql = "SELECT virtuozo.forgive($1, $2)";
    call(
        &mut conn,
        sqlx::query_scalar(sql).bind(obligation).bind(reason),
    )
    .await
}

/// Begins no guest of this host any more, or of any host if `host_or_all` is `all`. What is in work goes
/// on. Returns what was done.
///
/// # Errors
/// [`StoreError::Refused`] if there is no such host.
pub async fn pause(pool: &PgPool, host_or_all: &str) -> Result<String, StoreError> {
    let mut conn = pool.acquire().await?;
    let sql = "SELECT virtuozo.pause($1)";
    call(&mut conn, sqlx::query_scalar(sql).bind(host_or_all)).await
}

/// The end of [`pause`]. Hosts that were paused by their names stay so after `all`. Returns what was done, with the
/// names of those.
///
/// # Errors
/// [`StoreError::Refused`] if there is no such host, or all hosts are paused.
pub async fn resume(pool: &PgPool, host_or_all: &str) -> Result<String, StoreError> {
    let mut conn = pool.acquire().await?;
    let sql = "SELECT virtuozo.resume($1)";
    call(&mut conn, sqlx::query_scalar(sql).bind(host_or_all)).await
}

/// Calls one of the functions. What they refuse is a [`StoreError::Refused`] with their reason.
pub(super) async fn call(
    conn: &mut PgConnection,
    function: QueryScalar<'_, Postgres, String, PgArguments>,
) -> Result<String, StoreError> {
    function
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
