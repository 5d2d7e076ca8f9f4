//! The named numbers of the API (header `vix.h` 1.13 and VIX API Reference).

use std::ffi::c_int;

use crate::{VixEventType, VixFindItemType, VixHandle, VixHandleType, VixOptions};
use crate::{VixPropertyType, VixServiceProvider};

/// No object.
pub const VIX_INVALID_HANDLE: VixHandle = 0;

/// The newest version the library has.
pub const VIX_API_VERSION: c_int = -1;

// Kinds of handles.

/// Not a live handle.
pub const VIX_HANDLETYPE_NONE: VixHandleType = 0;
/// A connection.
pub const VIX_HANDLETYPE_HOST: VixHandleType = 2;
/// A virtual machine.
pub const VIX_HANDLETYPE_VM: VixHandleType = 3;
/// A network.
pub const VIX_HANDLETYPE_NETWORK: VixHandleType = 5;
/// An asynchronous operation.
pub const VIX_HANDLETYPE_JOB: VixHandleType = 6;
/// A snapshot.
pub const VIX_HANDLETYPE_SNAPSHOT: VixHandleType = 7;
/// A list of properties.
pub const VIX_HANDLETYPE_PROPERTY_LIST: VixHandleType = 9;
/// A metadata container.
pub const VIX_HANDLETYPE_METADATA_CONTAINER: VixHandleType = 11;

// Products.

/// The wrapper library decides.
pub const VIX_SERVICEPROVIDER_DEFAULT: VixServiceProvider = 1;
/// VMware Server 1.
pub const VIX_SERVICEPROVIDER_VMWARE_SERVER: VixServiceProvider = 2;
/// Workstation and Fusion on this machine.
pub const VIX_SERVICEPROVIDER_VMWARE_WORKSTATION: VixServiceProvider = 3;
/// Player on this machine.
pub const VIX_SERVICEPROVIDER_VMWARE_PLAYER: VixServiceProvider = 4;
/// VMware Server 2.0, ESXi, vCenter.
pub const VIX_SERVICEPROVIDER_VMWARE_VI_SERVER: VixServiceProvider = 10;
/// Shared guests of Workstation 8 to 15.
pub const VIX_SERVICEPROVIDER_VMWARE_WORKSTATION_SHARED: VixServiceProvider = 11;

// Options of `VixHost_Connect`.

/// Work only inside `Vix_PumpEvents`; removed in 1.11.
pub const VIX_HOSTOPTION_USE_EVENT_PUMP: VixOptions = 8;
/// Check the host's certificate.
pub const VIX_HOSTOPTION_VERIFY_SSL_CERT: VixOptions = 0x4000;

// What `VixHost_FindItems` finds.

/// Running guests.
pub const VIX_FIND_RUNNING_VMS: VixFindItemType = 1;
/// All guests of the inventory.
pub const VIX_FIND_REGISTERED_VMS: VixFindItemType = 4;

// Events.

/// The job ended: sent exactly once, last, also after a failure.
pub const VIX_EVENTTYPE_JOB_COMPLETED: VixEventType = 2;
/// Any number of times; may be ignored.
pub const VIX_EVENTTYPE_JOB_PROGRESS: VixEventType = 3;
/// An item was found; more information is a property list with property 4010.
pub const VIX_EVENTTYPE_FIND_ITEM: VixEventType = 8;

// Options of operations.

/// `VixHost_OpenVM`: nothing special.
pub const VIX_VMOPEN_NORMAL: VixOptions = 0;
/// Power operations: hard, without a window.
pub const VIX_VMPOWEROP_NORMAL: VixOptions = 0;
/// Power operations: softly, through Tools in the guest.
pub const VIX_VMPOWEROP_FROM_GUEST: VixOptions = 4;
/// Revert: stay off.
pub const VIX_VMPOWEROP_SUPPRESS_SNAPSHOT_POWERON: VixOptions = 0x80;
/// Power on: with a window.
pub const VIX_VMPOWEROP_LAUNCH_GUI: VixOptions = 0x200;
/// Power on: paused.
pub const VIX_VMPOWEROP_START_VM_PAUSED: VixOptions = 0x1000;
/// Delete: the disks too.
pub const VIX_VMDELETE_DISK_FILES: VixOptions = 2;
/// Create a snapshot: with memory.
pub const VIX_SNAPSHOT_INCLUDE_MEMORY: VixOptions = 2;
/// Remove a snapshot: its children too.
pub const VIX_SNAPSHOT_REMOVE_CHILDREN: VixOptions = 1;

// Kinds of storage of a property.

/// Any.
pub const VIX_PROPERTYTYPE_ANY: VixPropertyType = 0;
/// 32 bits.
pub const VIX_PROPERTYTYPE_INTEGER: VixPropertyType = 1;
/// A string of the library, to be freed.
pub const VIX_PROPERTYTYPE_STRING: VixPropertyType = 2;
/// One byte.
pub const VIX_PROPERTYTYPE_BOOL: VixPropertyType = 3;
/// A handle, to be released.
pub const VIX_PROPERTYTYPE_HANDLE: VixPropertyType = 4;
/// 64 bits.
pub const VIX_PROPERTYTYPE_INT64: VixPropertyType = 5;
/// Two pointers: size, then bytes of the library, to be freed.
pub const VIX_PROPERTYTYPE_BLOB: VixPropertyType = 6;

// Bits of the power state (property 129); several may be set.

/// On its way off.
pub const VIX_POWERSTATE_POWERING_OFF: c_int = 1;
/// Off.
pub const VIX_POWERSTATE_POWERED_OFF: c_int = 2;
/// On its way on.
pub const VIX_POWERSTATE_POWERING_ON: c_int = 4;
/// On.
pub const VIX_POWERSTATE_POWERED_ON: c_int = 8;
/// On its way to be suspended.
pub const VIX_POWERSTATE_SUSPENDING: c_int = 0x10;
/// Suspended.
pub const VIX_POWERSTATE_SUSPENDED: c_int = 0x20;
/// Tools run.
pub const VIX_POWERSTATE_TOOLS_RUNNING: c_int = 0x40;
/// Being reset.
pub const VIX_POWERSTATE_RESETTING: c_int = 0x80;
/// Waits for an answer to a question.
pub const VIX_POWERSTATE_BLOCKED_ON_MSG: c_int = 0x100;
/// Paused.
pub const VIX_POWERSTATE_PAUSED: c_int = 0x200;
/// Being resumed.
pub const VIX_POWERSTATE_RESUMING: c_int = 0x800;

// Bits of the Tools state (property 152).

/// Not known.
pub const VIX_TOOLSSTATE_UNKNOWN: c_int = 1;
/// Running.
pub const VIX_TOOLSSTATE_RUNNING: c_int = 2;
/// Not installed.
pub const VIX_TOOLSSTATE_NOT_INSTALLED: c_int = 4;

// Bits of the supported features (property 197).

/// Shared folders.
pub const VIX_VM_SUPPORT_SHARED_FOLDERS: c_int = 1;
/// More than one snapshot.
pub const VIX_VM_SUPPORT_MULTIPLE_SNAPSHOTS: c_int = 2;
/// Installing Tools.
pub const VIX_VM_SUPPORT_TOOLS_INSTALL: c_int = 4;
/// Upgrading the virtual hardware.
pub const VIX_VM_SUPPORT_HARDWARE_UPGRADE: c_int = 8;
