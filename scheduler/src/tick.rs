//! Schedules that are due become runs; what was missed is caught up once.

use std::{collections::HashSet, time::Duration};

use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_model::{
    Schedule, Settings, Severity,
    schedule::{Recurrence, ScheduleError},
    terminal,
};
use virtuozo_postgres::StoreError;
use virtuozo_runtime::LIMITS;
use virtuozo_store::{
    events::{self, NewEvent},
    runs::{self, Targets},
    schedules, settings,
};

use crate::leader::{LeaderTask, Next, TaskError};

/// Looks at the schedules.
#[derive(Debug)]
pub(crate) struct Ticker {
    pool: PgPool,
    /// Schedules that cannot be followed, of which people have been told.
    broken: HashSet<Uuid>,
}

impl Ticker {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            broken: HashSet::new(),
        }
    }

    async fn report(
        &mut self,
        schedule: &Schedule,
        error: &ScheduleError,
    ) -> Result<(), StoreError> {
        if self.broken.contains(&schedule.id) {
            return Ok(());
        }
        let message = format!(
            "schedule {} cannot be followed: {error}; mend it with `{} --cron EXPRESSION` or `--time-zone ZONE`",
            schedule.name,
            terminal::command("schedule edit", &[&schedule.name])
        );
        tracing::error!("{message}");
        events::record(&self.pool, &NewEvent::user(Severity::Error, message)).await?;
        self.broken.insert(schedule.id);
        Ok(())
    }
}

impl LeaderTask for Ticker {
    const NAME: &'static str = "schedules";
    const EVERY: Duration = LIMITS.leader.schedules_every;
    const IS_WOKEN: bool = true;

    /// Starts the runs that are due. Of several due times that were missed the last one counts for all.
    async fn activate(&mut self) -> Result<Next, TaskError> {
        let schedules = schedules::list(&self.pool).await?;
        if schedules.iter().all(|schedule| !schedule.enabled) {
            return Ok(Next::Later);
        }
        let settings = settings::get(&self.pool).await?;
        let now = runs::database_now(&self.pool).await?;
        for schedule in schedules.into_iter().filter(|schedule| schedule.enabled) {
            match rhythm(&schedule, &settings) {
                Ok(rhythm) => {
                    self.broken.remove(&schedule.id);
                    if let Some(due_at) = rhythm.last_until(now)
                        && due_at > schedule.done_until
                    {
                        start(&self.pool, schedule, due_at).await?;
                    }
                }
                Err(error) => self.report(&schedule, &error).await?,
            }
        }
        Ok(Next::Later)
    }
}

fn rhythm(schedule: &Schedule, settings: &Settings) -> Result<Recurrence, ScheduleError> {
    Recurrence::new(
        schedule.cron.as_deref(),
        schedule.time_zone.as_deref(),
        settings,
    )
}

async fn start(
    pool: &PgPool,
    schedule: Schedule,
    due_at: chrono::DateTime<chrono::Utc>,
) -> Result<(), StoreError> {
    let requested_by = format!("schedule {}", schedule.name);
    let targets = Targets {
        hosts: schedule.host_ids,
        guests: schedule.guest_ids,
    };
    if let Some(run_id) =
        runs::start_tick(pool, schedule.id, due_at, &requested_by, targets).await?
    {
        tracing::info!(schedule = schedule.name, %due_at, %run_id, "run started");
    }
    Ok(())
}
