//! The circuit breakers of hosts that do not answer, or refuse the login: one attempt to connect in each pause, over the
//! whole fleet.

use std::{collections::BTreeSet, fmt};

use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use super::{
    admission,
    events::{self, NewEvent},
    hosts,
    leases::{Released, leased, releasing, renewal},
    run_end,
    sweeps::Expired,
};
use virtuozo_model::{ErrorClass, HostState, Severity};
use virtuozo_postgres::StoreError;
use virtuozo_telemetry::metrics::Metrics;

/// How the circuit breaker of a host stands for somebody who wants to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BreakerState {
    /// Everybody may connect.
    Closed,
    /// The last connection failed; the caller has the probe, the others wait for its result.
    HalfOpen(Probe),
    /// Nobody is to connect now.
    Open(HostDown),
}

/// The right to try whether a host lets us in again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The host.
    pub host_id: Uuid,
    /// Who has taken it.
    pub owner_id: Uuid,
    /// The number of this lease; grows with every taking.
    pub fence: i64,
    /// Attempts in a row that failed before.
    pub failed_probes: i32,
    /// How long it holds without renewal, in seconds.
    pub lease_secs: i32,
}

leased!(
    Probe,
    Probe,
    host_id,
    renewal!("circuit_breakers", "host_id", "false")
);

impl Released for Probe {
    const RELEASING: &'static str = releasing!("circuit_breakers", "host_id", "");
}

/// How a host stands that nobody gets into.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct HostDown {
    /// Attempts in a row that failed; none right after somebody asked for a new beginning.
    pub failed_probes: i32,
    /// With so many, what waits for the host is given up.
    pub max_attempts: i32,
    /// What the last attempt said.
    pub error: String,
    /// The host answers, and refuses the login.
    pub login_refused: bool,
}

impl HostDown {
    /// What waits for the host is to wait no longer.
    pub fn is_given_up(&self) -> bool {
        self.failed_probes >= self.max_attempts
    }

    /// What to do about it: time does not mend a password.
    pub fn class(&self) -> ErrorClass {
        if self.login_refused {
            ErrorClass::Operator
        } else {
            ErrorClass::Retry
        }
    }

    /// What the administrator sees of the host.
    fn host_state(&self) -> HostState {
        if self.login_refused {
            HostState::Invalid
        } else {
            HostState::Unreachable
        }
    }
}

/// To go after the name of the host.
impl fmt::Display for HostDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.login_refused {
            "refuses the login"
        } else {
            "does not answer"
        })?;
        match self.failed_probes {
            0 => {}
            n if n > self.max_attempts => write!(f, " (attempt {n})")?,
            n => write!(f, " (attempt {n} of {})", self.max_attempts)?,
        }
        write!(f, ": {}", self.error)
    }
}

#[derive(FromRow)]
struct BreakerRow {
    /// Of the probe, if it is the caller's.
    fence: Option<i64>,
    lease_secs: i32,
    #[sqlx(flatten)]
    down: HostDown,
}

/// Asks whether a host may be connected to. `owner_id` is the caller's own: asked again under the same one,
/// because the answer was lost, a probe is still its owner's.
pub async fn ask(pool: &PgPool, host_id: Uuid, owner_id: Uuid) -> Result<BreakerState, StoreError> {
    let asked: Option<BreakerRow> = sqlx::query_as(include_str!("circuit_breakers/ask.sql"))
        .bind(host_id)
        .bind(owner_id)
        .fetch_optional(pool)
        .await?;
    let Some(asked) = asked else {
        return Ok(BreakerState::Closed);
    };
    Ok(match asked.fence {
        Some(fence) => BreakerState::HalfOpen(Probe {
            host_id,
            owner_id,
            fence,
            failed_probes: asked.down.failed_probes,
            lease_secs: asked.lease_secs,
        }),
        None => BreakerState::Open(asked.down),
    })
}

#[derive(FromRow)]
struct FailureRecorded {
    host_name: String,
    guests_with_obligations: i64,
}

