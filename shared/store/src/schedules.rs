//! Schedules: when to back up what.

use sqlx::{Acquire, PgConnection, PgExecutor, Postgres};
use uuid::Uuid;

use super::settings;
use virtuozo_model::{Schedule, schedule::Recurrence};
use virtuozo_postgres::StoreError;

/// What an administrator says about a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleConfig {
    /// The name.
    pub name: String,
    /// Cron expression; none: Monday to Friday at the daily start time.
    pub cron: Option<String>,
    /// Time zone; none: the site's.
    pub time_zone: Option<String>,
    /// Is followed.
    pub enabled: bool,
    /// Hosts to back up. No hosts and no guests: the whole site.
    pub host_ids: Vec<Uuid>,
    /// Guests to back up.
    pub guest_ids: Vec<Uuid>,
}

impl From<Schedule> for ScheduleConfig {
    fn from(schedule: Schedule) -> Self {
        Self {
            name: schedule.name,
            cron: schedule.cron,
            time_zone: schedule.time_zone,
            enabled: schedule.enabled,
            host_ids: schedule.host_ids,
            guest_ids: schedule.guest_ids,
        }
    }
}

/// All schedules, by name.
pub async fn list(db: impl PgExecutor<'_>) -> Result<Vec<Schedule>, StoreError> {
    let none: Option<&str> = None;
    Ok(sqlx::query_as(include_str!("schedules/select.sql"))
        .bind(none)
        .fetch_all(db)
        .await?)
}

/// The schedule of this name or id.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn by_name(db: impl PgExecutor<'_>, name: &str) -> Result<Schedule, StoreError> {
    sqlx::query_as(include_str!("schedules/select.sql"))
        .bind(name)
        .fetch_optional(db)
        .await?
        .ok_or_else(|| not_found(name))
}

fn not_found(name: &str) -> StoreError {
    StoreError::NotFound {
        what: "schedule",
        name: name.to_owned(),
    }
}

/// Adds a schedule; it is due from now on.
///
/// # Errors
/// [`StoreError::Refused`] or [`StoreError::Exists`].
pub async fn insert(
    db: impl Acquire<'_, Database = Postgres>,
    config: &ScheduleConfig,
) -> Result<Uuid, StoreError> {
    let mut tx = db.begin().await?;
    check(&mut tx, config).await?;
    let id = Uuid::now_v7();
    sqlx::query("INSERT INTO virtuozo_core.schedules (id, name, cron, time_zone, enabled) VALUES ($1, $2, $3, $4, $5)")
        .bind(id)
        .bind(&config.name)
        .bind(&config.cron)
        .bind(&config.time_zone)
        .bind(config.enabled)
        .execute(&mut *tx)
        .await
        .map_err(|e| super::exists(e, "schedule", &config.name))?;
    set_targets(&mut tx, id, config).await?;
    tx.commit().await?;
    Ok(id)
}

/// Changes a schedule. With another rhythm it is due from now on; the past is not caught up.
///
/// # Errors
/// [`StoreError::Refused`], [`StoreError::Exists`] or [`StoreError::NotFound`].
pub async fn update(
    db: impl Acquire<'_, Database = Postgres>,
    id: Uuid,
    config: &ScheduleConfig,
) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    check(&mut tx, config).await?;
    let done = sqlx::query(include_str!("schedules/update.sql"))
        .bind(id)
        .bind(&config.name)
        .bind(&config.cron)
        .bind(&config.time_zone)
        .bind(config.enabled)
        .execute(&mut *tx)
        .await
        .map_err(|e| super::exists(e, "schedule", &config.name))?;
    if done.rows_affected() == 0 {
        return Err(not_found(&config.name));
    }
    set_targets(&mut tx, id, config).await?;
    Ok(tx.commit().await?)
}

/// Removes a schedule; its runs stay.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn remove(db: impl PgExecutor<'_>, id: Uuid) -> Result<(), StoreError> {
    let done = sqlx::query("DELETE FROM virtuozo_core.schedules WHERE id = $1")
        .bind(id)
        .execute(db)
        .await?;
    if done.rows_affected() == 0 {
        Err(not_found(&id.to_string()))
    } else {
        Ok(())
    }
}

async fn check(conn: &mut PgConnection, config: &ScheduleConfig) -> Result<(), StoreError> {
    super::check_name("schedule", &config.name)?;
    let settings = settings::get(conn).await?;
    Recurrence::new(
        config.cron.as_deref(),
        config.time_zone.as_deref(),
        &settings,
    )
    .map_err(|e| StoreError::Refused(e.to_string()))?;
    Ok(())
}

async fn set_targets(
    conn: &mut PgConnection,
    id: Uuid,
    config: &ScheduleConfig,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM virtuozo_core.schedule_targets WHERE schedule_id = $1")
        .bind(id)
        .execute(&mut *conn)
        .await?;
    sqlx::query(include_str!("schedules/targets_insert.sql"))
        .bind(id)
        .bind(&config.host_ids)
        .bind(&config.guest_ids)
        .execute(conn)
        .await?;
    Ok(())
}
