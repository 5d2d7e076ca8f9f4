//! `VixVM_…`: power, Tools, and the functions that the simulator answers with "not supported".

use std::{
    ffi::{c_char, c_int, c_void},
    sync::Arc,
    time::Duration,
};

use vix_sys::{
    VIX_E_NOT_SUPPORTED, VIX_INVALID_HANDLE, VIX_VMPOWEROP_FROM_GUEST, VixBool, VixEventProc,
    VixHandle, VixOptions,
};

use super::{
    handles,
    job::{Callback, Context, Target, failed, start},
    objects::VmObject,
    support::guarded,
};
use crate::core::{
    error::{Result, SimError},
    power,
};

/// Starts a job on a guest.
pub(super) fn vm_job(
    function: &'static str,
    vm: VixHandle,
    callback: Callback,
    work: impl FnOnce(&Arc<VmObject>, &Context) -> Result<VixHandle> + Send + 'static,
) -> VixHandle {
    guarded(VIX_INVALID_HANDLE, || match handles::vm(vm) {
        Ok(vm) => {
            let target = Target {
                function,
                object: vm.guest.vmx.to_string_lossy().into_owned(),
                host: Some(vm.host.clone()),
            };
            start(callback, Ok(target), move |context| work(&vm, context))
        }
        Err(error) => failed(callback, error),
    })
}

