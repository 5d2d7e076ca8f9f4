//! The table of live handles: counted references to hosts, guests, snapshots, jobs and property lists.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};
use vix_sys::{
    VIX_E_INVALID_HANDLE, VIX_E_NOT_SUPPORTED_ON_HANDLE_TYPE, VIX_HANDLETYPE_NONE,
    VIX_INVALID_HANDLE, VixHandle, VixHandleType,
};

use super::objects::{HostObject, Job, Object, SnapshotObject, VmObject};
use crate::core::error::{Result, SimError};

/// Behind VMware's wrapper the top byte of a handle names the library; the rest is ours.
const NUMBER_MASK: i32 = 0x00FF_FFFF;

struct Slot {
    references: u32,
    object: Object,
}

#[derive(Default)]
struct Table {
    last: i32,
    slots: HashMap<i32, Slot>,
}

static TABLE: Mutex<Option<Table>> = Mutex::new(None);
static PREFIX: AtomicI32 = AtomicI32::new(0);

/// Sets the top byte of the handles given from now on; old ones stay valid.
pub(super) fn set_prefix(prefix: i32) {
    PREFIX.store(prefix & !NUMBER_MASK, Ordering::Relaxed);
}

fn with_table<T>(body: impl FnOnce(&mut Table) -> T) -> T {
    let mut guard: MutexGuard<'_, Option<Table>> = TABLE.lock();
    body(guard.get_or_insert_default())
}

fn dead(handle: VixHandle) -> SimError {
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

fn insert_into(table: &mut Table, object: Object) -> VixHandle {
    loop {
        table.last = (table.last + 1) & NUMBER_MASK;
        let number = table.last;
        if number != VIX_INVALID_HANDLE && !table.slots.contains_key(&number) {
            let slot = Slot {
                references: 1,
                object,
            };
            table.slots.insert(number, slot);
            return PREFIX.load(Ordering::Relaxed) | number;
        }
    }
}

/// Gives an object a handle with one reference.
pub(super) fn insert(object: Object) -> VixHandle {
    with_table(|table| insert_into(table, object))
}

/// Gives a guest a handle; one that is open already through the same connection has the same.
pub(super) fn insert_vm(vm: VmObject) -> VixHandle {
    with_table(|table| {
        let open = table.slots.iter_mut().find_map(|(number, slot)| {
            let Object::Vm(known) = &slot.object else {
                return None;
            };
            let same = Arc::ptr_eq(&known.host, &vm.host) && known.guest == vm.guest;
            same.then_some((*number, slot))
        });
        match open {
            Some((number, slot)) => {
                slot.references += 1;
                PREFIX.load(Ordering::Relaxed) | number
            }
            None => insert_into(table, Object::Vm(Arc::new(vm))),
        }
    })
}

/// The object of a handle.
pub(super) fn get(handle: VixHandle) -> Result<Object> {
    with_table(|table| {
        table
            .slots
            .get(&(handle & NUMBER_MASK))
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

pub(super) fn kind(handle: VixHandle) -> VixHandleType {
    get(handle).map_or(VIX_HANDLETYPE_NONE, |object| object.kind())
}

pub(super) fn add_reference(handle: VixHandle) {
    with_table(|table| {
        if let Some(slot) = table.slots.get_mut(&(handle & NUMBER_MASK)) {
            slot.references += 1;
        }
    });
}

/// Gives back one reference; a dead handle is no error.
pub(super) fn release(handle: VixHandle) {
    let freed = with_table(|table| {
        let number = handle & NUMBER_MASK;
        let slot = table.slots.get_mut(&number)?;
        slot.references -= 1;
        if slot.references == 0 {
            table.slots.remove(&number)
        } else {
            None
        }
    });
    // A job holds a reference to what it made.
    if let Some(Slot {
        object: Object::Job(job),
        ..
    }) = freed
    {
        release(job.result_handle());
    }
}

/// Ends a connection and everything obtained through it.
pub(super) fn disconnect(handle: VixHandle) {
    let Ok(host) = host(handle) else { return };
    host.closed.store(true, Ordering::Relaxed);
    drop(host.connection.lock().take());
    let freed: Vec<Slot> = with_table(|table| {
        let theirs: Vec<i32> = table
            .slots
            .iter()
            .filter(|(_, slot)| {
                slot.object
                    .host()
                    .is_some_and(|own| Arc::ptr_eq(own, &host))
            })
            .map(|(number, _)| *number)
            .collect();
        theirs
            .iter()
            .filter_map(|number| table.slots.remove(number))
            .collect()
    });
    drop(freed);
}
