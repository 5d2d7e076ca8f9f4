//! Finds the C functions in a VIX library and keeps the library loaded.

use std::{
    ffi::{c_char, c_int, c_void},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::{
    VixBool, VixError, VixEventProc, VixFindItemType, VixHandle, VixHandleType, VixOptions,
    VixPropertyId, VixPropertyType, VixServiceProvider,
};

/// A VIX library could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The system could not load the file: it is missing, or needs something that is.
    #[error("cannot load the VIX library {}: {reason}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The loader's answer.
        reason: String,
    },
    /// The file is a library, but not one with the VIX API.
    #[error(
        "{} is not a VIX library that can be used: it lacks {}",
        path.display(),
        symbols.join(", ")
    )]
    MissingSymbols {
        /// The file.
        path: PathBuf,
        /// All functions it lacks.
        symbols: Vec<&'static str>,
    },
}

/// What the system's loader says of a file, without its path; the error itself says only that it failed.
fn reason(error: &libloading::Error, path: &Path) -> String {
    let Some(source) = std::error::Error::source(error) else {
        return error.to_string();
    };
    let said = source.to_string();
    let path = format!("{}: ", path.display());
    said.strip_prefix(&path).unwrap_or(&said).to_owned()
}

type Text = *const c_char;
type Data = *mut c_void;

macro_rules! api {
    (
        required { $($name:ident: fn($($arg:tt)*) $(-> $ret:ty)?;)* }
        optional { $($opt_name:ident: fn($($opt_arg:tt)*) $(-> $opt_ret:ty)?;)* }
    ) => {
        /// A loaded VIX library and its C functions under their C names.
        ///
        /// Functions that old libraries lack (VIX 1.6 came with VMware Server 2.0) are optional.
        /// The library stays loaded as long as the value lives. A library that has run threads of its
        /// own must never be unloaded: keep the value for the life of the process.
        #[allow(non_snake_case)]
        pub struct Vix {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                pub $name: unsafe extern "C" fn($($arg)*) $(-> $ret)?,
            )*
            $(
                #[doc = concat!("`", stringify!($opt_name), "`, where the library has it")]
                pub $opt_name: Option<unsafe extern "C" fn($($opt_arg)*) $(-> $opt_ret)?>,
            )*
            /// The wrapper crashes on handles before its first Connect; see `calls.rs`.
            pub(crate) connected: AtomicBool,
            _library: Library,
        }

        impl Vix {
            /// Loads the library at `path` and looks up its functions.
            ///
            /// The file must be a real VIX library: its initialisers run inside this process, and
            /// its functions are trusted to have the signatures of the API.
            ///
            /// # Errors
            /// [`LoadError`]: the file cannot be loaded, or functions are missing (all are named).
            #[allow(non_snake_case)]
            pub fn load(path: impl AsRef<Path>) -> Result<Self, LoadError> {
                let path = path.as_ref();
                // SAFETY: what the initialisers of the library do is the caller's choice of file.
                let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
                    .map_err(|error| LoadError::Open {
                        path: path.to_owned(),
                        reason: reason(&error, path),
                    })?;
                let mut missing = Vec::new();
                $(
                    // SAFETY: the type is the signature of this function in the API's header.
                    let $name = unsafe {
                        library.get::<unsafe extern "C" fn($($arg)*) $(-> $ret)?>(
                            stringify!($name).as_bytes(),
                        )
                    };
                    if $name.is_err() {
                        missing.push(stringify!($name));
                    }
                )*
                $(
                    // SAFETY: as above.
                    let $opt_name = unsafe {
                        library.get::<unsafe extern "C" fn($($opt_arg)*) $(-> $opt_ret)?>(
                            stringify!($opt_name).as_bytes(),
                        )
                    };
                )*
                match ($($name,)*) {
                    ($(Ok($name),)*) => Ok(Self {
                        $($name: *$name,)*
                        $($opt_name: $opt_name.ok().map(|symbol| *symbol),)*
                        connected: AtomicBool::new(false),
                        _library: library,
                    }),
                    _ => Err(LoadError::MissingSymbols {
                        path: path.to_owned(),
                        symbols: missing,
                    }),
                }
            }
        }
    };
}

