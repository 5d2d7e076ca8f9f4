//! Properties of handles: their types, their values, and the lists of pairs that ask for them.

use std::{
    ffi::{c_char, c_int},
    sync::Arc,
};

use vix_sys as v;
use vix_sys::{
    VIX_E_PROPERTY_TYPE_MISMATCH, VIX_E_UNFINISHED_JOB, VIX_E_UNRECOGNIZED_PROPERTY,
    VIX_PROPERTYTYPE_ANY, VIX_PROPERTYTYPE_BOOL, VIX_PROPERTYTYPE_HANDLE, VIX_PROPERTYTYPE_INT64,
    VIX_PROPERTYTYPE_INTEGER, VIX_PROPERTYTYPE_STRING, VixError, VixHandle, VixPropertyId,
    VixPropertyType,
};

use super::{
    arguments::Arguments,
    handles,
    objects::{HostObject, Job, Object, SnapshotObject, Value, VmObject},
    support::{code_of, malloc_text, put},
};
use crate::core::{
    error::{Result, SimError},
    state::Power,
};

/// The version that `VIX_PROPERTY_HOST_API_VERSION` answers.
const API_VERSION: i32 = 13;

/// The storage type of a property that handles or lists may have.
fn type_of(id: VixPropertyId) -> Option<VixPropertyType> {
    match id {
        v::VIX_PROPERTY_HOST_HOSTTYPE
        | v::VIX_PROPERTY_HOST_API_VERSION
        | v::VIX_PROPERTY_VM_NUM_VCPUS
        | v::VIX_PROPERTY_VM_MEMORY_SIZE
        | v::VIX_PROPERTY_VM_POWER_STATE
        | v::VIX_PROPERTY_VM_TOOLS_STATE
        | v::VIX_PROPERTY_VM_SUPPORTED_FEATURES
        | v::VIX_PROPERTY_SNAPSHOT_POWERSTATE => Some(VIX_PROPERTYTYPE_INTEGER),
        v::VIX_PROPERTY_VM_VMX_PATHNAME
        | v::VIX_PROPERTY_VM_VMTEAM_PATHNAME
        | v::VIX_PROPERTY_VM_NAME
        | v::VIX_PROPERTY_VM_GUESTOS
        | v::VIX_PROPERTY_FOUND_ITEM_LOCATION
        | v::VIX_PROPERTY_SNAPSHOT_DISPLAYNAME
        | v::VIX_PROPERTY_SNAPSHOT_DESCRIPTION
        | v::VIX_PROPERTY_VM_ENCRYPTION_PASSWORD => Some(VIX_PROPERTYTYPE_STRING),
        v::VIX_PROPERTY_VM_READ_ONLY
        | v::VIX_PROPERTY_VM_IN_VMTEAM
        | v::VIX_PROPERTY_VM_IS_RUNNING => Some(VIX_PROPERTYTYPE_BOOL),
        v::VIX_PROPERTY_JOB_RESULT_ERROR_CODE => Some(VIX_PROPERTYTYPE_INT64),
        v::VIX_PROPERTY_JOB_RESULT_HANDLE => Some(VIX_PROPERTYTYPE_HANDLE),
        _ => None,
    }
}

fn unknown(id: VixPropertyId) -> SimError {
    SimError::new(
        VIX_E_UNRECOGNIZED_PROPERTY,
        format!("the handle has no property {id}"),
    )
}

fn value_of(object: &Object, id: VixPropertyId) -> Result<Value> {
    match object {
        Object::Host(host) => host_value(host, id),
        Object::Vm(vm) => vm_value(vm, id),
        Object::Snapshot(snapshot) => snapshot_value(snapshot, id),
        Object::Job(job) => job_value(job, id),
        Object::Properties(list) => list.get(&id).cloned().ok_or_else(|| unknown(id)),
    }
}

fn host_value(host: &HostObject, id: VixPropertyId) -> Result<Value> {
    match id {
        v::VIX_PROPERTY_HOST_HOSTTYPE => Ok(Value::Int(host.provider)),
        v::VIX_PROPERTY_HOST_API_VERSION => Ok(Value::Int(API_VERSION)),
        _ => Err(unknown(id)),
    }
}

