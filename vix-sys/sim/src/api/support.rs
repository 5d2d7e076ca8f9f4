//! The border to C: strings, memory, and no panic across it.

use std::{
    ffi::{CStr, c_char},
    panic::{AssertUnwindSafe, catch_unwind},
};

use vix_sys::{
    VIX_E_FAIL, VIX_E_INVALID_ARG, VIX_E_INVALID_UTF8_STRING, VIX_E_OUT_OF_MEMORY, VIX_OK, VixError,
};

use crate::core::error::{Result, SimError};

/// Runs the body of a C function; a panic inside becomes `fallback`.
pub(super) fn guarded<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(fallback)
}

/// As [`guarded`], for bodies with a result.
pub(super) fn code_of(body: impl FnOnce() -> Result<()>) -> VixError {
    guarded(VIX_E_FAIL, || match body() {
        Ok(()) => VIX_OK,
        Err(error) => error.code,
    })
}

/// Copies a string of the caller; none for null.
///
/// # Safety
/// The pointer is null or to a NUL-terminated string.
pub(super) unsafe fn text(pointer: *const c_char) -> Result<Option<String>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str()
        .map(|text| Some(text.to_owned()))
        .map_err(|_| SimError::new(VIX_E_INVALID_UTF8_STRING, "a string argument is not UTF-8"))
}

/// As [`text`], where null is not allowed.
///
/// # Safety
/// As [`text`].
pub(super) unsafe fn required_text(pointer: *const c_char) -> Result<String> {
    // SAFETY: as the caller promises.
    unsafe { text(pointer) }?
        .ok_or_else(|| SimError::new(VIX_E_INVALID_ARG, "a string argument is null"))
}

/// A copy of a text in memory of the process's malloc, which `Vix_FreeBuffer` of any library frees.
pub(super) fn malloc_text(text: &str) -> Result<*mut c_char> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    malloc_bytes(&bytes).map(<*mut u8>::cast)
}

/// A copy of bytes in such memory.
pub(super) fn malloc_bytes(bytes: &[u8]) -> Result<*mut u8> {
    // SAFETY: the memory has room for the bytes; malloc(0) may answer null.
    unsafe {
        let memory = libc::malloc(bytes.len().max(1)).cast::<u8>();
        if memory.is_null() {
            return Err(SimError::new(VIX_E_OUT_OF_MEMORY, "out of memory"));
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory, bytes.len());
        Ok(memory)
    }
}

/// Refuses a null pointer for a result, before anything is made for it.
pub(super) fn refuse_null<T>(pointer: *const T) -> Result<()> {
    if pointer.is_null() {
        return Err(SimError::new(VIX_E_INVALID_ARG, "a result pointer is null"));
    }
    Ok(())
}

/// Writes a value through a pointer of the caller.
///
/// # Safety
/// The pointer is null or to storage of a `T`.
pub(super) unsafe fn put<T>(pointer: *mut T, value: T) -> Result<()> {
    refuse_null(pointer)?;
    // SAFETY: as the caller promises; it may not be aligned for a T.
    unsafe { pointer.write_unaligned(value) };
    Ok(())
}
