//! The properties of handles: their ids, what each is, and how it is stored (header `vix.h` 1.13 and VIX API
//! Reference).

use crate::{
    VIX_PROPERTYTYPE_BLOB as BLOB, VIX_PROPERTYTYPE_BOOL as BOOL,
    VIX_PROPERTYTYPE_HANDLE as HANDLE, VIX_PROPERTYTYPE_INT64 as INT64,
    VIX_PROPERTYTYPE_INTEGER as INT, VIX_PROPERTYTYPE_STRING as STRING, VixPropertyId,
    VixPropertyType,
};

/// Ends a list of properties.
pub const VIX_PROPERTY_NONE: VixPropertyId = 0;

macro_rules! properties {
    ($($name:ident = $id:literal, $kind:ident, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $name: VixPropertyId = $id;)*

        /// How a property is stored; none for ids that nobody documented.
        pub const fn property_type(id: VixPropertyId) -> Option<VixPropertyType> {
            match id {
                $($id => Some($kind),)*
                _ => None,
            }
        }
    };
}

properties! {
    VIX_PROPERTY_META_DATA_CONTAINER = 2, HANDLE, "Several handles: a container of further data.";
    VIX_PROPERTY_HOST_HOSTTYPE = 50, INT, "Host: provider type.";
    VIX_PROPERTY_HOST_API_VERSION = 51, INT, "Host: API version.";
    VIX_PROPERTY_HOST_SOFTWARE_VERSION = 52, STRING, "Host: the product and its version.";
    VIX_PROPERTY_VM_NUM_VCPUS = 101, INT, "Guest: processors.";
    VIX_PROPERTY_VM_VMX_PATHNAME = 103, STRING, "Guest: path of the .vmx.";
    VIX_PROPERTY_VM_VMTEAM_PATHNAME = 105, STRING, "Guest: path of its team.";
    VIX_PROPERTY_VM_MEMORY_SIZE = 106, INT, "Guest: memory in MB.";
    VIX_PROPERTY_VM_READ_ONLY = 107, BOOL, "Guest: opened read-only.";
    VIX_PROPERTY_VM_NAME = 108, STRING, "Guest: display name.";
    VIX_PROPERTY_VM_GUESTOS = 109, STRING, "Guest: operating system.";
    VIX_PROPERTY_VM_IN_VMTEAM = 128, BOOL, "Guest: is in a team.";
    VIX_PROPERTY_VM_POWER_STATE = 129, INT, "Guest: power state (bits).";
    VIX_PROPERTY_VM_TOOLS_STATE = 152, INT, "Guest: Tools state (bits), valid after `VixVM_WaitForToolsInGuest`.";
    VIX_PROPERTY_VM_IS_RUNNING = 196, BOOL, "Guest: is running.";
    VIX_PROPERTY_VM_SUPPORTED_FEATURES = 197, INT, "Guest: features (bits).";
    VIX_PROPERTY_VM_SSL_ERROR = 293, BOOL, "Guest: the host's certificate was not trusted.";
    VIX_PROPERTY_JOB_RESULT_ERROR_CODE = 3000, INT64, "Job: its error.";
    VIX_PROPERTY_JOB_RESULT_USER_MESSAGE = 3002, STRING, "Job: a message for people.";
    VIX_PROPERTY_JOB_RESULT_EXIT_CODE = 3004, INT, "Job: exit code of a command.";
    VIX_PROPERTY_JOB_RESULT_COMMAND_OUTPUT = 3005, STRING, "Job: output of a command.";
    VIX_PROPERTY_JOB_RESULT_HANDLE = 3010, HANDLE, "Job: the handle it made.";
    VIX_PROPERTY_JOB_RESULT_GUEST_OBJECT_EXISTS = 3011, BOOL, "Job: what was asked for is there.";
    VIX_PROPERTY_JOB_RESULT_GUEST_PROGRAM_ELAPSED_TIME = 3017, INT, "Job: how long the program ran, in seconds.";
    VIX_PROPERTY_JOB_RESULT_GUEST_PROGRAM_EXIT_CODE = 3018, INT, "Job: exit code of the program.";
    VIX_PROPERTY_JOB_RESULT_ITEM_NAME = 3035, STRING, "Job: name of an item.";
    VIX_PROPERTY_JOB_RESULT_FOUND_ITEM_DESCRIPTION = 3036, STRING, "Job: description of an item.";
    VIX_PROPERTY_JOB_RESULT_SHARED_FOLDER_COUNT = 3046, INT, "Job: number of shared folders.";
    VIX_PROPERTY_JOB_RESULT_SHARED_FOLDER_HOST = 3048, STRING, "Job: path of a shared folder on the host.";
    VIX_PROPERTY_JOB_RESULT_SHARED_FOLDER_FLAGS = 3049, INT, "Job: flags of a shared folder.";
    VIX_PROPERTY_JOB_RESULT_PROCESS_ID = 3051, INT64, "Job: number of a process.";
    VIX_PROPERTY_JOB_RESULT_PROCESS_OWNER = 3052, STRING, "Job: user of a process.";
    VIX_PROPERTY_JOB_RESULT_PROCESS_COMMAND = 3053, STRING, "Job: command of a process.";
    VIX_PROPERTY_JOB_RESULT_FILE_FLAGS = 3054, INT, "Job: flags of a file.";
    VIX_PROPERTY_JOB_RESULT_PROCESS_START_TIME = 3055, INT, "Job: when a process began, in seconds since 1970.";
    VIX_PROPERTY_JOB_RESULT_VM_VARIABLE_STRING = 3056, STRING, "Job: value of a variable.";
    VIX_PROPERTY_JOB_RESULT_PROCESS_BEING_DEBUGGED = 3057, BOOL, "Job: a process is being debugged.";
    VIX_PROPERTY_JOB_RESULT_SCREEN_IMAGE_SIZE = 3058, INT, "Job: size of an image of the screen in bytes.";
    VIX_PROPERTY_JOB_RESULT_SCREEN_IMAGE_DATA = 3059, BLOB, "Job: an image of the screen.";
    VIX_PROPERTY_JOB_RESULT_FILE_SIZE = 3061, INT64, "Job: size of a file in bytes.";
    VIX_PROPERTY_JOB_RESULT_FILE_MOD_TIME = 3062, INT64, "Job: when a file was changed, in seconds since 1970.";
    VIX_PROPERTY_FOUND_ITEM_LOCATION = 4010, STRING, "Found item: its path.";
    VIX_PROPERTY_SNAPSHOT_DISPLAYNAME = 4200, STRING, "Snapshot: name.";
    VIX_PROPERTY_SNAPSHOT_DESCRIPTION = 4201, STRING, "Snapshot: description.";
    VIX_PROPERTY_SNAPSHOT_POWERSTATE = 4205, INT, "Snapshot: power state in it (bits).";
    VIX_PROPERTY_GUEST_SHAREDFOLDERS_SHARES_PATH = 4525, STRING, "Guest: where its shared folders appear.";
    VIX_PROPERTY_VM_ENCRYPTION_PASSWORD = 7001, STRING, "Argument of `VixHost_OpenVM`: password of an encrypted guest.";
}
