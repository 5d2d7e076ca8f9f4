//! Properties of handles: their types, their values, and the lists of pairs that ask for them.

use std::{
    collections::BTreeMap,
    ffi::{c_char, c_int},
    sync::Arc,
};

use vix_sys as v;
use vix_sys::{
    VIX_E_INVALID_ARG, VIX_E_PROPERTY_TYPE_MISMATCH, VIX_E_UNFINISHED_JOB,
    VIX_E_UNRECOGNIZED_PROPERTY, VIX_PROPERTYTYPE_BLOB, VIX_PROPERTYTYPE_BOOL,
    VIX_PROPERTYTYPE_INT64, VIX_PROPERTYTYPE_INTEGER, VIX_PROPERTYTYPE_STRING, VixError, VixHandle,
    VixPropertyId,
};

use super::{
    arguments::Arguments,
    handles,
    objects::{HostObject, Job, Object, PropertyList, SnapshotObject, Value, VmObject},
    support::{code_of, malloc_bytes, malloc_text, put, refuse_null, required_text},
};
use crate::core::{
    error::{Result, SimError},
    faults, snapshot,
    state::Power,
};

/// The version that `VIX_PROPERTY_HOST_API_VERSION` answers.
const API_VERSION: i32 = 13;

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
        Object::Properties(list) => list.values.get(&id).cloned().ok_or_else(|| unknown(id)),
    }
}

fn host_value(host: &HostObject, id: VixPropertyId) -> Result<Value> {
    match id {
        v::VIX_PROPERTY_HOST_HOSTTYPE => Ok(Value::Int(host.provider)),
        v::VIX_PROPERTY_HOST_API_VERSION => Ok(Value::Int(API_VERSION)),
        v::VIX_PROPERTY_HOST_SOFTWARE_VERSION => {
            Ok(Value::Text(host.host.product.version().to_owned()))
        }
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
        v::VIX_PROPERTY_VM_READ_ONLY
        | v::VIX_PROPERTY_VM_IN_VMTEAM
        | v::VIX_PROPERTY_VM_SSL_ERROR => Ok(Value::Bool(false)),
        // No folders are shared.
        v::VIX_PROPERTY_GUEST_SHAREDFOLDERS_SHARES_PATH => Ok(Value::Text(String::new())),
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
        v::VIX_PROPERTY_VM_SUPPORTED_FEATURES => {
            let takes_snapshots = vm.host.provides("VixVM_CreateSnapshot").is_ok();
            Ok(Value::Int(if guest.single_snapshot || !takes_snapshots {
                v::VIX_VM_SUPPORT_TOOLS_INSTALL
            } else {
                v::VIX_VM_SUPPORT_TOOLS_INSTALL | v::VIX_VM_SUPPORT_MULTIPLE_SNAPSHOTS
            }))
        }
        _ => Err(unknown(id)),
    }
}

