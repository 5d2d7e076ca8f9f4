//! The objects behind handles: hosts, guests, snapshots, jobs and lists of properties.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
    thread::{self, ThreadId},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use vix_sys::{
    VIX_E_FAIL, VIX_E_UNFINISHED_JOB, VIX_HANDLETYPE_HOST, VIX_HANDLETYPE_JOB,
    VIX_HANDLETYPE_PROPERTY_LIST, VIX_HANDLETYPE_SNAPSHOT, VIX_HANDLETYPE_VM, VIX_INVALID_HANDLE,
    VixError, VixHandle, VixHandleType, VixPropertyId, VixServiceProvider,
};

use crate::core::{connection::Connection, error::Result, guest::Guest, host::Host};

/// A connected host.
pub(super) struct HostObject {
    pub(super) host: Host,
    pub(super) provider: VixServiceProvider,
    /// Set by Disconnect; jobs that wait for ever look at it.
    pub(super) closed: AtomicBool,
    /// Taken by Disconnect: jobs that still run do not keep the connection open.
    pub(super) connection: Mutex<Option<Connection>>,
}

impl HostObject {
    /// Refuses a function that the product lacks.
    pub(super) fn provides(&self, function: &str) -> Result<()> {
        self.host.product.provides(self.provider, function)
    }
}

/// An open guest.
pub(super) struct VmObject {
    pub(super) host: Arc<HostObject>,
    pub(super) guest: Guest,
    /// As the caller named it.
    pub(super) path: String,
}

/// A snapshot of an open guest.
pub(super) struct SnapshotObject {
    pub(super) vm: Arc<VmObject>,
    pub(super) uid: u64,
}

/// What a handle refers to.
#[derive(Clone)]
pub(super) enum Object {
    Host(Arc<HostObject>),
    Vm(Arc<VmObject>),
    Snapshot(Arc<SnapshotObject>),
    Job(Arc<Job>),
    Properties(Arc<PropertyList>),
}

/// A list of properties.
pub(super) struct PropertyList {
    /// The connection through which it was made, and with which it ends.
    pub(super) host: Option<Arc<HostObject>>,
    pub(super) values: BTreeMap<VixPropertyId, Value>,
}

impl Object {
    pub(super) fn kind(&self) -> VixHandleType {
        match self {
            Self::Host(_) => VIX_HANDLETYPE_HOST,
            Self::Vm(_) => VIX_HANDLETYPE_VM,
            Self::Snapshot(_) => VIX_HANDLETYPE_SNAPSHOT,
            Self::Job(_) => VIX_HANDLETYPE_JOB,
            Self::Properties(_) => VIX_HANDLETYPE_PROPERTY_LIST,
        }
    }

    /// The host through which it was obtained.
    pub(super) fn host(&self) -> Option<&Arc<HostObject>> {
        match self {
            Self::Host(host) => Some(host),
            Self::Vm(vm) => Some(&vm.host),
            Self::Snapshot(snapshot) => Some(&snapshot.vm.host),
            Self::Job(job) => job.host.as_ref(),
            Self::Properties(list) => list.host.as_ref(),
        }
    }
}

/// The value of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Int(i32),
    Text(String),
    Bool(bool),
    Handle(VixHandle),
    Int64(i64),
    Blob(Vec<u8>),
}

/// How a job ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub(super) error: VixError,
    pub(super) handle: VixHandle,
}

#[derive(Debug, Default)]
struct JobState {
    outcome: Option<Outcome>,
    /// The thread that calls the callback.
    ended_by: Option<ThreadId>,
    /// The callback has returned: only now waiting ends, so that a caller may free its client data.
    delivered: bool,
}

impl JobState {
    /// Whether the job is over for the thread that asks. For the callback itself it is: what it waits for would be its
    /// own return.
    fn is_over(&self) -> bool {
        self.delivered || self.ended_by == Some(thread::current().id())
    }
}

/// The state of an asynchronous operation.
pub(super) struct Job {
    pub(super) host: Option<Arc<HostObject>>,
    state: Mutex<JobState>,
    changed: Condvar,
}

impl Job {
    pub(super) fn new(host: Option<Arc<HostObject>>) -> Arc<Self> {
        Arc::new(Self {
            host,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, JobState> {
        self.state.lock()
    }

    /// Records how the job ended, on the thread that then calls the callback.
    pub(super) fn set_outcome(&self, outcome: Outcome) {
        let mut state = self.state();
        state.outcome = Some(outcome);
        state.ended_by = Some(thread::current().id());
    }

    /// Ends the waits: the callback has returned.
    pub(super) fn set_delivered(&self) {
        self.state().delivered = true;
        self.changed.notify_all();
    }

    /// Whether the job has ended and its callback has returned, or is the one that asks.
    pub(super) fn is_over(&self) -> bool {
        self.state().is_over()
    }

    /// Blocks until the job is over; its error.
    pub(super) fn wait(&self) -> VixError {
        let mut state = self.state();
        while !state.is_over() {
            self.changed.wait(&mut state);
        }
        state.outcome.map_or(VIX_E_FAIL, |outcome| outcome.error)
    }

    /// The job's error; 29 while it runs.
    pub(super) fn error(&self) -> VixError {
        let outcome = self.state().outcome;
        outcome.map_or(VIX_E_UNFINISHED_JOB, |outcome| outcome.error)
    }

    /// The handle the job made; 0 for none.
    pub(super) fn result_handle(&self) -> VixHandle {
        let outcome = self.state().outcome;
        outcome.map_or(VIX_INVALID_HANDLE, |outcome| outcome.handle)
    }
}
