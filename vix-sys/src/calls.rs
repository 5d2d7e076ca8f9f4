//! One memory-safe method per C function that Virtuozo calls: typed arguments, results by value.
//!
//! Handles are plain numbers that the library checks itself (1000 for a dead one). The one exception,
//! the wrapper's crash on any handle before its first Connect, is guarded here.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr::{null, null_mut},
    sync::atomic::Ordering,
};

use crate::{
    FoundItems, VIX_API_VERSION, VIX_E_INVALID_HANDLE, VIX_INVALID_HANDLE, VIX_OK,
    VIX_PROPERTY_JOB_RESULT_HANDLE, VIX_PROPERTY_NONE, VIX_PROPERTYTYPE_ANY, VIX_PROPERTYTYPE_BOOL,
    VIX_PROPERTYTYPE_HANDLE, VIX_PROPERTYTYPE_INT64, VIX_PROPERTYTYPE_INTEGER,
    VIX_PROPERTYTYPE_STRING, Vix, VixError, VixFindItemType, VixHandle, VixHandleType, VixOptions,
    VixPropertyId, VixPropertyType, VixServiceProvider, items,
};

/// Arguments of `VixHost_Connect`; what is `None` is passed as null.
#[derive(Clone, Copy)]
pub struct ConnectArgs<'a> {
    /// Kind of product.
    pub provider: VixServiceProvider,
    /// `https://host:port/sdk`, or none for this machine.
    pub host_name: Option<&'a CStr>,
    /// Only for providers that do not take it in the URL; else 0.
    pub host_port: c_int,
    /// User name.
    pub user_name: Option<&'a CStr>,
    /// Password; the library copies it.
    pub password: Option<&'a CStr>,
    /// `VIX_HOSTOPTION_…`.
    pub options: VixOptions,
}

fn pointer(text: Option<&CStr>) -> *const c_char {
    text.map_or(null(), CStr::as_ptr)
}

/// All asynchronous methods start a job and return its handle, which may be 0 and must be released;
/// none waits. Errors are whole [`VixError`]s: take the code with [`crate::code`].
impl Vix {
    /// Whether `handle` may be passed on: the wrapper crashes on ordinary handles before its first
    /// Connect.
    fn usable(&self, handle: VixHandle) -> bool {
        handle == VIX_INVALID_HANDLE || self.connected.load(Ordering::Acquire)
    }

    fn sync(&self, handle: VixHandle, call: impl FnOnce() -> VixError) -> VixError {
        if self.usable(handle) {
            call()
        } else {
            VIX_E_INVALID_HANDLE
        }
    }

    fn start(&self, handle: VixHandle, call: impl FnOnce() -> VixHandle) -> VixHandle {
        if self.usable(handle) {
            call()
        } else {
            VIX_INVALID_HANDLE
        }
    }

    fn out<T>(
        &self,
        handle: VixHandle,
        mut value: T,
        call: impl FnOnce(&mut T) -> VixError,
    ) -> Result<T, VixError> {
        match self.sync(handle, || call(&mut value)) {
            VIX_OK => Ok(value),
            error => Err(error),
        }
    }