/// Notes that a host does not answer, or refuses the login, and keeps everybody from asking for `delay_secs`. After
/// `max_attempts` failures in a row all that waits for the host fails with it; obligations of its guests stay.
/// Returns how the host stands; none if somebody got in meanwhile.
pub async fn open(
    pool: &PgPool,
    metrics: &Metrics,
    host_id: Uuid,
    probe: Option<&Probe>,
    error: &str,
    login_refused: bool,
    delay_secs: f64,
) -> Result<Option<HostDown>, StoreError> {
    let mut tx = pool.begin().await?;
    // Nobody admits the host's runs meanwhile. Locked in this order everywhere: host, circuit breaker, host
    // runs, guest runs, runs.
    admission::lock_host(&mut tx, host_id).await?;
    let counted: Option<FailureRecorded> =
        sqlx::query_as(include_str!("circuit_breakers/open.sql"))
            .bind(host_id)
            .bind(probe.map(|p| p.owner_id))
            .bind(error)
            .bind(delay_secs)
            .bind(login_refused)
            .fetch_optional(&mut *tx)
            .await?;
    let down: Option<HostDown> = sqlx::query_as(include_str!("circuit_breakers/get.sql"))
        .bind(host_id)
        .fetch_optional(&mut *tx)
        .await?;
    if let (Some(counted), Some(down)) = (counted, &down) {
        hosts::set_state(&mut *tx, host_id, down.host_state(), Some(error)).await?;
        let event = event_about(&counted, down, delay_secs);
        events::record(&mut *tx, &event.host(host_id)).await?;
        if down.is_given_up() {
            give_up(&mut tx, metrics, host_id, down).await?;
        }
    }
    tx.commit().await?;
    Ok(down)
}

fn event_about(counted: &FailureRecorded, down: &HostDown, delay_secs: f64) -> NewEvent {
    let mut message = format!(
        "host {} {down}; nobody connects to it for about {delay_secs:.0} s",
        counted.host_name
    );
    if !down.is_given_up() {
        return NewEvent::user(Severity::Warning, message);
    }
    message += "; what waited for it has failed";
    if counted.guests_with_obligations > 0 {
        message += &format!(
            ", and {} of its guests are still to be brought back as they were: that is done when it answers",
            counted.guests_with_obligations
        );
    }
    NewEvent::user(Severity::Error, message)
}

/// Fails all that waits for a host, in the caller's transaction.
async fn give_up(
    tx: &mut PgConnection,
    metrics: &Metrics,
    host_id: Uuid,
    down: &HostDown,
) -> Result<(), StoreError> {
    let why = format!("the host {down}");
    let mut ended = BTreeSet::new();
    for statement in [
        include_str!("circuit_breakers/give_up_host_runs.sql"),
        include_str!("circuit_breakers/give_up_guest_runs.sql"),
    ] {
        let failed: Vec<Expired> = sqlx::query_as(statement)
            .bind(host_id)
            .bind(&why)
            .bind(down.class().in_database())
            .fetch_all(&mut *tx)
            .await?;
        for one in failed {
            events::record(&mut *tx, &one.event()).await?;
            ended.insert(one.run_id);
        }
    }
    for run_id in ended {
        run_end::end_and_count(tx, metrics, run_id).await?;
    }
    Ok(())
}

/// Notes that a host let us in: all that waits for it may go on, and as many guests as have slots begin at once.
pub async fn close(pool: &PgPool, host_id: Uuid) -> Result<(), StoreError> {
    let mut tx = pool.begin().await?;
    admission::lock_host(&mut tx, host_id).await?;
    let host_name: Option<String> = sqlx::query_scalar(include_str!("circuit_breakers/close.sql"))
        .bind(host_id)
        .fetch_optional(&mut *tx)
        .await?;
    if let Some(host_name) = host_name {
        let event = NewEvent::user(Severity::Info, format!("host {host_name}: answers again"));
        events::record(&mut *tx, &event.host(host_id)).await?;
        admission::admit(&mut tx, host_id).await?;
    }
    Ok(tx.commit().await?)
}
