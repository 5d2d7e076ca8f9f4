//! The functions with a variable number of arguments, in both forms.
//!
//! Stable Rust cannot define variadic functions. The direct names are functions with many
//! pointer-sized parameters instead: on the System V and AArch64 conventions of Linux an integer or
//! pointer arrives at the same place either way, and what lies beyond the terminating 0 is passed
//! over. The `…Vargs` names, which VMware's wrapper library calls, read a System V `va_list`.

use std::ffi::c_int;

use vix_sys::{
    VIX_E_ARGUMENT_TOO_BIG, VIX_E_BAD_VM_INDEX, VIX_OK, VixError, VixHandle, VixPropertyId,
};

use super::{
    arguments::Arguments,
    handles,
    objects::Object,
    properties,
    support::{code_of, put},
};
use crate::core::error::{Result, SimError};

impl Arguments for std::array::IntoIter<usize, DIRECT> {
    fn next(&mut self) -> Result<usize> {
        Iterator::next(self).ok_or_else(|| {
            SimError::new(
                VIX_E_ARGUMENT_TOO_BIG,
                format!("the simulator takes {} properties in one call", DIRECT / 2),
            )
        })
    }
}

/// Most variable arguments of a direct name.
const DIRECT: usize = 24;

/// A `va_list` of the System V AMD64 convention.
#[cfg(target_arch = "x86_64")]
#[repr(C)]
pub(super) struct VaList {
    gp_offset: u32,
    fp_offset: u32,
    overflow_arg_area: *const u64,
    reg_save_area: *const u8,
}

#[cfg(target_arch = "x86_64")]
impl Arguments for &mut VaList {
    fn next(&mut self) -> Result<usize> {
        // SAFETY: the caller's va_list; arguments are read in order up to the terminating 0.
        unsafe {
            if self.gp_offset <= 40 {
                let place = self.reg_save_area.add(self.gp_offset as usize);
                self.gp_offset += 8;
                Ok(place.cast::<u64>().read_unaligned() as usize)
            } else {
                let value = self.overflow_arg_area.read_unaligned();
                self.overflow_arg_area = self.overflow_arg_area.add(1);
                Ok(value as usize)
            }
        }
    }
}

fn get_properties(handle: VixHandle, first: VixPropertyId, more: &mut dyn Arguments) -> VixError {
    code_of(|| {
        let object = handles::get(handle)?;
        // SAFETY: the arguments of the C call.
        unsafe { properties::answer(&object, first, more) }
    })
}

fn wait(job: VixHandle, first: VixPropertyId, more: &mut dyn Arguments) -> VixError {
    code_of(|| {
        let object = handles::job(job)?;
        match object.wait() {
            // SAFETY: the arguments of the C call.
            VIX_OK => unsafe { properties::answer(&Object::Job(object), first, more) },
            error => Err(SimError::new(error, "the job failed")),
        }
    })
}

fn get_nth_properties(job: VixHandle, index: c_int) -> VixError {
    code_of(|| {
        handles::job(job)?;
        Err(SimError::new(
            VIX_E_BAD_VM_INDEX,
            format!("the job has no result number {index}"),
        ))
    })
}

fn alloc_property_list(
    list: *mut VixHandle,
    first: VixPropertyId,
    more: &mut dyn Arguments,
) -> VixError {
    // SAFETY: the arguments of the C call.
    code_of(|| unsafe {
        let handle = properties::collect(first, more)?;
        put(list, handle).inspect_err(|_| handles::release(handle))
    })
}

/// Defines a direct name with [`DIRECT`] variable arguments.
macro_rules! direct {
    (fn $name:ident($($fixed:ident: $type:ty),*) => $body:path) => {
        direct!(@define $name ($($fixed: $type),*) $body;
            a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 a11
            a12 a13 a14 a15 a16 a17 a18 a19 a20 a21 a22 a23);
    };
    (@define $name:ident ($($fixed:ident: $type:ty),*) $body:path; $($more:ident)*) => {
        #[unsafe(no_mangle)]
        #[allow(clippy::too_many_arguments)]
        pub(super) unsafe extern "C" fn $name($($fixed: $type,)* $($more: usize),*) -> VixError {
            $body($($fixed,)* &mut [$($more),*].into_iter())
        }
    };
}

fn nth_direct(
    job: VixHandle,
    index: c_int,
    _first: VixPropertyId,
    _more: &mut dyn Arguments,
) -> VixError {
    get_nth_properties(job, index)
}

fn alloc_direct(
    _any: VixHandle,
    list: *mut VixHandle,
    first: VixPropertyId,
    more: &mut dyn Arguments,
) -> VixError {
    alloc_property_list(list, first, more)
}

direct!(fn Vix_GetProperties(handle: VixHandle, first: VixPropertyId) => get_properties);
direct!(fn VixJob_Wait(job: VixHandle, first: VixPropertyId) => wait);
direct!(fn VixJob_GetNthProperties(job: VixHandle, index: c_int, first: VixPropertyId) => nth_direct);
direct!(fn VixPropertyList_AllocPropertyList(any: VixHandle, list: *mut VixHandle, first: VixPropertyId) => alloc_direct);

/// The provider form.
#[cfg(target_arch = "x86_64")]
mod vargs {
    use super::*;

    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn Vix_GetPropertiesVargs(
        handle: VixHandle,
        first: VixPropertyId,
        mut more: &mut VaList,
    ) -> VixError {
        get_properties(handle, first, &mut more)
    }

    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn VixJob_WaitVargs(
        job: VixHandle,
        first: VixPropertyId,
        mut more: &mut VaList,
    ) -> VixError {
        wait(job, first, &mut more)
    }

    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn VixJob_GetNthPropertiesVargs(
        job: VixHandle,
        index: c_int,
        _first: VixPropertyId,
        _more: &mut VaList,
    ) -> VixError {
        get_nth_properties(job, index)
    }

    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn VixPropertyList_AllocPropertyListVargs(
        _any: VixHandle,
        list: *mut VixHandle,
        first: VixPropertyId,
        mut more: &mut VaList,
    ) -> VixError {
        alloc_property_list(list, first, &mut more)
    }
}
