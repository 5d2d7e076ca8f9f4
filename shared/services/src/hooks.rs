//! Hooks: commands before and after runs and the backups of guests.

use sqlx::PgPool;
use virtuozo_model::{Hook, HookLine, HookMoment};
use virtuozo_store::hooks;

use crate::{
    error::{ServiceError, refused},
    names::guest_id,
};

/// One of the hooks that there may be: two of the site, and two of each guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Which {
    /// Of this guest, as HOST/GUEST; none: of the site.
    pub guest: Option<String>,
    /// Before or after.
    pub moment: HookMoment,
}

impl Which {
    /// The hook, in words.
    pub fn name(&self) -> String {
        let moment = self.moment;
        match &self.guest {
            Some(guest) => format!("the command {moment} the backup of {guest}"),
            None => format!("the command {moment} each run"),
        }
    }
}

/// The hooks, those of the site first.
pub async fn list(pool: &PgPool) -> Result<Vec<HookLine>, ServiceError> {
    Ok(hooks::list(pool).await?)
}

/// Sets the hook of a guest, or of the site, in the place of one for the same moment.
///
/// # Errors
/// [`virtuozo_postgres::StoreError::Refused`] for a command that cannot be run, or `NotFound` for an unknown guest.
pub async fn set(pool: &PgPool, guest: Option<&str>, hook: &Hook) -> Result<(), ServiceError> {
    let guest_id = guest_id(pool, guest).await?;
    Ok(hooks::set(pool, guest_id, hook).await?)
}

/// Takes a hook away; what is to be run of it already is still run.
///
/// # Errors
/// [`ServiceError::Refused`] if there is none.
pub async fn clear(pool: &PgPool, which: &Which) -> Result<(), ServiceError> {
    let guest_id = guest_id(pool, which.guest.as_deref()).await?;
    if hooks::clear(pool, guest_id, which.moment).await? {
        return Ok(());
    }
    Err(refused(format!(
        "there is no such hook: {}; see `virtuozo hook list`",
        which.name()
    )))
}
