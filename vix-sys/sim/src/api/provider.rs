//! Functions without an object of their own: handles, memory, error texts, and the hand-shake with
//! VMware's wrapper library.

use std::{
    collections::HashMap,
    ffi::{CStr, CString, c_char, c_int, c_void},
    sync::OnceLock,
};

use vix_sys::{ERRORS, VIX_HANDLETYPE_NONE, VIX_OK, VixError, VixHandle, VixHandleType, code};

use super::{handles, support::guarded};

const UNKNOWN_ERROR: &CStr = c"The operation failed with an error that is not known.";

/// The wrapper gives the prefix of the handles it wants to see.
#[unsafe(no_mangle)]
pub(super) extern "C" fn FoundryInitializeHandleDllID(prefix: i32) -> VixError {
    handles::set_prefix(prefix);
    VIX_OK
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn Vix_GetErrorText(
    error: VixError,
    _locale: *const c_char,
) -> *const c_char {
    static TEXTS: OnceLock<HashMap<VixError, CString>> = OnceLock::new();
    guarded(UNKNOWN_ERROR.as_ptr(), || {
        let texts = TEXTS.get_or_init(|| {
            let known = ERRORS.iter().map(|info| (info.code, info.meaning));
            std::iter::once((VIX_OK, "The operation was successful"))
                .chain(known)
                .filter_map(|(code, text)| Some((code, CString::new(format!("{text}.")).ok()?)))
                .collect()
        });
        texts
            .get(&code(error))
            .map_or(UNKNOWN_ERROR.as_ptr(), |text| text.as_ptr())
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn Vix_GetHandleType(handle: VixHandle) -> VixHandleType {
    guarded(VIX_HANDLETYPE_NONE, || handles::kind(handle))
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn Vix_AddRefHandle(handle: VixHandle) {
    guarded((), || handles::add_reference(handle));
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn Vix_ReleaseHandle(handle: VixHandle) {
    guarded((), || {
        handles::release(handle);
    });
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn Vix_FreeBuffer(buffer: *mut c_void) {
    // SAFETY: a buffer that this library, or another in this process, got from malloc; or null.
    unsafe { libc::free(buffer) }
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn Vix_PumpEvents(_host: VixHandle, _options: c_int) {
    // Events come from threads of the library.
}
