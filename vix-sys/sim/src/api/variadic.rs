//! The functions with a variable number of arguments. `variadic.c` defines them, for stable Rust cannot;
//! their names stand here, as a library of Rust exports only Rust's functions: each jumps to C with all
//! arguments where they are. C calls back the bodies below.

use std::{arch::naked_asm, ffi::c_int};

use vix_sys::{VIX_E_BAD_VM_INDEX, VIX_OK, VixError, VixHandle, VixPropertyId};

use super::{
    arguments::{Arguments, Opaque},
    handles,
    objects::Object,
    properties,
    support::{code_of, put, refuse_null},
};
use crate::core::error::SimError;

#[unsafe(no_mangle)]
unsafe extern "C" fn vix_sim_get_properties(
    handle: VixHandle,
    first: VixPropertyId,
    more: *mut Opaque,
) -> VixError {
    code_of(|| {
        let object = handles::get(handle)?;
        // SAFETY: the arguments of the C call.
        unsafe { properties::answer(&object, first, &mut Arguments::new(more)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn vix_sim_wait(
    job: VixHandle,
    first: VixPropertyId,
    more: *mut Opaque,
) -> VixError {
    code_of(|| {
        let object = handles::job(job)?;
        match object.wait() {
            // SAFETY: the arguments of the C call.
            VIX_OK => unsafe {
                properties::answer(&Object::Job(object), first, &mut Arguments::new(more))
            },
            error => Err(SimError::new(error, "the job failed")),
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn vix_sim_get_nth_properties(
    job: VixHandle,
    index: c_int,
    _first: VixPropertyId,
    _more: *mut Opaque,
) -> VixError {
    code_of(|| {
        let job = handles::job(job)?;
        if let Some(host) = &job.host {
            host.provides("VixJob_GetNthProperties")?;
        }
        Err(SimError::new(
            VIX_E_BAD_VM_INDEX,
            format!("the job has no result number {index}"),
        ))
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn vix_sim_alloc_property_list(
    any: VixHandle,
    list: *mut VixHandle,
    first: VixPropertyId,
    more: *mut Opaque,
) -> VixError {
    code_of(|| {
        let host = handles::get(any)?.host().cloned();
        if let Some(host) = &host {
            host.provides("VixPropertyList_AllocPropertyList")?;
        }
        refuse_null(list)?;
        // SAFETY: the arguments of the C call.
        unsafe {
            let handle = properties::collect(host, first, &mut Arguments::new(more))?;
            put(list, handle)
        }
    })
}

/// Defines the exported name of a function of `variadic.c`.
macro_rules! exported {
    ($($name:ident => $in_c:ident;)*) => {
        unsafe extern "C" {
            $(fn $in_c();)*
        }
        $(
            /// # Safety
            /// As the function of the C API.
            #[unsafe(naked)]
            #[unsafe(no_mangle)]
            pub(super) unsafe extern "C" fn $name() {
                #[cfg(target_arch = "x86_64")]
                naked_asm!("jmp {}", sym $in_c);
                #[cfg(target_arch = "aarch64")]
                naked_asm!("b {}", sym $in_c);
            }
        )*
    };
}

exported! {
    Vix_GetProperties => vix_sim_c_get_properties;
    VixJob_Wait => vix_sim_c_wait;
    VixJob_GetNthProperties => vix_sim_c_get_nth_properties;
    VixPropertyList_AllocPropertyList => vix_sim_c_alloc_property_list;
    Vix_GetPropertiesVargs => vix_sim_c_get_properties_vargs;
    VixJob_WaitVargs => vix_sim_c_wait_vargs;
    VixJob_GetNthPropertiesVargs => vix_sim_c_get_nth_properties_vargs;
    VixPropertyList_AllocPropertyListVargs => vix_sim_c_alloc_property_list_vargs;
}
