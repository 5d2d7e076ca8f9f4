//! Keeping a lease: renewing it in time, and telling those who work under it when to wait or stop.

use std::{
    ops::Add,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use sqlx::PgPool;
use tokio::{sync::watch, task::JoinHandle};
use virtuozo_postgres::StoreError;
use virtuozo_runtime::outage;
use virtuozo_store::{
    gates::{self, Probe},
    guest_runs::{self, GuestLease},
    host_runs::{self, HostLease},
    leases::Renewal,
    obligations::{self, UndoClaim},
};
use virtuozo_telemetry::metrics::{HeldLease, LeaseKind};

use crate::error::Stop;

/// An instant by a clock that goes on while the machine sleeps, as those of `std` and tokio do not: a machine that was
/// suspended must not believe in a lease which others have taken meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(crate) struct Moment {
    since_boot: Duration,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let secs = u64::try_from(now.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
        Self {
            since_boot: Duration::new(secs, nanos),
        }
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self {
            since_boot: self.since_boot + later,
        }
    }
}

/// What is held.
#[derive(Debug, Clone)]
pub(crate) enum Held {
    /// A guest run.
    Guest(GuestLease),
    /// A host run.
    Host(HostLease),
    /// What a guest is owed.
    Undo(UndoClaim),
    /// The right to try whether a host answers again.
    Probe(Probe),
}

impl Held {
    async fn renew(&self, pool: &PgPool) -> Result<Option<Renewal>, StoreError> {
        match self {
            Self::Guest(lease) => guest_runs::renew(pool, lease).await,
            Self::Host(lease) => host_runs::renew(pool, lease).await,
            Self::Undo(claim) => obligations::renew(pool, claim).await,
            Self::Probe(probe) => gates::renew(pool, probe).await,
        }
    }

    fn kind(&self) -> LeaseKind {
        match self {
            Self::Guest(_) => LeaseKind::Guest,
            Self::Host(_) => LeaseKind::Host,
            Self::Undo(_) => LeaseKind::Undo,
            Self::Probe(_) => LeaseKind::Probe,
        }
    }

    fn first(&self) -> Renewal {
        let (cancel_requested, lease_secs) = match self {
            Self::Guest(lease) => (lease.cancel_requested, lease.lease_secs),
            Self::Host(lease) => (lease.cancel_requested, lease.lease_secs),
            Self::Undo(claim) => (false, claim.lease_secs),
            Self::Probe(probe) => (false, probe.lease_secs),
        };
        Renewal {
            cancel_requested,
            lease_secs,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Standing {
    /// Until when this machine may act: by its own clock, counted from before the renewal was sent,
    /// and some time before the database would let others take over.
    valid_until: Moment,
    cancelled: bool,
    lost: bool,
}

impl Standing {
    fn after(renewal: Renewal, asked_at: Moment) -> Self {
        let lease = duration(renewal.lease_secs);
        Self {
            valid_until: asked_at + (lease - lease / 6),
            cancelled: renewal.cancel_requested,
            lost: false,
        }
    }
}

fn duration(secs: i32) -> Duration {
    Duration::from_secs(u64::try_from(secs).unwrap_or(1).max(1))
}

/// Renews a lease until it is dropped or lost.
#[derive(Debug)]
pub(crate) struct LeaseKeeper {
    _counted: HeldLease,
    standing: watch::Receiver<Standing>,
    task: JoinHandle<()>,
}

impl LeaseKeeper {
    /// Begins to renew what was taken at `taken_at`, an instant before the statement was sent.
    pub(crate) fn start(pool: PgPool, held: Held, taken_at: Moment) -> Self {
        let first = held.first();
        let counted = HeldLease::of(held.kind());
        let (sender, standing) = watch::channel(Standing::after(first, taken_at));
        let task = tokio::spawn(keep(pool, held, first, sender));
        Self {
            _counted: counted,
            standing,
            task,
        }
    }

    /// A handle for those who work under the lease.
    pub(crate) fn lease(&self) -> Lease {
        Lease {
            standing: self.standing.clone(),
        }
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(pool: PgPool, held: Held, first: Renewal, standing: watch::Sender<Standing>) {
    let mut every = duration(first.lease_secs) / 4;
    loop {
        tokio::time::sleep(every).await;
        let (asked_at, sent_at) = (Instant::now(), Moment::now());
        // The limit keeps one lost packet from costing the whole lease.
        let answer = match tokio::time::timeout(every, held.renew(&pool)).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::from(sqlx::Error::PoolTimedOut)),
        };
        match answer {
            Ok(Some(renewal)) => {
                outage::answered(asked_at);
                every = duration(renewal.lease_secs) / 4;
                standing.send_replace(Standing::after(renewal, sent_at));
            }
            Ok(None) => {
                standing.send_modify(|s| s.lost = true);
                return;
            }
            // No answer is not "lost": work goes on while the lease holds, and pauses then.
            Err(error) => {
                outage::silent("the renewal of leases", asked_at, &error);
            }
        }
    }
}

/// The right to act, as those see it who work under a lease.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    standing: watch::Receiver<Standing>,
}

impl Lease {
    /// Waits until it is certain that the lease holds. Before every change of a host.
    ///
    /// # Errors
    /// [`Stop::Fenced`].
    pub(crate) async fn held(&self) -> Result<(), Stop> {
        let mut standing = self.standing.clone();
        loop {
            let now = *standing.borrow_and_update();
            if now.lost {
                return Err(Stop::Fenced);
            }
            if Moment::now() < now.valid_until {
                return Ok(());
            }
            // The keeper ends only with the lease.
            standing.changed().await.map_err(|_| Stop::Fenced)?;
        }
    }

    /// As [`held`](Self::held), for work that is not to go on once the run is cancelled.
    ///
    /// # Errors
    /// [`Stop::Fenced`] or [`Stop::Cancelled`].
    pub(crate) async fn allowed(&self) -> Result<(), Stop> {
        self.held().await?;
        if self.standing.borrow().cancelled {
            Err(Stop::Cancelled)
        } else {
            Ok(())
        }
    }

    /// Whether work may go on at this instant; none if that is uncertain.
    pub(crate) fn now(&self) -> Option<Result<(), Stop>> {
        let now = *self.standing.borrow();
        if now.lost {
            Some(Err(Stop::Fenced))
        } else if now.cancelled {
            Some(Err(Stop::Cancelled))
        } else if Moment::now() < now.valid_until {
            Some(Ok(()))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since_boot() -> Duration {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        Duration::from_secs_f64(uptime.split(' ').next().unwrap().parse().unwrap())
    }

    /// It fails with another clock where the machine has slept, or under `unshare -rT --boottime 1000`.
    #[test]
    fn a_lease_is_counted_by_the_clock_that_goes_on_while_the_machine_sleeps() {
        let (early, uptime, late) = (Moment::now(), since_boot(), Moment::now());
        // The kernel tells hundredths of a second.
        let hundredth = Duration::from_millis(10);
        assert!(uptime <= late.since_boot && uptime + hundredth >= early.since_boot);
    }
}
