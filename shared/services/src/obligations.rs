//! Obligations: what is still to be undone on hosts, and giving up what nobody can undo any more.

use sqlx::PgPool;
use virtuozo_store::{operators, views};

pub use virtuozo_store::views::ObligationLine;

use crate::{error::ServiceError, names::find_id};

/// All that is still to be undone on hosts.
pub async fn list(pool: &PgPool) -> Result<Vec<ObligationLine>, ServiceError> {
    Ok(views::all::<ObligationLine>(pool).await?)
}

/// Gives up one that can never be met, by its id or a beginning or end that only this one has. Returns what was done,
/// as a sentence.
///
/// # Errors
/// [`ServiceError::Refused`] if there is none, somebody works on it or its guest, or no reason is given.
pub async fn forgive(
    pool: &PgPool,
    obligation: &str,
    reason: &str,
    by: &str,
) -> Result<String, ServiceError> {
    let all = views::all::<ObligationLine>(pool).await?;
    let id = find_id(obligation, "obligation", all.iter().map(|one| one.id))?;
    // The database refuses one without a reason.
    let reason = match reason.trim() {
        "" => String::new(),
        why => format!("{why} ({by})"),
    };
    Ok(operators::forgive(pool, id, &reason).await?)
}
