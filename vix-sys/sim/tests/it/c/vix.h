/* The functions of the VIX C API 1.13 and of the releases before it that programs still name, written from the
 * published reference: what a program is compiled against that is linked with the library. */

#ifndef VIX_H
#define VIX_H

#include <stdint.h>

typedef char Bool;
typedef int32_t int32;
typedef uint64_t uint64;
typedef int VixHandle;
typedef int VixHandleType;
typedef uint64 VixError;
typedef int VixPropertyType;
typedef int VixPropertyID;
typedef int VixEventType;
typedef int VixHostOptions;
typedef int VixServiceProvider;
typedef int VixFindItemType;
typedef int VixVMOpenOptions;
typedef int VixVMPowerOpOptions;
typedef int VixVMDeleteOptions;
typedef int VixRunProgramOptions;
typedef int VixRemoveSnapshotOptions;
typedef int VixCreateSnapshotOptions;
typedef int VixMsgSharedFolderOptions;
typedef int VixCloneType;
typedef int VixPumpEventsOptions;

typedef void VixEventProc(VixHandle handle, VixEventType event, VixHandle more, void *data);

enum {
    VIX_INVALID_HANDLE = 0,
    VIX_API_VERSION = -1,
    VIX_PROPERTY_NONE = 0,
    VIX_EVENTTYPE_JOB_COMPLETED = 2,
    VIX_EVENTTYPE_FIND_ITEM = 8,
};
#define VIX_OK 0
#define VIX_ERROR_CODE(error) ((int)((error) & 0xFFFF))

#define ON_JOB VixEventProc *callback, void *data

/* Handles, properties, memory, errors. */
const char *Vix_GetErrorText(VixError error, const char *locale);
void Vix_ReleaseHandle(VixHandle handle);
void Vix_AddRefHandle(VixHandle handle);
VixHandleType Vix_GetHandleType(VixHandle handle);
VixError Vix_GetProperties(VixHandle handle, VixPropertyID first, ...);
VixError Vix_GetPropertyType(VixHandle handle, VixPropertyID id, VixPropertyType *type);
void Vix_FreeBuffer(void *buffer);
void Vix_PumpEvents(VixHandle host, VixPumpEventsOptions options);
VixError VixPropertyList_AllocPropertyList(VixHandle host, VixHandle *list, int first, ...);

/* Hosts. */
VixHandle VixHost_Connect(int version, VixServiceProvider type, const char *name, int port, const char *user,
                          const char *password, VixHostOptions options, VixHandle list, ON_JOB);
void VixHost_Disconnect(VixHandle host);
VixHandle VixHost_RegisterVM(VixHandle host, const char *vmx, ON_JOB);
VixHandle VixHost_UnregisterVM(VixHandle host, const char *vmx, ON_JOB);
VixHandle VixHost_FindItems(VixHandle host, VixFindItemType what, VixHandle criteria, int32 timeout, ON_JOB);
VixHandle VixHost_OpenVM(VixHandle host, const char *vmx, VixVMOpenOptions options, VixHandle list, ON_JOB);

/* Jobs. */
VixError VixJob_Wait(VixHandle job, VixPropertyID first, ...);
VixError VixJob_CheckCompletion(VixHandle job, Bool *complete);
VixError VixJob_GetError(VixHandle job);
int VixJob_GetNumProperties(VixHandle job, int id);
VixError VixJob_GetNthProperties(VixHandle job, int index, int first, ...);

/* Snapshots. */
VixError VixSnapshot_GetNumChildren(VixHandle parent, int *count);
VixError VixSnapshot_GetChild(VixHandle parent, int index, VixHandle *child);
VixError VixSnapshot_GetParent(VixHandle snapshot, VixHandle *parent);
VixError VixVM_GetNumRootSnapshots(VixHandle vm, int *count);
VixError VixVM_GetRootSnapshot(VixHandle vm, int index, VixHandle *snapshot);
VixError VixVM_GetCurrentSnapshot(VixHandle vm, VixHandle *snapshot);
VixError VixVM_GetNamedSnapshot(VixHandle vm, const char *name, VixHandle *snapshot);
VixHandle VixVM_CreateSnapshot(VixHandle vm, const char *name, const char *description,
                               VixCreateSnapshotOptions options, VixHandle list, ON_JOB);
VixHandle VixVM_RemoveSnapshot(VixHandle vm, VixHandle snapshot, VixRemoveSnapshotOptions options, ON_JOB);
VixHandle VixVM_RevertToSnapshot(VixHandle vm, VixHandle snapshot, VixVMPowerOpOptions options, VixHandle list,
                                 ON_JOB);

