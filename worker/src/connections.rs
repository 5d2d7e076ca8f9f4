//! The connections of this worker to hosts: one for each host, shared by the jobs for its guests.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use virtuozo_hypervisor::{
    Connectors, ErrorClass, ErrorKind, Guest, GuestRef, Host, HypervisorError, Locator,
};
use virtuozo_runtime::LIMITS;

use crate::{circuit_breaker, error::StepError, target::Targets};

/// All connections of a worker.
pub(crate) struct Connections {
    connectors: Connectors,
    targets: Targets,
    hosts: Mutex<HashMap<Uuid, Entry>>,
    /// Connections that are being closed; the worker's end waits for them.
    closing: TaskTracker,
}

struct Entry {
    users: usize,
    idle_since: Instant,
    connection: Arc<tokio::sync::Mutex<Option<Arc<dyn Host>>>>,
}

impl Connections {
    pub(crate) fn new(connectors: Connectors, targets: Targets) -> Arc<Self> {
        Arc::new(Self {
            connectors,
            targets,
            hosts: Mutex::default(),
            closing: TaskTracker::new(),
        })
    }

    /// The right to use a host's connection; `None` if this worker uses `max_hosts` other connections already.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        host_id: Uuid,
        max_hosts: usize,
    ) -> Option<ConnectionPermit> {
        let mut hosts = self.lock();
        if !hosts.contains_key(&host_id) && hosts.len() >= max_hosts.max(1) {
            let idle = hosts
                .iter()
                .filter(|(_, entry)| entry.users == 0)
                .min_by_key(|(_, entry)| entry.idle_since)
                .map(|(id, _)| *id)?;
            if let Some(entry) = hosts.remove(&idle) {
                self.close(entry);
            }
        }
        let entry = hosts.entry(host_id).or_insert_with(|| Entry {
            users: 0,
            idle_since: Instant::now(),
            connection: Arc::default(),
        });
        entry.users += 1;
        Some(ConnectionPermit {
            connections: Arc::clone(self),
            host_id,
            connection: Arc::clone(&entry.connection),
        })
    }

    /// Closes all connections. No permit may be held any more.
    pub(crate) async fn close_all(&self) {
        let entries: Vec<Entry> = self.lock().drain().map(|(_, entry)| entry).collect();
        for entry in entries {
            self.close(entry);
        }
        self.closing.close();
        self.closing.wait().await;
    }

    fn close(&self, entry: Entry) {
        self.closing.spawn(async move {
            if let Some(host) = entry.connection.lock().await.take() {
                host.close().await;
            }
        });
    }

    fn leave(self: &Arc<Self>, host_id: Uuid) {
        let mut hosts = self.lock();
        let Some(entry) = hosts.get_mut(&host_id) else {
            return;
        };
        entry.users = entry.users.saturating_sub(1);
        if entry.users > 0 {
            return;
        }
        entry.idle_since = Instant::now();
        let all = Arc::clone(self);
        // Not tracked: the worker's end closes unused connections at once.
        tokio::spawn(async move {
            tokio::time::sleep(LIMITS.worker.unused_connection).await;
            let mut hosts = all.lock();
            let over = hosts.get(&host_id).is_some_and(|e| {
                e.users == 0 && e.idle_since.elapsed() >= LIMITS.worker.unused_connection
            });
            if over && let Some(entry) = hosts.remove(&host_id) {
                all.close(entry);
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Entry>> {
        self.hosts.lock()
    }
}

/// The right to use the connection to one host, until it is dropped.
pub(crate) struct ConnectionPermit {
    connections: Arc<Connections>,
    host_id: Uuid,
    connection: Arc<tokio::sync::Mutex<Option<Arc<dyn Host>>>>,
}

impl ConnectionPermit {
    /// The open connection, or a new one if the host's circuit breaker lets this worker try.
    ///
    /// # Errors
    /// The circuit breaker is open, the host cannot be connected to, or the database refuses a statement.
    pub(crate) async fn host(&self) -> Result<Arc<dyn Host>, StepError> {
        // Held while connecting, so that other jobs wait for this attempt instead of making their own.
        let mut connection = self.connection.lock().await;
        if let Some(host) = connection.as_ref() {
            return Ok(Arc::clone(host));
        }
        let host = self.connect_alone().await?;
        *connection = Some(Arc::clone(&host));
        Ok(host)
    }

    /// A connection made with the host's present configuration: a new one, unless other jobs use the old one.
    ///
    /// # Errors
    /// The host cannot be connected to or refuses the request, or the database refuses a statement.
    pub(crate) async fn fresh_host(&self) -> Result<Arc<dyn Host>, StepError> {
        let alone = self
            .connections
            .lock()
            .get(&self.host_id)
            .is_some_and(|entry| entry.users <= 1);
        if alone && let Some(old) = self.connection.lock().await.take() {
            old.close().await;
        }
        self.host().await
    }

    /// A connection that no other job uses; closing it is the caller's.
    ///
    /// # Errors
    /// As [`ConnectionPermit::host`].
    pub(crate) async fn connect_alone(&self) -> Result<Arc<dyn Host>, StepError> {
        let all = &self.connections;
        let target = all.targets.of(self.host_id).await?;
        circuit_breaker::connect(
            &all.targets.pool,
            &all.targets.telemetry,
            self.host_id,
            || all.connectors.connect(&target),
        )
        .await
    }

    /// A guest on the host. A connection that is lost is replaced once.
    ///
    /// # Errors
    /// The host cannot be connected to or refuses the request, or the database refuses a statement.
    pub(crate) async fn guest(
        &self,
        guest: &virtuozo_model::Guest,
    ) -> Result<(Arc<dyn Host>, Arc<dyn Guest>), StepError> {
        let reference = reference(guest)?;
        let mut host = self.host().await?;
        let mut answer = host.guest(&reference).await;
        if answer
            .as_ref()
            .is_err_and(HypervisorError::is_connection_lost)
        {
            self.discard(&host).await;
            host = self.host().await?;
            answer = host.guest(&reference).await;
        }
        let guest = answer?;
        Ok((host, guest))
    }

    /// Closes a broken connection, so that the next use makes a new one.
    pub(crate) async fn discard(&self, broken: &Arc<dyn Host>) {
        let mut connection = self.connection.lock().await;
        if connection
            .as_ref()
            .is_some_and(|host| Arc::ptr_eq(host, broken))
        {
            *connection = None;
            broken.close().await;
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connections.leave(self.host_id);
    }
}

/// The identity of a stored guest on its host.
pub(crate) fn reference(guest: &virtuozo_model::Guest) -> Result<GuestRef, HypervisorError> {
    let locator = Locator::new(guest.locator.as_str()).map_err(|error| {
        HypervisorError::new(
            ErrorKind::GuestInvalid,
            ErrorClass::Operator,
            format!("guest {}: {error}", guest.full_name()),
        )
    })?;
    Ok(GuestRef {
        locator,
        uuid: guest.uuid,
    })
}
