//! Jobs: every asynchronous function runs on a thread of its own and ends in one final state.

use std::{
    collections::BTreeMap,
    ffi::{c_int, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
};

use parking_lot::Mutex;
use vix_sys::{
    VIX_E_FAIL, VIX_E_OUT_OF_MEMORY, VIX_EVENTTYPE_FIND_ITEM, VIX_EVENTTYPE_JOB_COMPLETED,
    VIX_INVALID_HANDLE, VIX_OK, VIX_PROPERTY_FOUND_ITEM_LOCATION, VixBool, VixError, VixEventProc,
    VixEventType, VixHandle, VixPropertyId,
};

use super::{
    handles,
    objects::{HostObject, Job, Object, Outcome, PropertyList, Value},
    support::{code_of, guarded, put},
};
use crate::core::{
    error::{Result, SimError},
    faults::{self, When},
};

/// The caller's callback with its client data.
#[derive(Clone, Copy)]
pub(super) struct Callback {
    procedure: VixEventProc,
    /// A pointer of the caller, passed through.
    client_data: usize,
}

impl Callback {
    pub(super) fn new(procedure: VixEventProc, client_data: *mut c_void) -> Self {
        Self {
            procedure,
            client_data: client_data as usize,
        }
    }

    fn call(self, job: VixHandle, event: VixEventType, more_info: VixHandle) {
        if let Some(procedure) = self.procedure {
            // SAFETY: the caller gave a function of this type for exactly this.
            unsafe { procedure(job, event, more_info, self.client_data as *mut c_void) }
        }
    }
}

/// What the work of a job knows of it.
pub(super) struct Context {
    job: VixHandle,
    callback: Callback,
    host: Option<Arc<HostObject>>,
}

impl Context {
    /// Tells the caller of one found item.
    pub(super) fn found(&self, location: String) -> Result<()> {
        let list = PropertyList {
            host: self.host.clone(),
            values: BTreeMap::from([(VIX_PROPERTY_FOUND_ITEM_LOCATION, Value::Text(location))]),
        };
        let list = handles::insert(Object::Properties(Arc::new(list)))?;
        self.callback.call(self.job, VIX_EVENTTYPE_FIND_ITEM, list);
        handles::release(list);
        Ok(())
    }

    /// The connection has been ended: nobody waits any more.
    pub(super) fn abandoned(&self) -> bool {
        self.host
            .as_ref()
            .is_some_and(|host| host.closed.load(Ordering::Relaxed))
    }
}

/// Which function a job belongs to and what it works on, for fault rules.
pub(super) struct Target {
    pub(super) function: &'static str,
    pub(super) object: String,
    pub(super) host: Option<Arc<HostObject>>,
}

/// Ends a job and gives back the reference that kept its handle alive until here.
fn finish(object: &Job, job: VixHandle, callback: Callback, outcome: Outcome) {
    object.set_outcome(outcome);
    callback.call(job, VIX_EVENTTYPE_JOB_COMPLETED, VIX_INVALID_HANDLE);
    if !handles::release(job) {
        // The caller released the job more often than it may: nobody holds what it made.
        handles::release(outcome.handle);
    }
    object.set_delivered();
}

/// Starts a job whose work makes a handle or none. An error found before (a bad argument) is the
/// `target`'s: the job then fails with it.
pub(super) fn start(
    callback: Callback,
    target: Result<Target>,
    work: impl FnOnce(&Context) -> Result<VixHandle> + Send + 'static,
) -> VixHandle {
    let (host, job, handle) = match &target {
        Ok(target) => {
            let host = target.host.clone();
            let job = Job::new(host.clone());
            match handles::insert_job(job.clone()) {
                Ok(handle) => (host, job, handle),
                // The connection was ended just now: the job belongs to nobody's.
                Err(error) => return failed(callback, error),
            }
        }
        Err(_) => {
            let job = Job::new(None);
            match handles::insert_job(job.clone()) {
                Ok(handle) => (None, job, handle),
                Err(_) => return VIX_INVALID_HANDLE,
            }
        }
    };
    let run = {
        let job = job.clone();
        move || {
            let context = Context {
                job: handle,
                callback,
                host,
            };
            let result = catch_unwind(AssertUnwindSafe(|| {
                let target = target?;
                if let Some(host) = &target.host {
                    host.provides(target.function)?;
                }
                faults::apply(target.function, &target.object, When::Before)?;
                let made = work(&context)?;
                faults::apply(target.function, &target.object, When::After).inspect_err(|_| {
                    handles::release(made);
                })?;
                Ok(made)
            }));
            finish(&job, handle, callback, outcome_of(result));
        }
    };
    if std::thread::Builder::new()
        .name("vix-job".to_owned())
        .spawn(run)
        .is_err()
    {
        let outcome = Outcome {
            error: VIX_E_OUT_OF_MEMORY,
            handle: VIX_INVALID_HANDLE,
        };
        finish(&job, handle, callback, outcome);
    }
    handle
}

/// Starts a job that fails.
pub(super) fn failed(callback: Callback, error: SimError) -> VixHandle {
    start(callback, Err(error), |_| Ok(VIX_INVALID_HANDLE))
}

fn outcome_of(result: std::thread::Result<Result<VixHandle>>) -> Outcome {
    match result {
        Ok(Ok(handle)) => Outcome {
            error: VIX_OK,
            handle,
        },
        Ok(Err(SimError { code, .. })) => Outcome {
            error: code,
            handle: VIX_INVALID_HANDLE,
        },
        Err(_) => Outcome {
            error: VIX_E_FAIL,
            handle: VIX_INVALID_HANDLE,
        },
    }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn VixJob_CheckCompletion(
    job: VixHandle,
    complete: *mut VixBool,
) -> VixError {
    code_of(|| {
        let done = handles::job(job)?.is_over();
        // SAFETY: the caller's pointer to a Bool.
        unsafe { put(complete, VixBool::from(done)) }
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn VixJob_GetError(job: VixHandle) -> VixError {
    guarded(VIX_E_FAIL, || match handles::job(job) {
        Ok(job) => job.error(),
        Err(error) => error.code,
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn VixJob_GetNumProperties(_job: VixHandle, _id: VixPropertyId) -> c_int {
    // No job here has a result set.
    0
}

/// Makes a job for the wrapper library, which ends it itself.
#[unsafe(no_mangle)]
pub(super) extern "C" fn VixJob_CreateJobWithCallback(
    procedure: VixEventProc,
    client_data: *mut c_void,
) -> VixHandle {
    guarded(VIX_INVALID_HANDLE, || {
        let callback = Callback::new(procedure, client_data);
        let Ok(handle) = handles::insert_job(Job::new(None)) else {
            return VIX_INVALID_HANDLE;
        };
        WRAPPER_JOBS.lock().insert(handle, callback);
        handle
    })
}

/// Ends a job made by [`VixJob_CreateJobWithCallback`].
#[unsafe(no_mangle)]
pub(super) extern "C" fn VixJob_OnFinishAsynchOpWithHandle(
    job: VixHandle,
    _unused: c_int,
    error: VixError,
    _result_property: VixPropertyId,
    result: VixHandle,
) {
    guarded((), || {
        let callback = WRAPPER_JOBS.lock().remove(&job);
        if let (Some(callback), Ok(object)) = (callback, handles::job(job)) {
            let outcome = Outcome {
                error,
                handle: result,
            };
            finish(&object, job, callback, outcome);
        }
    });
}

static WRAPPER_JOBS: Mutex<BTreeMap<VixHandle, Callback>> = Mutex::new(BTreeMap::new());
