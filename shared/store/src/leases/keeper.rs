//! Keeping a lease: renewing it in time, and telling those who work under it when to wait or stop.

use std::{future::Future, ops::Add, sync::Arc, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use sqlx::PgPool;
use tokio::{sync::watch, task::JoinHandle};

use virtuozo_postgres::{StoreError, ask};
use virtuozo_runtime::Availability;
use virtuozo_telemetry::{
    Telemetry,
    metrics::{HeldLease, LeaseKind},
};

use super::{Leased, Renewal, renew};

/// An instant by a clock that goes on while the machine sleeps, as those of `std` and tokio do not: a machine that was
/// suspended must not believe in a lease which others have taken meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct BootInstant {
    since_boot: Duration,
}

impl BootInstant {
    /// This instant.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let secs = u64::try_from(now.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
        Self {
            since_boot: Duration::new(secs, nanos),
        }
    }
}

impl Add<Duration> for BootInstant {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self {
            since_boot: self.since_boot + later,
        }
    }
}

/// Why work under a lease is not to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEnd {
    /// Somebody else has it. Nothing more may be written.
    Lost,
    /// It is still ours, and the run is to end.
    Cancelled,
}

/// What is known of a lease.
#[derive(Debug, Clone, Copy)]
struct LeaseState {
    /// Until when this machine may act: by its own clock, counted from before the renewal was sent,
    /// and some time before the database would let others take over.
    valid_until: BootInstant,
    cancelled: bool,
    lost: bool,
}

impl LeaseState {
    fn after(renewal: Renewal, asked_at: BootInstant) -> Self {
        let length = renewal.length();
        Self {
            valid_until: asked_at + (length - length / 6),
            cancelled: renewal.cancel_requested,
            lost: false,
        }
    }
}

impl Renewal {
    fn length(self) -> Duration {
        Duration::from_secs(u64::try_from(self.lease_secs).unwrap_or(1).max(1))
    }

    /// The time between two renewals.
    fn interval(self) -> Duration {
        self.length() / 4
    }
}

/// Renews a lease until it is dropped or lost.
#[derive(Debug)]
pub struct LeaseKeeper {
    _counted: HeldLease,
    state: watch::Receiver<LeaseState>,
    task: JoinHandle<()>,
}

impl LeaseKeeper {
    /// Begins to renew what was taken at `taken_at`, an instant before the statement was sent.
    pub fn start<L: Leased>(
        pool: PgPool,
        telemetry: &Telemetry,
        lease: L,
        taken_at: BootInstant,
    ) -> Self {
        let (taken, lease) = (lease.taken(), Arc::new(lease));
        Self::renewing(L::KIND, telemetry, taken, taken_at, move || {
            let (pool, lease) = (pool.clone(), Arc::clone(&lease));
            async move { renew(&pool, lease.as_ref()).await }
        })
    }

    fn renewing<Renew, Answer>(
        kind: LeaseKind,
        telemetry: &Telemetry,
        taken: Renewal,
        taken_at: BootInstant,
        renew: Renew,
    ) -> Self
    where
        Renew: FnMut() -> Answer + Send + 'static,
        Answer: Future<Output = Result<Option<Renewal>, StoreError>> + Send + 'static,
    {
        let (sender, state) = watch::channel(LeaseState::after(taken, taken_at));
        Self {
            _counted: telemetry.metrics.lease_held(kind),
            state,
            task: tokio::spawn(keep(
                telemetry.health.availability.clone(),
                taken,
                sender,
                renew,
            )),
        }
    }