    /// The library's English sentence for an error.
    pub fn error_text(&self, error: VixError) -> String {
        // SAFETY: the locale must be null; the answer is a static string, or null in odd libraries.
        unsafe {
            let text = (self.Vix_GetErrorText)(error, null());
            if text.is_null() {
                return String::new();
            }
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }

    /// Kind of a handle; 0 for a dead one.
    pub fn handle_type(&self, handle: VixHandle) -> VixHandleType {
        if !self.usable(handle) {
            return crate::VIX_HANDLETYPE_NONE;
        }
        // SAFETY: any number may be asked about.
        unsafe { (self.Vix_GetHandleType)(handle) }
    }

    /// Gives back one reference.
    pub fn release(&self, handle: VixHandle) {
        if handle != VIX_INVALID_HANDLE && self.usable(handle) {
            // SAFETY: the library ignores dead handles.
            unsafe { (self.Vix_ReleaseHandle)(handle) }
        }
    }

    /// Starts connecting to a host; the job's handle result is the host.
    pub fn connect(&self, args: &ConnectArgs<'_>) -> VixHandle {
        // SAFETY: the strings live during the call, which copies them.
        let job = unsafe {
            (self.VixHost_Connect)(
                VIX_API_VERSION,
                args.provider,
                pointer(args.host_name),
                args.host_port,
                pointer(args.user_name),
                pointer(args.password),
                args.options,
                VIX_INVALID_HANDLE,
                None,
                null_mut(),
            )
        };
        self.connected.store(true, Ordering::Release);
        job
    }

    /// Ends a connection and destroys everything obtained through it; no release afterwards.
    pub fn disconnect(&self, host: VixHandle) {
        if host != VIX_INVALID_HANDLE && self.usable(host) {
            // SAFETY: the library ignores dead handles.
            unsafe { (self.VixHost_Disconnect)(host) }
        }
    }

    /// Starts a search; the items arrive in the second value while the job runs.
    pub fn find_items(
        &'static self,
        host: VixHandle,
        what: VixFindItemType,
    ) -> (VixHandle, FoundItems) {
        let items = FoundItems::new(self);
        let job = self.start(host, || {
            // SAFETY: the callback is a function of this crate and takes any client data.
            unsafe {
                (self.VixHost_FindItems)(
                    host,
                    what,
                    VIX_INVALID_HANDLE,
                    -1,
                    Some(items::on_event),
                    items.client_data(),
                )
            }
        });
        (job, items)
    }

    /// Starts opening a guest by its path as the provider wants it; the job's handle result is the
    /// guest.
    pub fn open_vm(&self, host: VixHandle, vmx_path: &CStr) -> VixHandle {
        // VixVM_Open is in every library, and the wrapper routes it to VixHost_OpenVM where it can.
        // SAFETY: the string lives during the call, which copies it.
        self.start(host, || unsafe {
            (self.VixVM_Open)(host, vmx_path.as_ptr(), None, null_mut())
        })
    }

    /// Starts adding a guest to the host's inventory.
    pub fn register_vm(&self, host: VixHandle, vmx_path: &CStr) -> VixHandle {
        // SAFETY: as above.
        self.start(host, || unsafe {
            (self.VixHost_RegisterVM)(host, vmx_path.as_ptr(), None, null_mut())
        })
    }

    /// Starts taking a guest out of the host's inventory.
    pub fn unregister_vm(&self, host: VixHandle, vmx_path: &CStr) -> VixHandle {
        // SAFETY: as above.
        self.start(host, || unsafe {
            (self.VixHost_UnregisterVM)(host, vmx_path.as_ptr(), None, null_mut())
        })
    }

    /// Starts powering a guest on, or resuming it; done when it begins to boot.
    pub fn power_on(&self, vm: VixHandle, options: VixOptions) -> VixHandle {
        // SAFETY: only numbers are passed.
        self.start(vm, || unsafe {
            (self.VixVM_PowerOn)(vm, options, VIX_INVALID_HANDLE, None, null_mut())
        })
    }

    /// Starts powering a guest off.
    pub fn power_off(&self, vm: VixHandle, options: VixOptions) -> VixHandle {
        // SAFETY: only numbers are passed.
        self.start(vm, || unsafe {
            (self.VixVM_PowerOff)(vm, options, None, null_mut())
        })
    }

    /// Starts suspending a guest.
    pub fn suspend(&self, vm: VixHandle) -> VixHandle {
        // SAFETY: only numbers are passed.
        self.start(vm, || unsafe {
            (self.VixVM_Suspend)(vm, 0, None, null_mut())
        })
    }

    /// Starts waiting for Tools; `timeout_secs` of 0 or less waits forever.
    pub fn wait_for_tools(&self, vm: VixHandle, timeout_secs: c_int) -> VixHandle {
        // SAFETY: only numbers are passed.
        self.start(vm, || unsafe {
            (self.VixVM_WaitForToolsInGuest)(vm, timeout_secs, None, null_mut())
        })
    }

    /// Starts taking a snapshot; the job's handle result is the snapshot.
    pub fn create_snapshot(
        &self,
        vm: VixHandle,
        name: &CStr,
        description: &CStr,
        options: VixOptions,
    ) -> VixHandle {
        // SAFETY: the strings live during the call, which copies them.
        self.start(vm, || unsafe {
            (self.VixVM_CreateSnapshot)(
                vm,
                name.as_ptr(),
                description.as_ptr(),
                options,
                VIX_INVALID_HANDLE,
                None,
                null_mut(),
            )
        })
    }

    /// Starts removing a snapshot; done when its disks are merged.
    pub fn remove_snapshot(
        &self,
        vm: VixHandle,
        snapshot: VixHandle,
        options: VixOptions,
    ) -> VixHandle {
        // SAFETY: only numbers are passed.
        self.start(vm, || unsafe {
            (self.VixVM_RemoveSnapshot)(vm, snapshot, options, None, null_mut())
        })
    }

    /// Number of snapshots without a parent.
    pub fn root_snapshot_count(&self, vm: VixHandle) -> Result<c_int, VixError> {
        // SAFETY: the pointer is to a local of the right type; so in all that follow.
        self.out(vm, 0, |count| unsafe {
            (self.VixVM_GetNumRootSnapshots)(vm, count)
        })
    }

    /// Snapshot without a parent number `index`, to be released.
    pub fn root_snapshot(&self, vm: VixHandle, index: c_int) -> Result<VixHandle, VixError> {
        self.out(vm, 0, |handle| unsafe {
            (self.VixVM_GetRootSnapshot)(vm, index, handle)
        })
    }

    /// The snapshot the guest runs on top of, to be released.
    pub fn current_snapshot(&self, vm: VixHandle) -> Result<VixHandle, VixError> {
        self.out(vm, 0, |handle| unsafe {
            (self.VixVM_GetCurrentSnapshot)(vm, handle)
        })
    }

    /// The snapshot of a name or path `a/b/c`, to be released.
    pub fn named_snapshot(&self, vm: VixHandle, name: &CStr) -> Result<VixHandle, VixError> {
        self.out(vm, 0, |handle| unsafe {
            (self.VixVM_GetNamedSnapshot)(vm, name.as_ptr(), handle)
        })
    }

    /// Number of children of a snapshot.
    pub fn child_count(&self, snapshot: VixHandle) -> Result<c_int, VixError> {
        self.out(snapshot, 0, |count| unsafe {
            (self.VixSnapshot_GetNumChildren)(snapshot, count)
        })
    }

    /// Child number `index` of a snapshot, to be released.
    pub fn child(&self, snapshot: VixHandle, index: c_int) -> Result<VixHandle, VixError> {
        self.out(snapshot, 0, |handle| unsafe {
            (self.VixSnapshot_GetChild)(snapshot, index, handle)
        })
    }

    /// Parent of a snapshot, to be released; 0 for one without.
    pub fn parent(&self, snapshot: VixHandle) -> Result<VixHandle, VixError> {
        self.out(snapshot, 0, |handle| unsafe {
            (self.VixSnapshot_GetParent)(snapshot, handle)
        })
    }

    /// Blocks until a job has ended; its error.
    pub fn wait(&self, job: VixHandle) -> VixError {
        // SAFETY: the list of properties is empty; so in the next.
        self.sync(job, || unsafe {
            (self.VixJob_Wait)(job, VIX_PROPERTY_NONE)
        })
    }

    /// Whether a job has ended. An error may be the job's own: a loop that polls must stop on any.
    pub fn is_complete(&self, job: VixHandle) -> Result<bool, VixError> {
        self.out(job, 0, |complete| unsafe {
            (self.VixJob_CheckCompletion)(job, complete)
        })
        .map(|complete| complete != 0)
    }

    /// The error of a job that has ended; 29 for one that has not.
    pub fn job_error(&self, job: VixHandle) -> VixError {
        // SAFETY: any number may be passed.
        self.sync(job, || unsafe { (self.VixJob_GetError)(job) })
    }

    /// The handle a completed job made, to be released (a host: to be disconnected). May be 0 in
    /// spite of success: a library that could not load its provider answers so.
    pub fn job_handle(&self, job: VixHandle) -> Result<VixHandle, VixError> {
        self.handle_property(job, VIX_PROPERTY_JOB_RESULT_HANDLE)
    }

    /// A property of type int.
    pub fn int_property(&self, handle: VixHandle, id: VixPropertyId) -> Result<c_int, VixError> {
        self.property(handle, id, VIX_PROPERTYTYPE_INTEGER, 0)
    }

    /// A property of type int64.
    pub fn int64_property(&self, handle: VixHandle, id: VixPropertyId) -> Result<i64, VixError> {
        self.property(handle, id, VIX_PROPERTYTYPE_INT64, 0)
    }

    /// A property of type handle, to be released.
    pub fn handle_property(
        &self,
        handle: VixHandle,
        id: VixPropertyId,
    ) -> Result<VixHandle, VixError> {
        self.property(handle, id, VIX_PROPERTYTYPE_HANDLE, VIX_INVALID_HANDLE)
    }

    /// A property of type bool.
    pub fn bool_property(&self, handle: VixHandle, id: VixPropertyId) -> Result<bool, VixError> {
        // One byte is written, but libraries that write four have been met.
        self.property(handle, id, VIX_PROPERTYTYPE_BOOL, 0_u32)
            .map(|value| value & 0xFF != 0)
    }

    /// A property of type string; bytes that are not UTF-8 are replaced.
    pub fn string_property(
        &self,
        handle: VixHandle,
        id: VixPropertyId,
    ) -> Result<String, VixError> {
        let text: *mut c_char = self.property(handle, id, VIX_PROPERTYTYPE_STRING, null_mut())?;
        if text.is_null() {
            return Ok(String::new());
        }
        // SAFETY: a string of the library, ours to free.
        unsafe {
            let owned = CStr::from_ptr(text).to_string_lossy().into_owned();
            (self.Vix_FreeBuffer)(text.cast::<c_void>());
            Ok(owned)
        }
    }

    /// Reads one property after asking for its type, so that the storage always fits: a wrong id
    /// must not write 8 bytes over 4.
    fn property<T>(
        &self,
        handle: VixHandle,
        id: VixPropertyId,
        wanted: VixPropertyType,
        empty: T,
    ) -> Result<T, VixError> {
        let found = self.out(handle, 0, |kind| unsafe {
            (self.Vix_GetPropertyType)(handle, id, kind)
        })?;
        if found == VIX_PROPERTYTYPE_ANY {
            // Success without a type: of its own job for a provider that it could not load, the wrapper tells nothing.
            return Ok(empty);
        }
        if found != wanted {
            return Err(crate::VIX_E_PROPERTY_TYPE_MISMATCH);
        }
        self.out(handle, empty, |value| unsafe {
            (self.Vix_GetProperties)(handle, id, std::ptr::from_mut(value), VIX_PROPERTY_NONE)
        })
    }
}
