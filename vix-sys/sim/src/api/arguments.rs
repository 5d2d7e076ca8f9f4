//! The variable arguments of a call, as `variadic.c` walks them.

use std::ffi::{c_int, c_void};

/// A `va_list` of C.
#[repr(C)]
pub(super) struct Opaque {
    private: [u8; 0],
}

unsafe extern "C" {
    fn vix_sim_next_int(arguments: *mut Opaque) -> c_int;
    fn vix_sim_next_int64(arguments: *mut Opaque) -> i64;
    fn vix_sim_next_pointer(arguments: *mut Opaque) -> *mut c_void;
}

/// A variable number of arguments. Each is read once; what lies beyond the last one is not the caller's.
pub(super) struct Arguments(*mut Opaque);

impl Arguments {
    /// # Safety
    /// The `va_list` of a call that has not returned.
    pub(super) unsafe fn new(list: *mut Opaque) -> Self {
        Self(list)
    }

    /// # Safety
    /// There is a further argument, and it is an int (or shorter).
    pub(super) unsafe fn int(&mut self) -> c_int {
        // SAFETY: as the caller promises.
        unsafe { vix_sim_next_int(self.0) }
    }

    /// # Safety
    /// There is a further argument of 64 bits.
    pub(super) unsafe fn int64(&mut self) -> i64 {
        // SAFETY: as the caller promises.
        unsafe { vix_sim_next_int64(self.0) }
    }

    /// # Safety
    /// There is a further argument, and it is a pointer.
    pub(super) unsafe fn pointer<T>(&mut self) -> *mut T {
        // SAFETY: as the caller promises.
        unsafe { vix_sim_next_pointer(self.0) }.cast()
    }
}