/* Guests. */
VixHandle VixVM_Open(VixHandle host, const char *vmx, ON_JOB);
VixHandle VixVM_PowerOn(VixHandle vm, VixVMPowerOpOptions options, VixHandle list, ON_JOB);
VixHandle VixVM_PowerOff(VixHandle vm, VixVMPowerOpOptions options, ON_JOB);
VixHandle VixVM_Reset(VixHandle vm, VixVMPowerOpOptions options, ON_JOB);
VixHandle VixVM_Suspend(VixHandle vm, VixVMPowerOpOptions options, ON_JOB);
VixHandle VixVM_Pause(VixHandle vm, int options, VixHandle list, ON_JOB);
VixHandle VixVM_Unpause(VixHandle vm, int options, VixHandle list, ON_JOB);
VixHandle VixVM_Delete(VixHandle vm, VixVMDeleteOptions options, ON_JOB);
VixHandle VixVM_Clone(VixHandle vm, VixHandle snapshot, VixCloneType type, const char *vmx, int options,
                      VixHandle list, ON_JOB);
VixHandle VixVM_UpgradeVirtualHardware(VixHandle vm, int options, ON_JOB);
VixHandle VixVM_InstallTools(VixHandle vm, int options, const char *arguments, ON_JOB);
VixHandle VixVM_WaitForToolsInGuest(VixHandle vm, int seconds, ON_JOB);
VixHandle VixVM_CaptureScreenImage(VixHandle vm, int type, VixHandle list, ON_JOB);
VixHandle VixVM_BeginRecording(VixHandle vm, const char *name, const char *description, int options,
                               VixHandle list, ON_JOB);
VixHandle VixVM_EndRecording(VixHandle vm, int options, VixHandle list, ON_JOB);
VixHandle VixVM_BeginReplay(VixHandle vm, VixHandle snapshot, int options, VixHandle list, ON_JOB);
VixHandle VixVM_EndReplay(VixHandle vm, int options, VixHandle list, ON_JOB);

/* Inside guests. */
VixHandle VixVM_LoginInGuest(VixHandle vm, const char *user, const char *password, int options, ON_JOB);
VixHandle VixVM_LogoutFromGuest(VixHandle vm, ON_JOB);
VixHandle VixVM_RunProgramInGuest(VixHandle vm, const char *program, const char *arguments,
                                  VixRunProgramOptions options, VixHandle list, ON_JOB);
VixHandle VixVM_RunScriptInGuest(VixHandle vm, const char *interpreter, const char *script,
                                 VixRunProgramOptions options, VixHandle list, ON_JOB);
VixHandle VixVM_ListProcessesInGuest(VixHandle vm, int options, ON_JOB);
VixHandle VixVM_KillProcessInGuest(VixHandle vm, uint64 pid, int options, ON_JOB);
VixHandle VixVM_OpenUrlInGuest(VixHandle vm, const char *url, int window, VixHandle list, ON_JOB);
VixHandle VixVM_CopyFileFromHostToGuest(VixHandle vm, const char *from, const char *to, int options,
                                        VixHandle list, ON_JOB);
VixHandle VixVM_CopyFileFromGuestToHost(VixHandle vm, const char *from, const char *to, int options,
                                        VixHandle list, ON_JOB);
VixHandle VixVM_DeleteFileInGuest(VixHandle vm, const char *path, ON_JOB);
VixHandle VixVM_FileExistsInGuest(VixHandle vm, const char *path, ON_JOB);
VixHandle VixVM_RenameFileInGuest(VixHandle vm, const char *from, const char *to, int options, VixHandle list,
                                  ON_JOB);
VixHandle VixVM_CreateTempFileInGuest(VixHandle vm, int options, VixHandle list, ON_JOB);
VixHandle VixVM_GetFileInfoInGuest(VixHandle vm, const char *path, ON_JOB);
VixHandle VixVM_ListDirectoryInGuest(VixHandle vm, const char *path, int options, ON_JOB);
VixHandle VixVM_CreateDirectoryInGuest(VixHandle vm, const char *path, VixHandle list, ON_JOB);
VixHandle VixVM_DeleteDirectoryInGuest(VixHandle vm, const char *path, int options, ON_JOB);
VixHandle VixVM_DirectoryExistsInGuest(VixHandle vm, const char *path, ON_JOB);
VixHandle VixVM_ReadVariable(VixHandle vm, int type, const char *name, int options, ON_JOB);
VixHandle VixVM_WriteVariable(VixHandle vm, int type, const char *name, const char *value, int options, ON_JOB);
VixHandle VixVM_EnableSharedFolders(VixHandle vm, Bool enabled, int options, ON_JOB);
VixHandle VixVM_GetNumSharedFolders(VixHandle vm, ON_JOB);
VixHandle VixVM_GetSharedFolderState(VixHandle vm, int index, ON_JOB);
VixHandle VixVM_SetSharedFolderState(VixHandle vm, const char *name, const char *path,
                                     VixMsgSharedFolderOptions flags, ON_JOB);
VixHandle VixVM_AddSharedFolder(VixHandle vm, const char *name, const char *path,
                                VixMsgSharedFolderOptions flags, ON_JOB);
VixHandle VixVM_RemoveSharedFolder(VixHandle vm, const char *name, int flags, ON_JOB);

#endif
