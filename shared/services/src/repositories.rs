//! Repositories: where restore points go, as the database knows them. What lies in them is read by those who see their
//! files.

use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_model::{Severity, terminal};
use virtuozo_store::{
    caps,
    events::{self, NewEvent},
    repositories,
    views::PointLine,
};

pub use virtuozo_store::{caps::Repository, repositories::KnownRepository};

use crate::error::{ServiceError, refused};

/// Every place that restore points go to, or that has a cap.
pub async fn list(pool: &PgPool) -> Result<Vec<Repository>, ServiceError> {
    Ok(caps::repositories(pool).await?)
}

/// What the site knows of the repository at a path.
pub async fn known(pool: &PgPool, path: &str) -> Result<KnownRepository, ServiceError> {
    Ok(repositories::known(pool, path).await?)
}

/// Says how many guests may be in work at once whose restore points go to a directory; none takes the cap away. Returns
/// the directory as the database has it.
///
/// # Errors
/// [`ServiceError::Refused`] for a directory that no restore points go to.
pub async fn limit(
    pool: &PgPool,
    directory: &str,
    guests: Option<i32>,
) -> Result<String, ServiceError> {
    let directory = caps::normalized_directory(directory)?;
    if guests.is_some() {
        refuse_unused(pool, &directory).await?;
    }
    caps::set_repository(pool, &directory, guests).await?;
    Ok(directory)
}

/// A cap holds for the guests that go to a directory: none would ever be held up by one that nobody names.
async fn refuse_unused(pool: &PgPool, directory: &str) -> Result<(), ServiceError> {
    let mut named = caps::repositories(pool).await?;
    named.retain(|repository| repository.is_destination);
    if named.iter().any(|repository| repository.path == directory) {
        return Ok(());
    }
    let named: Vec<String> = named.into_iter().map(|one| one.path).collect();
    Err(refused(match named.as_slice() {
        [] => format!(
            "no restore points go to {directory}, nor anywhere yet: `{}` first",
            terminal::command("settings set destination", &[directory])
        ),
        named => format!(
            "no restore points go to {directory}, they go to {}: give one of these, or make it the destination of the \
             site (`{}`) or of guests (`virtuozo guest edit HOST/GUEST --destination {}`) first",
            named.join(", "),
            terminal::command("settings set destination", &[directory]),
            terminal::shell_word(directory),
        ),
    }))
}

/// The directories that restore points go to or lie in, as the database has them.
pub async fn places<'a>(
    pool: &PgPool,
    points: impl IntoIterator<Item = &'a PointLine>,
) -> Result<Vec<String>, ServiceError> {
    let destinations = caps::repositories(pool).await?;
    let destinations = destinations.into_iter().map(|repository| repository.path);
    let lying = points.into_iter().map(|point| point.repository.clone());
    let mut all: Vec<String> = destinations.chain(lying).collect();
    all.sort();
    all.dedup();
    Ok(all)
}

/// What came of adopting a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// The one that was known there before, if it was another one.
    pub was: Option<Uuid>,
    /// What was done, as a sentence; it is an event too.
    pub message: String,
}

/// From now on the site knows the repository with this id at a path.
///
/// # Errors
/// [`virtuozo_postgres::StoreError::Refused`] for a directory that is no absolute path.
pub async fn adopt(pool: &PgPool, path: &str, id: Uuid) -> Result<Adopted, ServiceError> {
    let mut tx = pool.begin().await?;
    let was = repositories::adopt(&mut *tx, path, id).await?;
    let was = was.filter(|was| *was != id);
    let before = was.map_or(String::new(), |was| format!("; it was {was}"));
    let message = format!("{path} is the repository {id} from now on{before}");
    let event = NewEvent::user(Severity::Warning, message.clone());
    events::record(&mut *tx, &event).await?;
    tx.commit().await?;
    Ok(Adopted { was, message })
}
