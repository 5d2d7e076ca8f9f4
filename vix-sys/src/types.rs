//! The C types of the API. All enumerations of the header are plain 32-bit integers in signatures.

use std::ffi::{c_int, c_void};

/// A reference to a library object; 0 is no object ([`crate::VIX_INVALID_HANDLE`]).
pub type VixHandle = i32;
/// Kind of a handle, `VIX_HANDLETYPE_…`.
pub type VixHandleType = c_int;
/// Result of a call: 0 is success. Of a failure the low 16 bits are the code ([`crate::code`]), the
/// higher ones may hold anything.
pub type VixError = u64;
/// Storage type of a property, `VIX_PROPERTYTYPE_…`.
pub type VixPropertyType = c_int;
/// Name of a property, `VIX_PROPERTY_…`.
pub type VixPropertyId = c_int;
/// Kind of an event, `VIX_EVENTTYPE_…`.
pub type VixEventType = c_int;
/// Kind of a product, `VIX_SERVICEPROVIDER_…`.
pub type VixServiceProvider = c_int;
/// Any of the option sets (`VixHostOptions`, `VixVMPowerOpOptions`, …).
pub type VixOptions = c_int;
/// What `VixHost_FindItems` looks for, `VIX_FIND_…`.
pub type VixFindItemType = c_int;
/// `Bool` of the header: one byte, 0 or 1.
pub type VixBool = u8;

/// Called by the library, on any of its threads: job, event, more information (a handle that belongs
/// to the library, or 0), and the client data given to the starting call. May be null.
pub type VixEventProc = Option<
    unsafe extern "C" fn(
        job: VixHandle,
        event: VixEventType,
        more_info: VixHandle,
        client_data: *mut c_void,
    ),
>;