fn vm_value(vm: &VmObject, id: VixPropertyId) -> Result<Value> {
    let guest = &vm.guest;
    let power = || Ok::<_, SimError>(guest.state()?.power);
    let setting = |key: &str| {
        let config = guest.config()?;
        Ok::<_, SimError>(config.dictionary.get(key).unwrap_or_default().to_owned())
    };
    let number = |key: &str| Ok(Value::Int(setting(key)?.parse().unwrap_or(1)));
    match id {
        v::VIX_PROPERTY_VM_NUM_VCPUS => number("numvcpus"),
        v::VIX_PROPERTY_VM_MEMORY_SIZE => number("memsize"),
        v::VIX_PROPERTY_VM_VMX_PATHNAME => Ok(Value::Text(vm.path.clone())),
        v::VIX_PROPERTY_VM_VMTEAM_PATHNAME => Ok(Value::Text(String::new())),
        v::VIX_PROPERTY_VM_READ_ONLY | v::VIX_PROPERTY_VM_IN_VMTEAM => Ok(Value::Bool(false)),
        v::VIX_PROPERTY_VM_NAME => {
            let config = guest.config()?;
            let name = config.display_name().map(str::to_owned);
            Ok(Value::Text(name.unwrap_or_else(|| guest.stem())))
        }
        v::VIX_PROPERTY_VM_GUESTOS => setting("guestOS").map(Value::Text),
        v::VIX_PROPERTY_VM_POWER_STATE => Ok(Value::Int(match power()? {
            Power::Off => v::VIX_POWERSTATE_POWERED_OFF,
            Power::Suspended => v::VIX_POWERSTATE_SUSPENDED,
            Power::On if guest.has_tools(&guest.config()?) => {
                v::VIX_POWERSTATE_POWERED_ON | v::VIX_POWERSTATE_TOOLS_RUNNING
            }
            Power::On => v::VIX_POWERSTATE_POWERED_ON,
        })),
        v::VIX_PROPERTY_VM_TOOLS_STATE => {
            let tools = guest.has_tools(&guest.config()?);
            Ok(Value::Int(match (tools, power()?) {
                (true, Power::On) => v::VIX_TOOLSSTATE_RUNNING,
                (true, _) => v::VIX_TOOLSSTATE_UNKNOWN,
                (false, _) => v::VIX_TOOLSSTATE_NOT_INSTALLED,
            }))
        }
        v::VIX_PROPERTY_VM_IS_RUNNING => Ok(Value::Bool(power()? == Power::On)),
        v::VIX_PROPERTY_VM_SUPPORTED_FEATURES => Ok(Value::Int(if guest.single_snapshot {
            v::VIX_VM_SUPPORT_TOOLS_INSTALL
        } else {
            v::VIX_VM_SUPPORT_TOOLS_INSTALL | v::VIX_VM_SUPPORT_MULTIPLE_SNAPSHOTS
        })),
        _ => Err(unknown(id)),
    }
}

fn snapshot_value(snapshot: &SnapshotObject, id: VixPropertyId) -> Result<Value> {
    let vmsd = snapshot.vm.guest.vmsd()?;
    let entry = vmsd
        .get(snapshot.uid)
        .ok_or_else(|| SimError::new(v::VIX_E_SNAPSHOT_NOTFOUND, "the snapshot exists no more"))?;
    match id {
        v::VIX_PROPERTY_SNAPSHOT_DISPLAYNAME => Ok(Value::Text(entry.name.clone())),
        v::VIX_PROPERTY_SNAPSHOT_DESCRIPTION => Ok(Value::Text(entry.description.clone())),
        // Whether with memory or not, reverting to one ends powered off.
        v::VIX_PROPERTY_SNAPSHOT_POWERSTATE => Ok(Value::Int(v::VIX_POWERSTATE_POWERED_OFF)),
        _ => Err(unknown(id)),
    }
}

