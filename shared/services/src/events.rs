//! Events: what people are told.

use sqlx::PgPool;
use virtuozo_store::events::{self, Filter};

use crate::{
    error::ServiceError,
    names::{self, guest_id, host_id},
};

/// Which events somebody wants to read, by names; none: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only those for users: done, failed.
    pub only_for_users: bool,
    /// Of this run, by its id, a beginning or end of it, or `latest`.
    pub run: Option<String>,
    /// Of this host.
    pub host: Option<String>,
    /// Of this guest, as HOST/GUEST.
    pub guest: Option<String>,
}

/// The filter for what somebody wants to read.
///
/// # Errors
/// [`ServiceError::Refused`] or [`virtuozo_postgres::StoreError::NotFound`] for an unknown run, host or guest.
pub async fn filter(pool: &PgPool, wanted: &Wanted) -> Result<Filter, ServiceError> {
    let mut filter = Filter::default();
    if wanted.only_for_users {
        filter.min_code = events::USER;
    }
    if let Some(run) = &wanted.run {
        filter.run_id = Some(names::run(pool, run).await?);
    }
    filter.host_id = host_id(pool, wanted.host.as_deref()).await?;
    filter.guest_id = guest_id(pool, wanted.guest.as_deref()).await?;
    Ok(filter)
}