api! {
    required {
        Vix_GetErrorText: fn(VixError, Text) -> Text;
        Vix_GetHandleType: fn(VixHandle) -> VixHandleType;
        Vix_ReleaseHandle: fn(VixHandle);
        Vix_GetProperties: fn(VixHandle, VixPropertyId, ...) -> VixError;
        Vix_GetPropertyType: fn(VixHandle, VixPropertyId, *mut VixPropertyType) -> VixError;
        Vix_FreeBuffer: fn(*mut c_void);
        VixHost_Connect: fn(c_int, VixServiceProvider, Text, c_int, Text, Text, VixOptions, VixHandle, VixEventProc, Data) -> VixHandle;
        VixHost_Disconnect: fn(VixHandle);
        VixHost_FindItems: fn(VixHandle, VixFindItemType, VixHandle, i32, VixEventProc, Data) -> VixHandle;
        VixHost_RegisterVM: fn(VixHandle, Text, VixEventProc, Data) -> VixHandle;
        VixHost_UnregisterVM: fn(VixHandle, Text, VixEventProc, Data) -> VixHandle;
        VixVM_Open: fn(VixHandle, Text, VixEventProc, Data) -> VixHandle;
        VixVM_PowerOn: fn(VixHandle, VixOptions, VixHandle, VixEventProc, Data) -> VixHandle;
        VixVM_PowerOff: fn(VixHandle, VixOptions, VixEventProc, Data) -> VixHandle;
        VixVM_Reset: fn(VixHandle, VixOptions, VixEventProc, Data) -> VixHandle;
        VixVM_Suspend: fn(VixHandle, VixOptions, VixEventProc, Data) -> VixHandle;
        VixVM_Delete: fn(VixHandle, VixOptions, VixEventProc, Data) -> VixHandle;
        VixVM_GetNumRootSnapshots: fn(VixHandle, *mut c_int) -> VixError;
        VixVM_GetRootSnapshot: fn(VixHandle, c_int, *mut VixHandle) -> VixError;
        VixVM_GetCurrentSnapshot: fn(VixHandle, *mut VixHandle) -> VixError;
        VixVM_GetNamedSnapshot: fn(VixHandle, Text, *mut VixHandle) -> VixError;
        VixVM_CreateSnapshot: fn(VixHandle, Text, Text, VixOptions, VixHandle, VixEventProc, Data) -> VixHandle;
        VixVM_RemoveSnapshot: fn(VixHandle, VixHandle, VixOptions, VixEventProc, Data) -> VixHandle;
        VixVM_RevertToSnapshot: fn(VixHandle, VixHandle, VixOptions, VixHandle, VixEventProc, Data) -> VixHandle;
        VixVM_WaitForToolsInGuest: fn(VixHandle, c_int, VixEventProc, Data) -> VixHandle;
        VixSnapshot_GetNumChildren: fn(VixHandle, *mut c_int) -> VixError;
        VixSnapshot_GetChild: fn(VixHandle, c_int, *mut VixHandle) -> VixError;
        VixSnapshot_GetParent: fn(VixHandle, *mut VixHandle) -> VixError;
        VixJob_Wait: fn(VixHandle, VixPropertyId, ...) -> VixError;
        VixJob_CheckCompletion: fn(VixHandle, *mut VixBool) -> VixError;
        VixJob_GetError: fn(VixHandle) -> VixError;
        VixJob_GetNumProperties: fn(VixHandle, VixPropertyId) -> c_int;
        VixJob_GetNthProperties: fn(VixHandle, c_int, VixPropertyId, ...) -> VixError;
    }
    optional {
        Vix_AddRefHandle: fn(VixHandle);
        Vix_PumpEvents: fn(VixHandle, c_int);
        VixHost_OpenVM: fn(VixHandle, Text, VixOptions, VixHandle, VixEventProc, Data) -> VixHandle;
        VixVM_Pause: fn(VixHandle, c_int, VixHandle, VixEventProc, Data) -> VixHandle;
        VixVM_Unpause: fn(VixHandle, c_int, VixHandle, VixEventProc, Data) -> VixHandle;
        VixVM_Clone: fn(VixHandle, VixHandle, c_int, Text, c_int, VixHandle, VixEventProc, Data) -> VixHandle;
        VixVM_LoginInGuest: fn(VixHandle, Text, Text, c_int, VixEventProc, Data) -> VixHandle;
        VixVM_LogoutFromGuest: fn(VixHandle, VixEventProc, Data) -> VixHandle;
        VixVM_RunProgramInGuest: fn(VixHandle, Text, Text, VixOptions, VixHandle, VixEventProc, Data) -> VixHandle;
        VixVM_ReadVariable: fn(VixHandle, c_int, Text, c_int, VixEventProc, Data) -> VixHandle;
        VixVM_WriteVariable: fn(VixHandle, c_int, Text, Text, c_int, VixEventProc, Data) -> VixHandle;
        VixVM_InstallTools: fn(VixHandle, c_int, Text, VixEventProc, Data) -> VixHandle;
        VixVM_UpgradeVirtualHardware: fn(VixHandle, c_int, VixEventProc, Data) -> VixHandle;
        VixPropertyList_AllocPropertyList: fn(VixHandle, *mut VixHandle, VixPropertyId, ...) -> VixError;
    }
}
