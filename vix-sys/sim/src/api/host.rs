//! `VixHost_…`: connections, inventory, opening guests.

use std::{
    env,
    ffi::{c_char, c_int, c_void},
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use parking_lot::Mutex;
use vix_sys::{
    VIX_E_CANNOT_CONNECT_TO_HOST, VIX_E_INVALID_ARG, VIX_E_NOT_SUPPORTED, VIX_FIND_REGISTERED_VMS,
    VIX_FIND_RUNNING_VMS, VIX_INVALID_HANDLE, VIX_SERVICEPROVIDER_VMWARE_VI_SERVER, VixEventProc,
    VixFindItemType, VixHandle, VixOptions, VixServiceProvider,
};

use super::{
    handles,
    job::{Callback, Context, Target, failed, start},
    objects::{HostObject, Object, VmObject},
    support::{guarded, required_text, text},
};
use crate::core::{
    error::{Result, SimError},
    faults::{self, When},
    guest::Guest,
    host::{Host, ROOT_VARIABLE},
    product::OPEN_VM,
    state::Power,
};

/// What the management service of Server 2.0 and ESXi puts before a datastore path.
const DATACENTER: &str = "ha-datacenter/";

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
pub(super) unsafe extern "C" fn VixHost_Connect(
    _api_version: c_int,
    provider: VixServiceProvider,
    host_name: *const c_char,
    _host_port: c_int,
    user_name: *const c_char,
    password: *const c_char,
    _options: VixOptions,
    _property_list: VixHandle,
    callback: VixEventProc,
    client_data: *mut c_void,
) -> VixHandle {
    guarded(VIX_INVALID_HANDLE, || {
        // SAFETY: the strings of the C call.
        let arguments = unsafe {
            text(host_name).and_then(|host| Ok((host, text(user_name)?, text(password)?)))
        };
        let callback = Callback::new(callback, client_data);
        let (host, user, password) = match arguments {
            Ok(arguments) => arguments,
            Err(error) => return failed(callback, error),
        };
        let target = Target {
            function: "VixHost_Connect",
            object: host.clone().unwrap_or_default(),
            host: None,
        };
        // What VMware's wrapper library does where it finds no provider, or cannot load it.
        if let Err(error) = faults::apply("wrapper:VixHost_Connect", &target.object, When::Before) {
            return handles::error_job(error.code);
        }
        start(callback, Ok(target), move |_| {
            connect(
                provider,
                host.as_deref(),
                user.as_deref(),
                password.as_deref(),
            )
        })
    })
}

fn connect(
    provider: VixServiceProvider,
    host_name: Option<&str>,
    user: Option<&str>,
    password: Option<&str>,
) -> Result<VixHandle> {
    let root = env::var_os(ROOT_VARIABLE)
        .map(PathBuf::from)
        .ok_or_else(|| {
            SimError::new(
                VIX_E_CANNOT_CONNECT_TO_HOST,
                format!("{ROOT_VARIABLE} names no directory of simulated hosts"),
            )
        })?;
    let host = Host::find(&root, host_name)?;
    host.admit(provider, user, password)?;
    let connection = host.open_connection()?;
    handles::insert(Object::Host(Arc::new(HostObject {
        provider: host.product.provider(provider),
        host,
        closed: AtomicBool::new(false),
        connection: Mutex::new(Some(connection)),
    })))
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn VixHost_Disconnect(host: VixHandle) {
    guarded((), || handles::disconnect(host));
}

/// Starts a job on a host.
fn host_job(
    function: &'static str,
    host: VixHandle,
    callback: Callback,
    work: impl FnOnce(&Arc<HostObject>, &Context) -> Result<VixHandle> + Send + 'static,
) -> VixHandle {
    guarded(VIX_INVALID_HANDLE, || match handles::host(host) {
        Ok(host) => {
            let target = Target {
                function,
                object: host.host.name.clone(),
                host: Some(host.clone()),
            };
            start(callback, Ok(target), move |context| work(&host, context))
        }
        Err(error) => failed(callback, error),
    })
}

/// Starts a job on a host with a path of a guest.
///
/// # Safety
/// The path is null or NUL-terminated.
unsafe fn path_job(
    function: &'static str,
    host: VixHandle,
    path: *const c_char,
    callback: Callback,
    work: impl FnOnce(&Arc<HostObject>, String) -> Result<VixHandle> + Send + 'static,
) -> VixHandle {
    // SAFETY: as the caller promises.
    let path = guarded(Err(SimError::new(VIX_E_INVALID_ARG, "")), || unsafe {
        required_text(path)
    });
    let target = path.and_then(|path| {
        let host = handles::host(host)?;
        let object = format!("{} {path}", host.host.name);
        Ok((
            Target {
                function,
                object,
                host: Some(host.clone()),
            },
            host,
            path,
        ))
    });
    guarded(VIX_INVALID_HANDLE, || match target {
        Ok((target, host, path)) => start(callback, Ok(target), move |_| work(&host, path)),
        Err(error) => failed(callback, error),
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn VixHost_FindItems(
    host: VixHandle,
    what: VixFindItemType,
    _criteria: VixHandle,
    _timeout: i32,
    callback: VixEventProc,
    client_data: *mut c_void,
) -> VixHandle {
    let callback = Callback::new(callback, client_data);
    host_job("VixHost_FindItems", host, callback, move |host, context| {
        let running = match what {
            VIX_FIND_RUNNING_VMS => true,
            VIX_FIND_REGISTERED_VMS if host.host.product.has_inventory() => false,
            _ => {
                return Err(SimError::new(
                    VIX_E_NOT_SUPPORTED,
                    format!("{} cannot find items of kind {what}", host.host.name),
                ));
            }
        };
        for vmx in host.host.guests()? {
            if running && Guest::new(vmx.clone(), false).state()?.power != Power::On {
                continue;
            }
            // The API has no name for a guest outside all datastores.
            let Ok(path) = host.host.api_path(&vmx) else {
                continue;
            };
            let prefix = if host.provider == VIX_SERVICEPROVIDER_VMWARE_VI_SERVER {
                DATACENTER
            } else {
                ""
            };
            context.found(format!("{prefix}{path}"))?;
        }
        Ok(VIX_INVALID_HANDLE)
    })
}

fn open(host: &Arc<HostObject>, path: String) -> Result<VixHandle> {
    handles::insert_vm(VmObject {
        guest: host.host.open_guest(&path)?,
        host: host.clone(),
        path,
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn VixHost_OpenVM(
    host: VixHandle,
    path: *const c_char,
    options: VixOptions,
    property_list: VixHandle,
    callback: VixEventProc,
    client_data: *mut c_void,
) -> VixHandle {
    let callback = Callback::new(callback, client_data);
    let is_plain = options == 0 && property_list == VIX_INVALID_HANDLE;
    // SAFETY: the string of the C call.
    unsafe {
        path_job("VixVM_Open", host, path, callback, move |host, path| {
            if !is_plain {
                host.provides(OPEN_VM)?;
            }
            if property_list != VIX_INVALID_HANDLE {
                handles::properties(property_list)?;
            }
            open(host, path)
        })
    }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn VixVM_Open(
    host: VixHandle,
    path: *const c_char,
    callback: VixEventProc,
    client_data: *mut c_void,
) -> VixHandle {
    let callback = Callback::new(callback, client_data);
    // SAFETY: the string of the C call.
    unsafe { path_job("VixVM_Open", host, path, callback, open) }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn VixHost_RegisterVM(
    host: VixHandle,
    path: *const c_char,
    callback: VixEventProc,
    client_data: *mut c_void,
) -> VixHandle {
    let callback = Callback::new(callback, client_data);
    // SAFETY: the string of the C call.
    unsafe {
        path_job("VixHost_RegisterVM", host, path, callback, |host, path| {
            host.host.register(&path).map(|()| VIX_INVALID_HANDLE)
        })
    }
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn VixHost_UnregisterVM(
    host: VixHandle,
    path: *const c_char,
    callback: VixEventProc,
    client_data: *mut c_void,
) -> VixHandle {
    let callback = Callback::new(callback, client_data);
    // SAFETY: the string of the C call.
    unsafe {
        path_job(
            "VixHost_UnregisterVM",
            host,
            path,
            callback,
            |host, path| host.host.unregister(&path).map(|()| VIX_INVALID_HANDLE),
        )
    }
}