fn done(result: Result<()>) -> Result<VixHandle> {
    result.map(|()| VIX_INVALID_HANDLE)
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn VixVM_PowerOn(
    vm: VixHandle,
    _options: VixOptions,
    _property_list: VixHandle,
    callback: VixEventProc,
    client_data: *mut c_void,
) -> VixHandle {
    let callback = Callback::new(callback, client_data);
    vm_job("VixVM_PowerOn", vm, callback, |vm, _| {
        done(power::on(&vm.guest))
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn VixVM_PowerOff(
    vm: VixHandle,
    options: VixOptions,
    callback: VixEventProc,
    client_data: *mut c_void,
) -> VixHandle {
    let callback = Callback::new(callback, client_data);
    let soft = options & VIX_VMPOWEROP_FROM_GUEST != 0;
    vm_job("VixVM_PowerOff", vm, callback, move |vm, context| {
        done(power::off(&vm.guest, soft, &|| context.abandoned()))
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn VixVM_Reset(
    vm: VixHandle,
    _options: VixOptions,
    callback: VixEventProc,
    client_data: *mut c_void,
) -> VixHandle {
    let callback = Callback::new(callback, client_data);
    vm_job("VixVM_Reset", vm, callback, |vm, _| {
        done(power::reset(&vm.guest))
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn VixVM_Suspend(
    vm: VixHandle,
    _options: VixOptions,
    callback: VixEventProc,
    client_data: *mut c_void,
) -> VixHandle {
    let callback = Callback::new(callback, client_data);
    vm_job("VixVM_Suspend", vm, callback, |vm, _| {
        done(power::suspend(&vm.guest))
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn VixVM_WaitForToolsInGuest(
    vm: VixHandle,
    timeout_secs: c_int,
    callback: VixEventProc,
    client_data: *mut c_void,
) -> VixHandle {
    let callback = Callback::new(callback, client_data);
    let timeout = u64::try_from(timeout_secs)
        .ok()
        .filter(|secs| *secs > 0)
        .map(Duration::from_secs);
    vm_job(
        "VixVM_WaitForToolsInGuest",
        vm,
        callback,
        move |vm, context| {
            done(power::wait_for_tools(&vm.guest, timeout, &|| {
                context.abandoned()
            }))
        },
    )
}

/// Functions that exist, so that clients which look them up can load the library, and that answer
/// "not supported" as real products do for what they cannot.
macro_rules! unsupported {
    ($($name:ident(vm $(, $arg:ident: $type:ty)*);)*) => {
        $(
            #[unsafe(no_mangle)]
            #[allow(clippy::too_many_arguments)]
            pub(super) extern "C" fn $name(
                vm: VixHandle,
                $($arg: $type,)*
                callback: VixEventProc,
                client_data: *mut c_void,
            ) -> VixHandle {
                $(let _ = $arg;)*
                vm_job(stringify!($name), vm, Callback::new(callback, client_data), |_, _| {
                    Err(SimError::new(
                        VIX_E_NOT_SUPPORTED,
                        concat!(stringify!($name), " is not simulated"),
                    ))
                })
            }
        )*
    };
}

unsupported! {
    VixVM_Pause(vm, options: c_int, list: VixHandle);
    VixVM_Unpause(vm, options: c_int, list: VixHandle);
    VixVM_Delete(vm, options: VixOptions);
    VixVM_Clone(vm, snapshot: VixHandle, kind: c_int, path: *const c_char, options: c_int, list: VixHandle);
    VixVM_RevertToSnapshot(vm, snapshot: VixHandle, options: VixOptions, list: VixHandle);
    VixVM_LoginInGuest(vm, user: *const c_char, password: *const c_char, options: c_int);
    VixVM_LogoutFromGuest(vm);
    VixVM_RunProgramInGuest(vm, program: *const c_char, line: *const c_char, options: VixOptions, list: VixHandle);
    VixVM_RunScriptInGuest(vm, interpreter: *const c_char, script: *const c_char, options: VixOptions, list: VixHandle);
    VixVM_ListProcessesInGuest(vm, options: c_int);
    VixVM_KillProcessInGuest(vm, pid: u64, options: c_int);
    VixVM_OpenUrlInGuest(vm, url: *const c_char, window: c_int, list: VixHandle);
    VixVM_CopyFileFromHostToGuest(vm, from: *const c_char, to: *const c_char, options: c_int, list: VixHandle);
    VixVM_CopyFileFromGuestToHost(vm, from: *const c_char, to: *const c_char, options: c_int, list: VixHandle);
    VixVM_DeleteFileInGuest(vm, path: *const c_char);
    VixVM_FileExistsInGuest(vm, path: *const c_char);
    VixVM_RenameFileInGuest(vm, from: *const c_char, to: *const c_char, options: c_int, list: VixHandle);
    VixVM_CreateTempFileInGuest(vm, options: c_int, list: VixHandle);
    VixVM_GetFileInfoInGuest(vm, path: *const c_char);
    VixVM_ListDirectoryInGuest(vm, path: *const c_char, options: c_int);
    VixVM_CreateDirectoryInGuest(vm, path: *const c_char, list: VixHandle);
    VixVM_DeleteDirectoryInGuest(vm, path: *const c_char, options: c_int);
    VixVM_DirectoryExistsInGuest(vm, path: *const c_char);
    VixVM_ReadVariable(vm, kind: c_int, name: *const c_char, options: c_int);
    VixVM_WriteVariable(vm, kind: c_int, name: *const c_char, value: *const c_char, options: c_int);
    VixVM_EnableSharedFolders(vm, enabled: VixBool, options: c_int);
    VixVM_GetNumSharedFolders(vm);
    VixVM_GetSharedFolderState(vm, index: c_int);
    VixVM_SetSharedFolderState(vm, name: *const c_char, path: *const c_char, flags: VixOptions);
    VixVM_AddSharedFolder(vm, name: *const c_char, path: *const c_char, flags: VixOptions);
    VixVM_RemoveSharedFolder(vm, name: *const c_char, flags: c_int);
    VixVM_CaptureScreenImage(vm, kind: c_int, list: VixHandle);
    VixVM_BeginRecording(vm, name: *const c_char, description: *const c_char, options: c_int, list: VixHandle);
    VixVM_EndRecording(vm, options: c_int, list: VixHandle);
    VixVM_BeginReplay(vm, snapshot: VixHandle, options: c_int, list: VixHandle);
    VixVM_EndReplay(vm, options: c_int, list: VixHandle);
    VixVM_InstallTools(vm, options: c_int, line: *const c_char);
    VixVM_UpgradeVirtualHardware(vm, options: c_int);
}