    /// A handle for those who work under the lease.
    pub fn handle(&self) -> LeaseHandle {
        LeaseHandle {
            state: self.state.clone(),
        }
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep<Renew, Answer>(
    availability: Availability,
    taken: Renewal,
    state: watch::Sender<LeaseState>,
    mut renew: Renew,
) where
    Renew: FnMut() -> Answer,
    Answer: Future<Output = Result<Option<Renewal>, StoreError>>,
{
    let mut interval = taken.interval();
    loop {
        tokio::time::sleep(interval).await;
        let sent_at = BootInstant::now();
        // The limit keeps one lost packet from costing the whole lease.
        match ask(&availability, "the renewal of leases", interval, renew()).await {
            Ok(Some(renewal)) => {
                interval = renewal.interval();
                state.send_replace(LeaseState::after(renewal, sent_at));
            }
            Ok(None) => {
                state.send_modify(|s| s.lost = true);
                return;
            }
            // No answer is not "lost": work goes on while the lease holds, and pauses then.
            Err(error) if error.is_unavailable() => {}
            Err(error) => {
                tracing::warn!(%error, "a lease could not be renewed, trying again");
            }
        }
    }
}

/// A lease, as those see it who work under it.
#[derive(Debug, Clone)]
pub struct LeaseHandle {
    state: watch::Receiver<LeaseState>,
}

impl LeaseHandle {
    /// Waits until it is certain that the lease holds. Before every change of a host.
    ///
    /// # Errors
    /// [`LeaseEnd::Lost`].
    pub async fn held(&self) -> Result<(), LeaseEnd> {
        let mut state = self.state.clone();
        loop {
            let now = *state.borrow_and_update();
            if now.lost {
                return Err(LeaseEnd::Lost);
            }
            if BootInstant::now() < now.valid_until {
                return Ok(());
            }
            // The keeper ends only with the lease.
            state.changed().await.map_err(|_| LeaseEnd::Lost)?;
        }
    }

    /// As [`held`](Self::held), for work that is not to go on once the run is cancelled.
    ///
    /// # Errors
    /// Why it is not to go on.
    pub async fn allowed(&self) -> Result<(), LeaseEnd> {
        self.held().await?;
        if self.state.borrow().cancelled {
            Err(LeaseEnd::Cancelled)
        } else {
            Ok(())
        }
    }

    /// Whether work may go on at this instant; none if that is uncertain.
    pub fn now(&self) -> Option<Result<(), LeaseEnd>> {
        let now = *self.state.borrow();
        if now.lost {
            Some(Err(LeaseEnd::Lost))
        } else if now.cancelled {
            Some(Err(LeaseEnd::Cancelled))
        } else if BootInstant::now() < now.valid_until {
            Some(Ok(()))
        } else {
            None
        }
    }

    /// Waits until work is not to go on. A database that does not answer is no reason.
    pub async fn ended(&self) -> LeaseEnd {
        let mut state = self.state.clone();
        loop {
            let now = *state.borrow_and_update();
            if now.lost {
                return LeaseEnd::Lost;
            }
            if now.cancelled {
                return LeaseEnd::Cancelled;
            }
            if state.changed().await.is_err() {
                return LeaseEnd::Lost;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// The shortest lease there is; renewed four times in a second.
    const RENEWAL: Renewal = Renewal {
        cancel_requested: false,
        lease_secs: 1,
    };

    type Answer = fn() -> Result<Option<Renewal>, StoreError>;

    /// Keeps a lease whose renewals get these answers one after the other, and the last of them for ever.
    fn keeper(answers: Vec<Answer>) -> (LeaseKeeper, Arc<AtomicUsize>) {
        let asked: Arc<AtomicUsize> = Arc::default();
        let counted = Arc::clone(&asked);
        let renew = move || {
            let at = counted.fetch_add(1, Ordering::SeqCst);
            std::future::ready(answers[at.min(answers.len() - 1)]())
        };
        let keeper = LeaseKeeper::renewing(
            LeaseKind::Probe,
            &Telemetry::default(),
            RENEWAL,
            BootInstant::now(),
            renew,
        );
        (keeper, asked)
    }

    fn renewed() -> Result<Option<Renewal>, StoreError> {
        Ok(Some(RENEWAL))
    }

    fn no_answer() -> Result<Option<Renewal>, StoreError> {
        Err(sqlx::Error::PoolTimedOut.into())
    }

    #[tokio::test]
    async fn a_lease_that_somebody_else_has_is_lost() {
        let (keeper, _) = keeper(vec![renewed, || Ok(None)]);
        let lease = keeper.handle();
        assert_eq!(lease.held().await, Ok(()));
        assert_eq!(lease.ended().await, LeaseEnd::Lost);
        assert_eq!(lease.allowed().await, Err(LeaseEnd::Lost));
        assert_eq!(lease.now(), Some(Err(LeaseEnd::Lost)));
    }

    #[tokio::test]
    async fn a_renewal_brings_the_wish_that_the_run_ends_and_the_lease_still_holds() {
        let (keeper, _) = keeper(vec![|| {
            Ok(Some(Renewal {
                cancel_requested: true,
                ..RENEWAL
            }))
        }]);
        let lease = keeper.handle();
        assert_eq!(lease.ended().await, LeaseEnd::Cancelled);
        assert_eq!(lease.allowed().await, Err(LeaseEnd::Cancelled));
        assert_eq!(lease.held().await, Ok(()));
    }

    #[tokio::test]
    async fn no_answer_makes_a_lease_uncertain_and_not_lost_and_work_goes_on_with_the_next_answer()
    {
        let silence = vec![no_answer as Answer; 6];
        let (keeper, asked) = keeper([silence, vec![renewed]].concat());
        let lease = keeper.handle();
        while lease.now().is_some() {
            assert_eq!(lease.now(), Some(Ok(())));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(lease.held().await, Ok(()));
        assert!(asked.load(Ordering::SeqCst) > 6);
    }

    #[tokio::test]
    async fn a_lease_whose_keeper_is_gone_is_worth_nothing_once_it_has_run_out() {
        let (keeper, _) = keeper(vec![renewed]);
        let lease = keeper.handle();
        drop(keeper);
        assert_eq!(lease.ended().await, LeaseEnd::Lost);
    }

    fn since_boot() -> Duration {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        Duration::from_secs_f64(uptime.split(' ').next().unwrap().parse().unwrap())
    }

    /// It fails with another clock where the machine has slept, or under `unshare -rT --boottime 1000`.
    #[test]
    fn a_lease_is_counted_by_the_clock_that_goes_on_while_the_machine_sleeps() {
        let (early, uptime, late) = (BootInstant::now(), since_boot(), BootInstant::now());
        // The kernel tells hundredths of a second.
        let hundredth = Duration::from_millis(10);
        assert!(uptime <= late.since_boot && uptime + hundredth >= early.since_boot);
    }
}
