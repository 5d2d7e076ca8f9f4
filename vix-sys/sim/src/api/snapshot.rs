//! Snapshots in the C API.

use std::{
    ffi::{c_char, c_int, c_void},
    sync::Arc,
};

use virtuozo_disk::vmware::vmsd::Vmsd;
use vix_sys::{
    VIX_E_INVALID_ARG, VIX_E_SNAPSHOT_NOTFOUND, VIX_INVALID_HANDLE, VIX_SNAPSHOT_INCLUDE_MEMORY,
    VIX_SNAPSHOT_REMOVE_CHILDREN, VixError, VixEventProc, VixHandle, VixOptions,
};

use super::{
    handles,
    job::{Callback, failed},
    objects::{Object, SnapshotObject, VmObject},
    support::{code_of, guarded, put, refuse_null, required_text, text},
    vm::vm_job,
};
use crate::core::{
    error::{Result, SimError},
    faults::{self, When},
    snapshot,
};

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn VixVM_CreateSnapshot(
    vm: VixHandle,
    name: *const c_char,
    description: *const c_char,
    options: VixOptions,
    _property_list: VixHandle,
    callback: VixEventProc,
    client_data: *mut c_void,
) -> VixHandle {
    let callback = Callback::new(callback, client_data);
    // SAFETY: the strings of the C call.
    let texts = guarded(Err(SimError::new(VIX_E_INVALID_ARG, "")), || unsafe {
        Ok((
            text(name)?.unwrap_or_default(),
            text(description)?.unwrap_or_default(),
        ))
    });
    let (name, description) = match texts {
        Ok(texts) => texts,
        Err(error) => {
            return guarded(VIX_INVALID_HANDLE, || failed(callback, error));
        }
    };
    let memory = options & VIX_SNAPSHOT_INCLUDE_MEMORY != 0;
    vm_job("VixVM_CreateSnapshot", vm, callback, move |vm, _| {
        let uid = snapshot::create(&vm.guest, &name, &description, memory)?;
        insert(vm, uid)
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn VixVM_RemoveSnapshot(
    vm: VixHandle,
    snapshot: VixHandle,
    options: VixOptions,
    callback: VixEventProc,
    client_data: *mut c_void,
) -> VixHandle {
    let callback = Callback::new(callback, client_data);
    let children = options & VIX_SNAPSHOT_REMOVE_CHILDREN != 0;
    vm_job("VixVM_RemoveSnapshot", vm, callback, move |vm, _| {
        let snapshot = handles::snapshot(snapshot)?;
        if snapshot.vm.guest != vm.guest {
            return Err(not_found());
        }
        snapshot::remove(&vm.guest, snapshot.uid, children).map(|()| VIX_INVALID_HANDLE)
    })
}

fn insert(vm: &Arc<VmObject>, uid: u64) -> Result<VixHandle> {
    handles::insert(Object::Snapshot(Arc::new(SnapshotObject {
        vm: vm.clone(),
        uid,
    })))
}

fn not_found() -> SimError {
    SimError::new(VIX_E_SNAPSHOT_NOTFOUND, "there is no such snapshot")
}

/// Answers a question about a guest's snapshots.
fn ask<T>(function: &str, vm: &VmObject, question: impl FnOnce(&Vmsd) -> Result<T>) -> Result<T> {
    vm.host.provides(function)?;
    faults::apply(function, &vm.guest.vmx.to_string_lossy(), When::Before)?;
    question(&vm.guest.settled_vmsd()?)
}

fn count(vmsd: &Vmsd, parent: Option<u64>) -> Result<c_int> {
    c_int::try_from(vmsd.children(parent).count())
        .map_err(|_| SimError::new(VIX_E_INVALID_ARG, "too many snapshots"))
}

fn nth(vmsd: &Vmsd, parent: Option<u64>, index: c_int) -> Result<u64> {
    usize::try_from(index)
        .ok()
        .and_then(|index| vmsd.children(parent).nth(index))
        .map(|snapshot| snapshot.uid)
        .ok_or_else(not_found)
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn VixVM_GetNumRootSnapshots(
    vm: VixHandle,
    out: *mut c_int,
) -> VixError {
    code_of(|| {
        let vm = handles::vm(vm)?;
        refuse_null(out)?;
        let number = ask("VixVM_GetNumRootSnapshots", &vm, |vmsd| count(vmsd, None))?;
        // SAFETY: the pointer of the C call; so in all that follow.
        unsafe { put(out, number) }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn VixVM_GetRootSnapshot(
    vm: VixHandle,
    index: c_int,
    out: *mut VixHandle,
) -> VixError {
    code_of(|| {
        let vm = handles::vm(vm)?;
        refuse_null(out)?;
        let uid = ask("VixVM_GetRootSnapshot", &vm, |vmsd| nth(vmsd, None, index))?;
        unsafe { put(out, insert(&vm, uid)?) }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn VixVM_GetCurrentSnapshot(
    vm: VixHandle,
    out: *mut VixHandle,
) -> VixError {
    code_of(|| {
        let vm = handles::vm(vm)?;
        refuse_null(out)?;
        let uid = ask("VixVM_GetCurrentSnapshot", &vm, |vmsd| {
            vmsd.current.ok_or_else(not_found)
        })?;
        unsafe { put(out, insert(&vm, uid)?) }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn VixVM_GetNamedSnapshot(
    vm: VixHandle,
    name: *const c_char,
    out: *mut VixHandle,
) -> VixError {
    code_of(|| {
        let vm = handles::vm(vm)?;
        refuse_null(out)?;
        let name = unsafe { required_text(name) }?;
        let uid = ask("VixVM_GetNamedSnapshot", &vm, |vmsd| {
            snapshot::named(vmsd, &name)
        })?;
        unsafe { put(out, insert(&vm, uid)?) }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn VixSnapshot_GetNumChildren(
    snapshot: VixHandle,
    out: *mut c_int,
) -> VixError {
    code_of(|| {
        let parent = handles::snapshot(snapshot)?;
        refuse_null(out)?;
        let number = ask("VixSnapshot_GetNumChildren", &parent.vm, |vmsd| {
            vmsd.get(parent.uid).ok_or_else(not_found)?;
            count(vmsd, Some(parent.uid))
        })?;
        unsafe { put(out, number) }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn VixSnapshot_GetChild(
    snapshot: VixHandle,
    index: c_int,
    out: *mut VixHandle,
) -> VixError {
    code_of(|| {
        let parent = handles::snapshot(snapshot)?;
        refuse_null(out)?;
        let uid = ask("VixSnapshot_GetChild", &parent.vm, |vmsd| {
            nth(vmsd, Some(parent.uid), index)
        })?;
        unsafe { put(out, insert(&parent.vm, uid)?) }
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn VixSnapshot_GetParent(
    snapshot: VixHandle,
    out: *mut VixHandle,
) -> VixError {
    code_of(|| {
        let child = handles::snapshot(snapshot)?;
        refuse_null(out)?;
        let parent = ask("VixSnapshot_GetParent", &child.vm, |vmsd| {
            Ok(vmsd.get(child.uid).ok_or_else(not_found)?.parent)
        })?;
        let handle = parent.map_or(Ok(VIX_INVALID_HANDLE), |uid| insert(&child.vm, uid))?;
        unsafe { put(out, handle) }
    })
}
