//! A guest run in progress: its lease, its guest on the host, and their configuration.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::sync::Mutex;
use virtuozo_hypervisor::{Guest, Host};
use virtuozo_repository::Access;
use virtuozo_store::{
    events::NewEvent,
    guest_runs::{Assignment, GuestLease},
    leases::LeaseHandle,
};

use super::{late_change::UnrecordedChange, secs, snapshot_obligation::RecordedObligation};
use crate::{
    connections::ConnectionPermit,
    context::Context,
    error::{StepError, Stop},
    trace::GuestTrace,
};

/// A guest run in progress.
pub(crate) struct GuestRun {
    pub(crate) context: Arc<Context>,
    /// Its row, as read when the lease was taken.
    pub(crate) row: GuestLease,
    /// The lease.
    pub(crate) lease: LeaseHandle,
    /// The site's settings, as they were when the attempt began.
    pub(crate) settings: virtuozo_model::Settings,
    /// The guest's configuration, as it was when the attempt began.
    pub(crate) guest: virtuozo_model::Guest,
    pub(super) ignored_disks: Vec<String>,
    /// Whether the guest had obligations when the attempt began. Later ones are those of this run, or of workers that
    /// acted after they had lost their lease.
    pub(super) has_obligations: bool,
    pub(super) snapshot_obligation: RecordedObligation,
    pub(super) unrecorded_change: UnrecordedChange,
    permit: ConnectionPermit,
    opened: Mutex<Option<Opened>>,
    /// The parents of its spans.
    pub(crate) trace: GuestTrace,
}

/// The guest as its host shows it.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) host: Arc<dyn Host>,
    pub(super) guest: Arc<dyn Guest>,
}

impl GuestRun {
    pub(crate) fn new(
        context: Arc<Context>,
        row: GuestLease,
        lease: LeaseHandle,
        assignment: Assignment,
        permit: ConnectionPermit,
    ) -> Self {
        Self {
            trace: GuestTrace::begin(&context.telemetry.traces, &row),
            context,
            row,
            lease,
            settings: assignment.settings,
            guest: assignment.guest,
            ignored_disks: assignment.ignored_disks,
            has_obligations: assignment.has_obligations,
            snapshot_obligation: RecordedObligation::default(),
            unrecorded_change: UnrecordedChange::default(),
            permit,
            opened: Mutex::default(),
        }
    }

    /// The guest on its host.
    pub(crate) async fn open(&self) -> Result<Arc<dyn Guest>, StepError> {
        Ok(self.opened().await?.guest)
    }

    pub(super) async fn opened(&self) -> Result<Opened, StepError> {
        let mut opened = self.opened.lock().await;
        if let Some(opened) = opened.as_ref() {
            return Ok(opened.clone());
        }
        let (host, guest) = self.permit.guest(&self.guest).await?;
        Ok(opened.insert(Opened { host, guest }).clone())
    }

    /// Discards a broken connection, so that the next use makes a new one.
    pub(crate) async fn reconnect(&self) {
        if let Some(opened) = self.opened.lock().await.take() {
            self.permit.discard(&opened.host).await;
        }
    }

    /// Who may read what is stored of this guest.
    pub(crate) fn access(&self) -> Access {
        Access::of_group(self.settings.group_may_read)
    }

    /// An event about this guest run.
    pub(crate) fn about(&self, event: NewEvent) -> NewEvent {
        event
            .run(self.row.run_id)
            .host(self.row.host_id)
            .guest(self.row.guest_id)
            .guest_run(self.row.guest_run_id)
    }

    /// How long nothing may move in work on files.
    pub(crate) fn file_silence(&self) -> Duration {
        secs(self.settings.file_silence_secs)
    }

    /// Opens a repository for a change.
    ///
    /// # Errors
    /// As [`Repositories::open`](crate::repositories::Repositories::open).
    pub(crate) async fn enter(&self, repository: &Path) -> Result<(), StepError> {
        let Context {
            repositories, pool, ..
        } = self.context.as_ref();
        let opening = repositories.open(pool, repository, self.access(), self.file_silence());
        opening.await
    }

    /// Does work that can be dropped at any time, until it is done or has to stop, whatever it waits for.
    ///
    /// # Errors
    /// Why it stopped, or its own.
    pub(super) async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, StepError>>,
    ) -> Result<T, StepError> {
        tokio::select! {
            biased;
            done = work => done,
            end = self.lease.ended() => Err(Stop::from(end).into()),
            () = self.context.drain.cancelled() => Err(Stop::Draining.into()),
        }
    }

    pub(crate) fn snapshot_limit(&self) -> Duration {
        secs(self.settings.snapshot_limit_secs)
    }
}