fn job_value(job: &Job, id: VixPropertyId) -> Result<Value> {
    let error = job.error();
    if error == VIX_E_UNFINISHED_JOB {
        return Err(SimError::new(error, "the job has not ended"));
    }
    match id {
        v::VIX_PROPERTY_JOB_RESULT_ERROR_CODE => Ok(Value::Int64(error.cast_signed())),
        v::VIX_PROPERTY_JOB_RESULT_HANDLE if error == v::VIX_OK => match job.result_handle() {
            v::VIX_INVALID_HANDLE => Err(unknown(id)),
            handle => Ok(Value::Handle(handle)),
        },
        v::VIX_PROPERTY_JOB_RESULT_HANDLE => Err(SimError::new(error, "the job failed")),
        _ => Err(unknown(id)),
    }
}

/// Writes a value into the caller's storage. A handle gets one more reference.
///
/// # Safety
/// The address is null or of storage of the property's type.
unsafe fn write(value: &Value, address: usize) -> Result<()> {
    // SAFETY: as the caller promises.
    unsafe {
        match value {
            Value::Int(value) => put(address as *mut i32, *value),
            Value::Text(text) => {
                let text = malloc_text(text)?;
                put(address as *mut *mut c_char, text).inspect_err(|_| libc::free(text.cast()))
            }
            Value::Bool(value) => put(address as *mut u8, u8::from(*value)),
            Value::Handle(handle) => {
                handles::add_reference(*handle);
                put(address as *mut VixHandle, *handle)
            }
            Value::Int64(value) => put(address as *mut i64, *value),
        }
    }
}

/// Answers pairs of id and address, ended by 0.
///
/// # Safety
/// The arguments are such pairs.
pub(super) unsafe fn answer(
    object: &Object,
    first: VixPropertyId,
    arguments: &mut dyn Arguments,
) -> Result<()> {
    let mut id = first;
    while id != v::VIX_PROPERTY_NONE {
        let address = arguments.next()?;
        // SAFETY: as the caller promises.
        unsafe { write(&value_of(object, id)?, address)? };
        id = arguments.next()? as VixPropertyId;
    }
    Ok(())
}

/// Makes a property list of pairs of id and value, ended by 0.
///
/// # Safety
/// The arguments are such pairs; strings are NUL-terminated.
pub(super) unsafe fn collect(
    first: VixPropertyId,
    arguments: &mut dyn Arguments,
) -> Result<VixHandle> {
    let mut list = std::collections::BTreeMap::new();
    let mut id = first;
    while id != v::VIX_PROPERTY_NONE {
        let argument = arguments.next()?;
        let value = match type_of(id).ok_or_else(|| unknown(id))? {
            VIX_PROPERTYTYPE_INTEGER => Value::Int(argument as i32),
            // SAFETY: as the caller promises.
            VIX_PROPERTYTYPE_STRING => {
                Value::Text(unsafe { super::support::required_text(argument as *const c_char) }?)
            }
            VIX_PROPERTYTYPE_BOOL => Value::Bool(argument & 0xFF != 0),
            VIX_PROPERTYTYPE_INT64 => Value::Int64(argument as i64),
            _ => {
                return Err(SimError::new(
                    VIX_E_PROPERTY_TYPE_MISMATCH,
                    format!("property {id} cannot be in a list"),
                ));
            }
        };
        list.insert(id, value);
        id = arguments.next()? as VixPropertyId;
    }
    Ok(handles::insert(Object::Properties(Arc::new(list))))
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn Vix_GetPropertyType(
    handle: VixHandle,
    id: VixPropertyId,
    out: *mut c_int,
) -> VixError {
    code_of(|| {
        let object = handles::get(handle)?;
        let kind = type_of(id).ok_or_else(|| unknown(id))?;
        let fits = match (&object, id) {
            (Object::Properties(list), _) => list.contains_key(&id),
            (Object::Host(_), _) => (50..100).contains(&id),
            (Object::Vm(_), _) => (100..300).contains(&id),
            (Object::Job(_), _) => (3000..3100).contains(&id),
            (Object::Snapshot(_), _) => (4200..4300).contains(&id),
        };
        if !fits || kind == VIX_PROPERTYTYPE_ANY {
            return Err(unknown(id));
        }
        // SAFETY: the caller's pointer to a VixPropertyType.
        unsafe { put(out, kind) }
    })
}