fn snapshot_value(snapshot: &SnapshotObject, id: VixPropertyId) -> Result<Value> {
    let guest = &snapshot.vm.guest;
    faults::point(&format!("property:{id}"), &guest.vmx)?;
    let vmsd = guest.vmsd()?;
    let entry = vmsd
        .get(snapshot.uid)
        .ok_or_else(|| SimError::new(v::VIX_E_SNAPSHOT_NOTFOUND, "the snapshot exists no more"))?;
    match id {
        v::VIX_PROPERTY_SNAPSHOT_DISPLAYNAME => Ok(Value::Text(entry.name.clone())),
        v::VIX_PROPERTY_SNAPSHOT_DESCRIPTION => Ok(Value::Text(entry.description.clone())),
        v::VIX_PROPERTY_SNAPSHOT_POWERSTATE => {
            Ok(Value::Int(match snapshot::power(guest, entry) {
                Power::On => v::VIX_POWERSTATE_POWERED_ON,
                Power::Suspended => v::VIX_POWERSTATE_SUSPENDED,
                Power::Off => v::VIX_POWERSTATE_POWERED_OFF,
            }))
        }
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

/// Where the caller wants a value.
enum Place {
    At(usize),
    /// Of a blob: where its size goes, and where the pointer to its bytes.
    Blob(usize, usize),
}

/// Reads where the caller wants a value.
///
/// # Safety
/// The next argument is a pointer, of a blob the next two.
unsafe fn place_of(value: &Value, arguments: &mut Arguments) -> Result<Place> {
    // SAFETY: as the caller promises.
    let mut next = || {
        let pointer = unsafe { arguments.pointer::<u8>() };
        refuse_null(pointer).map(|()| pointer as usize)
    };
    match value {
        Value::Blob(_) => Ok(Place::Blob(next()?, next()?)),
        _ => next().map(Place::At),
    }
}

/// Writes a value into the caller's storage. A handle gets one more reference.
///
/// # Safety
/// The place is of storage of the property's type.
unsafe fn write(value: &Value, place: &Place) -> Result<()> {
    // SAFETY: as the caller promises.
    unsafe {
        match (value, place) {
            (Value::Int(value), Place::At(place)) => put(*place as *mut i32, *value),
            (Value::Text(text), Place::At(place)) => {
                put(*place as *mut *mut c_char, malloc_text(text)?)
            }
            (Value::Bool(value), Place::At(place)) => put(*place as *mut u8, u8::from(*value)),
            (Value::Handle(handle), Place::At(place)) => {
                handles::add_reference(*handle);
                put(*place as *mut VixHandle, *handle)
            }
            (Value::Int64(value), Place::At(place)) => put(*place as *mut i64, *value),
            (Value::Blob(bytes), Place::Blob(size, data)) => {
                put(*data as *mut *mut u8, malloc_bytes(bytes)?)?;
                put(*size as *mut c_int, bytes.len() as c_int)
            }
            (Value::Blob(_), Place::At(_)) | (_, Place::Blob(..)) => {
                Err(SimError::new(v::VIX_E_FAIL, "a place of another kind"))
            }
        }
    }
}

/// Answers pairs of id and address, ended by 0. Nothing is written unless all can be answered.
///
/// # Safety
/// The arguments are such pairs (of a blob the address is two).
pub(super) unsafe fn answer(
    object: &Object,
    first: VixPropertyId,
    arguments: &mut Arguments,
) -> Result<()> {
    let mut answers = Vec::new();
    let mut id = first;
    while id != v::VIX_PROPERTY_NONE {
        let value = value_of(object, id)?;
        // SAFETY: as the caller promises.
        let place = unsafe { place_of(&value, arguments)? };
        answers.push((value, place));
        // SAFETY: as the caller promises.
        id = unsafe { arguments.int() };
    }
    for (value, place) in &answers {
        // SAFETY: as the caller promises.
        unsafe { write(value, place)? };
    }
    Ok(())
}

/// Makes a property list of pairs of id and value, ended by 0; a blob is its size and its address.
///
/// # Safety
/// The arguments are such pairs; strings are NUL-terminated.
pub(super) unsafe fn collect(
    host: Option<Arc<HostObject>>,
    first: VixPropertyId,
    arguments: &mut Arguments,
) -> Result<VixHandle> {
    let mut values = BTreeMap::new();
    let mut id = first;
    while id != v::VIX_PROPERTY_NONE {
        let kind = v::property_type(id).ok_or_else(|| unknown(id))?;
        // SAFETY: as the caller promises.
        let value = unsafe {
            match kind {
                VIX_PROPERTYTYPE_INTEGER => Value::Int(arguments.int()),
                VIX_PROPERTYTYPE_STRING => Value::Text(required_text(arguments.pointer())?),
                VIX_PROPERTYTYPE_BOOL => Value::Bool(arguments.int() & 0xFF != 0),
                VIX_PROPERTYTYPE_INT64 => Value::Int64(arguments.int64()),
                VIX_PROPERTYTYPE_BLOB => {
                    let size = usize::try_from(arguments.int());
                    Value::Blob(bytes_at(size.ok(), arguments.pointer())?)
                }
                _ => {
                    return Err(SimError::new(
                        VIX_E_PROPERTY_TYPE_MISMATCH,
                        format!("property {id} cannot be in a list"),
                    ));
                }
            }
        };
        values.insert(id, value);
        // SAFETY: as the caller promises.
        id = unsafe { arguments.int() };
    }
    handles::insert(Object::Properties(Arc::new(PropertyList { host, values })))
}

/// Copies a blob of the caller.
///
/// # Safety
/// The pointer is null or to so many bytes.
unsafe fn bytes_at(size: Option<usize>, data: *const u8) -> Result<Vec<u8>> {
    match size {
        Some(0) => Ok(Vec::new()),
        // SAFETY: as the caller promises.
        Some(size) if !data.is_null() => {
            Ok(unsafe { std::slice::from_raw_parts(data, size) }.to_vec())
        }
        _ => Err(SimError::new(
            VIX_E_INVALID_ARG,
            "a blob has no bytes or a negative size",
        )),
    }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn Vix_GetPropertyType(
    handle: VixHandle,
    id: VixPropertyId,
    out: *mut c_int,
) -> VixError {
    code_of(|| {
        let object = handles::get(handle)?;
        let kind = v::property_type(id).ok_or_else(|| unknown(id))?;
        let fits = match &object {
            Object::Properties(list) => list.values.contains_key(&id),
            Object::Host(_) => (50..100).contains(&id),
            Object::Vm(_) => {
                (100..300).contains(&id) || id == v::VIX_PROPERTY_GUEST_SHAREDFOLDERS_SHARES_PATH
            }
            Object::Job(_) => (3000..3100).contains(&id),
            Object::Snapshot(snapshot) => {
                faults::point(&format!("property:{id}"), &snapshot.vm.guest.vmx)?;
                (4200..4300).contains(&id)
            }
        };
        if !fits {
            return Err(unknown(id));
        }
        // SAFETY: the caller's pointer to a VixPropertyType.
        unsafe { put(out, kind) }
    })
}
