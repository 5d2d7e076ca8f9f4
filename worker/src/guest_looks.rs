//! Looks at the guests of a host. One that ends the connection (the hypervisor's library crashes on it, or hangs) is left
//! out, and costs no other guest its look.

use std::{collections::VecDeque, sync::Arc};

use opentelemetry::trace::FutureExt;
use sqlx::PgPool;
use tokio::task::JoinSet;
use uuid::Uuid;
use virtuozo_hypervisor::{Connectors, GuestFacts, Host, HostTarget, HypervisorError};
use virtuozo_model::{Guest, GuestState, terminal};
use virtuozo_store::circuit_breakers;

use crate::{
    connections::{self, ConnectionPermit},
    error::StepError,
};

/// Connects to a host outside of any run. That it answers closes its circuit breaker.
pub(crate) async fn connect(
    pool: &PgPool,
    connectors: &Connectors,
    target: &HostTarget,
    host_id: Uuid,
) -> Result<Arc<dyn Host>, StepError> {
    let host = connectors.connect(target).await?;
    circuit_breakers::close(pool, host_id).await?;
    Ok(host)
}

/// How a connection to a host is made.
#[derive(Clone, Copy)]
pub(crate) enum Connecting<'a> {
    /// The one that the jobs of this worker share, if its circuit breaker lets this worker try.
    Shared(&'a ConnectionPermit),
    /// Outside of any run.
    Apart {
        /// Where the circuit breaker is.
        pool: &'a PgPool,
        /// The back ends.
        connectors: &'a Connectors,
        /// The host.
        target: &'a HostTarget,
        /// Its id.
        host_id: Uuid,
    },
}

impl Connecting<'_> {
    /// Replaces a connection that is lost.
    async fn again(&self, lost: &Arc<dyn Host>) -> Result<Arc<dyn Host>, StepError> {
        match self {
            Self::Shared(permit) => {
                permit.discard(lost).await;
                permit.host().await
            }
            Self::Apart { .. } => {
                lost.close().await;
                self.alone().await
            }
        }
    }

    /// A connection that nobody else uses.
    async fn alone(&self) -> Result<Arc<dyn Host>, StepError> {
        match self {
            Self::Shared(permit) => permit.connect_alone().await,
            Self::Apart {
                pool,
                connectors,
                target,
                host_id,
            } => connect(pool, connectors, target, *host_id).await,
        }
    }
}

/// What came of the look at a guest.
pub(crate) enum Looked {
    /// What there is to see, or why that cannot be said.
    Facts(Result<GuestFacts, HypervisorError>),
    /// The connection ended, on which nothing else was done.
    Crashed(HypervisorError),
}

/// Whether the last look at a guest ended the connection.
pub(crate) fn crashed_last(guest: &Guest) -> bool {
    guest.crashes > 0 && guest.state == GuestState::Invalid
}

/// The looks that are still to be made, and the connections for them.
pub(crate) struct Looks<'a> {
    connecting: Connecting<'a>,
    host: Arc<dyn Host>,
    /// A connection for looks of which only one is made at a time; made when it is needed.
    alone: Option<Arc<dyn Host>>,
    together: VecDeque<Guest>,
    /// Those with which the connection was lost, now or the last time.
    one_by_one: VecDeque<Guest>,
    looking: JoinSet<(Guest, Result<GuestFacts, HypervisorError>)>,
    at_once: usize,
}

impl<'a> Looks<'a> {
    /// Looks at these guests over a connection of `connecting`, at most `at_once` at a time.
    pub(crate) fn new(
        connecting: Connecting<'a>,
        host: &Arc<dyn Host>,
        guests: impl IntoIterator<Item = Guest>,
        at_once: usize,
    ) -> Self {
        let (one_by_one, together): (VecDeque<_>, VecDeque<_>) =
            guests.into_iter().partition(crashed_last);
        Self {
            connecting,
            host: Arc::clone(host),
            alone: None,
            together,
            one_by_one,
            looking: JoinSet::new(),
            at_once,
        }
    }

    /// The next guest that was looked at; none after the last.
    ///
    /// # Errors
    /// The host cannot be connected to any more.
    pub(crate) async fn next(&mut self) -> Result<Option<(Guest, Looked)>, StepError> {
        loop {
            while self.looking.len() < self.at_once
                && let Some(guest) = self.together.pop_front()
            {
                let host = Arc::clone(&self.host);
                let looking = async move {
                    let facts = look(host.as_ref(), &guest).await;
                    (guest, facts)
                };
                self.looking.spawn(looking.with_current_context());
            }
            let Some(looked) = self.looking.join_next().await else {
                return self.next_alone().await;
            };
            let (guest, facts) = looked
                .map_err(|e| StepError::retry(format!("a guest could not be looked at: {e}")))?;
            if !is_lost(&facts) {
                return Ok(Some((guest, Looked::Facts(facts))));
            }
            // It, or one of those that were looked at with it. Those that got through count.
            self.one_by_one.push_back(guest);
            let mut through = None;
            while let Some(looked) = self.looking.join_next().await {
                let (guest, facts) = looked.map_err(|e| {
                    StepError::retry(format!("a guest could not be looked at: {e}"))
                })?;
                if is_lost(&facts) || through.is_some() {
                    self.one_by_one.push_back(guest);
                } else {
                    through = Some((guest, Looked::Facts(facts)));
                }
            }
            self.host = self.connecting.again(&self.host).await?;
            if through.is_some() {
                return Ok(through);
            }
        }
    }

    /// The connection, which may be another than at the beginning.
    pub(crate) fn into_host(self) -> Arc<dyn Host> {
        self.host
    }

    async fn next_alone(&mut self) -> Result<Option<(Guest, Looked)>, StepError> {
        let Some(guest) = self.one_by_one.pop_front() else {
            if let Some(host) = self.alone.take() {
                host.close().await;
            }
            return Ok(None);
        };
        let host = match self.alone.take() {
            Some(host) => host,
            None => self.connecting.alone().await?,
        };
        let facts = look(host.as_ref(), &guest).await;
        let looked = match facts {
            Err(error) if error.is_connection_lost() => {
                host.close().await;
                Looked::Crashed(error)
            }
            facts => {
                self.alone = Some(host);
                Looked::Facts(facts)
            }
        };
        Ok(Some((guest, looked)))
    }
}

/// The live facts of a guest.
async fn look(host: &dyn Host, guest: &Guest) -> Result<GuestFacts, HypervisorError> {
    let guest = host.guest(&connections::reference(guest)?).await?;
    guest.facts().await.map(GuestFacts::checked)
}

fn is_lost(facts: &Result<GuestFacts, HypervisorError>) -> bool {
    facts
        .as_ref()
        .is_err_and(HypervisorError::is_connection_lost)
}

/// Why a guest is left out, the look at which ended the connection.
pub(crate) fn why_left_out(guest: &Guest, error: &HypervisorError) -> String {
    let times = match guest.crashes {
        0 => String::new(),
        before => format!(" again, after {before} time(s) before"),
    };
    format!(
        "looking at it ended the connection to its host{times} ({error}); mend the guest, or leave it out with `{}`",
        terminal::command("guest edit --ignored true", &[guest.full_name()])
    )
}
