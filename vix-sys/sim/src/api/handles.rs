//! The table of live handles: counted references to hosts, guests, snapshots, jobs and property lists.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use parking_lot::Mutex;
use vix_sys::{
    VIX_E_HOST_NOT_CONNECTED, VIX_E_INVALID_HANDLE, VIX_E_NOT_SUPPORTED_ON_HANDLE_TYPE,
    VIX_E_TOO_MANY_HANDLES, VIX_HANDLETYPE_NONE, VixError, VixHandle, VixHandleType,
};

use super::objects::{HostObject, Job, Object, PropertyList, SnapshotObject, VmObject};
use crate::core::error::{Result, SimError};

/// Behind VMware's wrapper the top byte of a handle names the library; the rest is ours.
const NUMBER_MASK: VixHandle = 0x00FF_FFFF;
/// The top byte of the wrapper's own handles for jobs that failed before they reached a library. The rest is the
/// error.
const ERROR_JOB: VixHandle = 0x0100_0000;

struct Slot {
    references: u32,
    object: Object,
}

#[derive(Default)]
struct Table {
    /// The top byte of the handles given from now on. Those given before keep theirs.
    prefix: VixHandle,
    last: VixHandle,
    slots: HashMap<VixHandle, Slot>,
}

impl Table {
    /// Gives an object a handle. One of a connection that has been ended gets none: nobody would release it.
    fn insert(&mut self, object: Object, references: u32) -> Result<VixHandle> {
        if object
            .host()
            .is_some_and(|host| host.closed.load(Ordering::Relaxed))
        {
            return Err(SimError::new(
                VIX_E_HOST_NOT_CONNECTED,
                "the connection was ended",
            ));
        }
        if self.slots.len() >= NUMBER_MASK as usize / 2 {
            return Err(SimError::new(
                VIX_E_TOO_MANY_HANDLES,
                "too many handles are in use; release those that are not needed",
            ));
        }
        loop {
            self.last = (self.last + 1) & NUMBER_MASK;
            let handle = self.prefix | self.last;
            if self.last != 0 && !self.slots.contains_key(&handle) {
                self.slots.insert(handle, Slot { references, object });
                return Ok(handle);
            }
        }
    }
}

static TABLE: Mutex<Option<Table>> = Mutex::new(None);

fn with_table<T>(body: impl FnOnce(&mut Table) -> T) -> T {
    body(TABLE.lock().get_or_insert_default())
}

/// Sets the top byte of the handles given from now on; old ones stay valid.
pub(super) fn set_prefix(prefix: i32) {
    with_table(|table| table.prefix = prefix & !NUMBER_MASK);
}

/// The handle by which the wrapper tells of a failure before any library was reached.
pub(super) fn error_job(error: VixError) -> VixHandle {
    ERROR_JOB | (error as VixHandle & NUMBER_MASK)
}

fn dead(handle: VixHandle) -> SimError {
    if handle & !NUMBER_MASK == ERROR_JOB {
        let code = VixError::from((handle & NUMBER_MASK).cast_unsigned());
        return SimError::new(code, "the call failed in the wrapper library");
    }
    SimError::new(
        VIX_E_INVALID_HANDLE,
        format!("{handle:#x} is no live handle"),
    )
}

fn wrong_kind(handle: VixHandle) -> SimError {
    SimError::new(
        VIX_E_NOT_SUPPORTED_ON_HANDLE_TYPE,
        format!("{handle:#x} is a handle of another kind"),
    )
}

/// Gives an object a handle with one reference.
pub(super) fn insert(object: Object) -> Result<VixHandle> {
    with_table(|table| table.insert(object, 1))
}

/// Gives a job a handle with two references: the caller may release its own while the job still runs.
pub(super) fn insert_job(job: Arc<Job>) -> Result<VixHandle> {
    with_table(|table| table.insert(Object::Job(job), 2))
}

/// Gives a guest a handle; one that is open already through the same connection has the same.
pub(super) fn insert_vm(vm: VmObject) -> Result<VixHandle> {
    with_table(|table| {
        let open = table.slots.iter_mut().find_map(|(handle, slot)| {
            let Object::Vm(known) = &slot.object else {
                return None;
            };
            let same = Arc::ptr_eq(&known.host, &vm.host) && known.guest == vm.guest;
            same.then_some((*handle, slot))
        });
        match open {
            Some((handle, slot)) => {
                slot.references += 1;
                Ok(handle)
            }
            None => table.insert(Object::Vm(Arc::new(vm)), 1),
        }
    })
}

/// The object of a handle.
pub(super) fn get(handle: VixHandle) -> Result<Object> {
    with_table(|table| {
        table
            .slots
            .get(&handle)
            .map(|slot| slot.object.clone())
            .ok_or_else(|| dead(handle))
    })
}

pub(super) fn host(handle: VixHandle) -> Result<Arc<HostObject>> {
    match get(handle)? {
        Object::Host(host) => Ok(host),
        _ => Err(wrong_kind(handle)),
    }
}

pub(super) fn vm(handle: VixHandle) -> Result<Arc<VmObject>> {
    match get(handle)? {
        Object::Vm(vm) => Ok(vm),
        _ => Err(wrong_kind(handle)),
    }
}

pub(super) fn snapshot(handle: VixHandle) -> Result<Arc<SnapshotObject>> {
    match get(handle)? {
        Object::Snapshot(snapshot) => Ok(snapshot),
        _ => Err(wrong_kind(handle)),
    }
}

pub(super) fn job(handle: VixHandle) -> Result<Arc<Job>> {
    match get(handle)? {
        Object::Job(job) => Ok(job),
        _ => Err(wrong_kind(handle)),
    }
}

pub(super) fn properties(handle: VixHandle) -> Result<Arc<PropertyList>> {
    match get(handle)? {
        Object::Properties(list) => Ok(list),
        _ => Err(wrong_kind(handle)),
    }
}

pub(super) fn kind(handle: VixHandle) -> VixHandleType {
    get(handle).map_or(VIX_HANDLETYPE_NONE, |object| object.kind())
}

pub(super) fn add_reference(handle: VixHandle) {
    with_table(|table| {
        if let Some(slot) = table.slots.get_mut(&handle) {
            slot.references = slot.references.saturating_add(1);
        }
    });
}

/// Gives back one reference; a dead handle is no error. Whether it was live.
pub(super) fn release(handle: VixHandle) -> bool {
    let freed = with_table(|table| {
        let slot = table.slots.get_mut(&handle)?;
        slot.references -= 1;
        if slot.references == 0 {
            Some(table.slots.remove(&handle))
        } else {
            Some(None)
        }
    });
    // A job holds a reference to what it made.
    if let Some(Some(Slot {
        object: Object::Job(job),
        ..
    })) = &freed
    {
        release(job.result_handle());
    }
    freed.is_some()
}

/// Ends a connection and everything obtained through it.
pub(super) fn disconnect(handle: VixHandle) {
    let Ok(host) = host(handle) else { return };
    let freed: Vec<Slot> = with_table(|table| {
        // Under the table's lock: what a job still makes is refused from here on.
        host.closed.store(true, Ordering::Relaxed);
        let is_theirs = |slot: &Slot| {
            let own = slot.object.host();
            own.is_some_and(|own| Arc::ptr_eq(own, &host))
        };
        let theirs = table.slots.extract_if(|_, slot| is_theirs(slot));
        theirs.map(|(_, slot)| slot).collect()
    });
    drop(host.connection.lock().take());
    drop(freed);
}
