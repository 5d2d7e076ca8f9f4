//! Requests: what somebody asks of a host and waits to hear, done by a worker that serves its kind.

use sqlx::{FromRow, PgExecutor, PgPool, types::Json};
use uuid::Uuid;

use super::leases::{self, Fence, Released, TakenByKey, leased, putting_back, releasing, renewal};
use virtuozo_model::{ErrorClass, RequestKind, RequestState};
use virtuozo_postgres::StoreError;
use virtuozo_queue::RequestJob;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NewRequest<'a> {
    /// What is to be done.
    pub kind: RequestKind,
    /// With which host.
    pub host_id: Uuid,
    /// Who asks.
    pub requested_by: &'a str,
    /// For how long the answer is waited for, in seconds. What is not done by then is not done any more.
    pub wanted_secs: f64,
}

/// A request as it stands.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Request {
    /// Identity.
    pub id: Uuid,
    /// What is to be done.
    pub kind: RequestKind,
    /// With which host.
    pub host_id: Uuid,
    /// Where it stands.
    pub state: RequestState,
    /// The worker that took it last: `NAME on MACHINE`.
    pub taken_by: Option<String>,
    /// What came of it, where it succeeded.
    #[sqlx(json(nullable))]
    pub answer: Option<serde_json::Value>,
    /// Why it failed.
    pub error: Option<String>,
    /// What is to be done about that: the word of an [`ErrorClass`].
    pub error_class: Option<String>,
}

/// The right to do what is asked.
#[derive(Debug, Clone, FromRow)]
pub struct RequestLease {
    /// The request.
    #[sqlx(rename = "id")]
    pub request_id: Uuid,
    /// What is to be done.
    pub kind: RequestKind,
    /// With which host.
    pub host_id: Uuid,
    /// Who has taken it.
    pub owner_id: Uuid,
    /// The number of this lease; grows with every taking.
    pub fence: i64,
    /// How long the lease holds without renewal, in seconds.
    pub lease_secs: i32,
}

// A request that is cancelled has no lease any more.
leased!(
    RequestLease,
    Request,
    request_id,
    renewal!("requests", "id", "false")
);

impl TakenByKey for RequestLease {
    const TAKING: &'static str = include_str!("requests/take.sql");
    const PUTTING_BACK: &'static str = putting_back!("requests", "state = 'waiting',");
}

impl Released for RequestLease {
    const RELEASING: &'static str = releasing!("requests", "id", "state = 'waiting',");
}

/// Asks the fleet. Returns the request, whose answer is to be waited for.
pub async fn ask(pool: &PgPool, new: &NewRequest<'_>) -> Result<Uuid, StoreError> {
    let request_id = Uuid::now_v7();
    let mut tx = pool.begin().await?;
    sqlx::query(include_str!("requests/insert.sql"))
        .bind(request_id)
        .bind(new.kind)
        .bind(new.host_id)
        .bind(new.requested_by)
        .bind(new.wanted_secs)
        .execute(&mut *tx)
        .await?;
    virtuozo_queue::push(&mut tx, &[RequestJob { request_id }], 0).await?;
    tx.commit().await?;
    Ok(request_id)
}

/// A request as it stands; none if it was removed, with its host perhaps.
pub async fn get(db: impl PgExecutor<'_>, id: Uuid) -> Result<Option<Request>, StoreError> {
    Ok(sqlx::query_as(include_str!("requests/get.sql"))
        .bind(id)
        .fetch_optional(db)
        .await?)
}

/// Nobody waits for the answer any more: it is not begun, and who works on it stops.
pub async fn cancel(db: impl PgExecutor<'_>, id: Uuid) -> Result<(), StoreError> {
    sqlx::query(include_str!("requests/cancel.sql"))
        .bind(id)
        .execute(db)
        .await?;
    Ok(())
}

/// The host of a request that waits to be taken; none if there is nothing to take.
pub async fn host_of_waiting(
    db: impl PgExecutor<'_>,
    request_id: Uuid,
) -> Result<Option<Uuid>, StoreError> {
    let sql = "SELECT host_id FROM virtuozo_core.requests WHERE id = $1 AND state = 'waiting' AND wanted_until > now()";
    Ok(sqlx::query_scalar(sql)
        .bind(request_id)
        .fetch_optional(db)
        .await?)
}

/// Gives the request itself to another worker.
pub async fn hand_over(pool: &PgPool, lease: &RequestLease) -> Result<Fence, StoreError> {
    let mut tx = pool.begin().await?;
    let fence = leases::release(&mut *tx, lease).await?;
    if fence == Fence::Held {
        let request_id = lease.request_id;
        virtuozo_queue::push(&mut tx, &[RequestJob { request_id }], 0).await?;
        tx.commit().await?;
    }
    Ok(fence)
}

/// Writes the answer.
pub async fn succeed(
    db: impl PgExecutor<'_>,
    lease: &RequestLease,
    answer: &serde_json::Value,
) -> Result<Fence, StoreError> {
    end(db, lease, RequestState::Succeeded, Some(answer), None).await
}

/// Writes why it was not done.
pub async fn fail(
    db: impl PgExecutor<'_>,
    lease: &RequestLease,
    error: &str,
    class: ErrorClass,
) -> Result<Fence, StoreError> {
    let error = Some((error, class));
    end(db, lease, RequestState::Failed, None, error).await
}

async fn end(
    db: impl PgExecutor<'_>,
    lease: &RequestLease,
    state: RequestState,
    answer: Option<&serde_json::Value>,
    error: Option<(&str, ErrorClass)>,
) -> Result<Fence, StoreError> {
    let done = sqlx::query(include_str!("requests/end.sql"))
        .bind(lease.request_id)
        .bind(lease.fence)
        .bind(state)
        .bind(answer.map(Json))
        .bind(error.map(|(text, _)| text))
        .bind(error.map(|(_, class)| class.in_database()))
        .execute(db)
        .await?;
    Ok(Fence::of(done.rows_affected() == 1))
}
