/* Drives every function of the API, linked with the library as programs of others are. Arguments: the path of a
 * guest of the host `local` (Workstation), and of one of `old` (Server 1). The guest `web` of `alpha` (ESXi) is off
 * and has Tools. */

#include "check.h"

static const char *const WEB = "[standard] web/web.vmx";

/* What a callback saw. */
struct seen {
    int completed;
    int found;
    VixHandle job;
    VixError error, result;
    Bool complete;
    VixError waited;
    char *first_item;
};

static void on_event(VixHandle job, VixEventType event, VixHandle more, void *data) {
    struct seen *seen = data;
    if (event == VIX_EVENTTYPE_FIND_ITEM) {
        CHECK(Vix_GetHandleType(more) == 9);
        char *location = NULL;
        CHECK_CODE(Vix_GetProperties(more, 4010, &location, 0), 0);
        CHECK(seen->completed == 0);
        if (seen->found++ == 0)
            seen->first_item = location;
        else
            Vix_FreeBuffer(location);
    }
    if (event == VIX_EVENTTYPE_JOB_COMPLETED) {
        seen->completed++;
        seen->job = job;
        seen->error = VixJob_GetError(job);
        CHECK_CODE(Vix_GetProperties(job, 3000, &seen->result, 0), 0);
        CHECK_CODE(VixJob_CheckCompletion(job, &seen->complete), 0);
        seen->waited = VixJob_Wait(job, 0);
    }
}

/* Every function that starts a job on a guest, and what it answers for one that is off. */
#define ON_GUESTS(X)                                                                                 \
    X(VixVM_PowerOff, 3006, 0)                                                                       \
    X(VixVM_Reset, 3006, 0)                                                                          \
    X(VixVM_Suspend, 3006, 0)                                                                        \
    X(VixVM_WaitForToolsInGuest, 3006, 1)                                                            \
    X(VixVM_RemoveSnapshot, 1000, 0, 0)                                                              \
    X(VixVM_Pause, 6, 0, 0)                                                                          \
    X(VixVM_Unpause, 6, 0, 0)                                                                        \
    X(VixVM_Delete, 6, 2)                                                                            \
    X(VixVM_Clone, 6, 0, 0, NULL, 0, 0)                                                              \
    X(VixVM_RevertToSnapshot, 6, 0, 0, 0)                                                            \
    X(VixVM_UpgradeVirtualHardware, 6, 0)                                                            \
    X(VixVM_InstallTools, 6, 0, NULL)                                                                \
    X(VixVM_CaptureScreenImage, 6, 1, 0)                                                             \
    X(VixVM_BeginRecording, 6, NULL, NULL, 0, 0)                                                     \
    X(VixVM_EndRecording, 6, 0, 0)                                                                   \
    X(VixVM_BeginReplay, 6, 0, 0, 0)                                                                 \
    X(VixVM_EndReplay, 6, 0, 0)                                                                      \
    X(VixVM_LoginInGuest, 6, NULL, NULL, 0)                                                          \
    X(VixVM_LogoutFromGuest, 6)                                                                      \
    X(VixVM_RunProgramInGuest, 6, NULL, NULL, 0, 0)                                                  \
    X(VixVM_RunScriptInGuest, 6, NULL, NULL, 0, 0)                                                   \
    X(VixVM_ListProcessesInGuest, 6, 0)                                                              \
    X(VixVM_KillProcessInGuest, 6, UINT64_MAX, 0)                                                    \
    X(VixVM_OpenUrlInGuest, 6, NULL, 0, 0)                                                           \
    X(VixVM_CopyFileFromHostToGuest, 6, NULL, NULL, 0, 0)                                            \
    X(VixVM_CopyFileFromGuestToHost, 6, NULL, NULL, 0, 0)                                            \
    X(VixVM_DeleteFileInGuest, 6, NULL)                                                              \
    X(VixVM_FileExistsInGuest, 6, NULL)                                                              \
    X(VixVM_RenameFileInGuest, 6, NULL, NULL, 0, 0)                                                  \
    X(VixVM_CreateTempFileInGuest, 6, 0, 0)                                                          \
    X(VixVM_GetFileInfoInGuest, 6, NULL)                                                             \
    X(VixVM_ListDirectoryInGuest, 6, NULL, 0)                                                        \
    X(VixVM_CreateDirectoryInGuest, 6, NULL, 0)                                                      \
    X(VixVM_DeleteDirectoryInGuest, 6, NULL, 0)                                                      \
    X(VixVM_DirectoryExistsInGuest, 6, NULL)                                                         \
    X(VixVM_ReadVariable, 6, 1, NULL, 0)                                                             \
    X(VixVM_WriteVariable, 6, 1, NULL, NULL, 0)                                                      \
    X(VixVM_EnableSharedFolders, 6, 1, 0)                                                            \
    X(VixVM_GetNumSharedFolders, 6)                                                                  \
    X(VixVM_GetSharedFolderState, 6, 0)                                                              \
    X(VixVM_SetSharedFolderState, 6, NULL, NULL, 0)                                                  \
    X(VixVM_AddSharedFolder, 6, NULL, NULL, 0)                                                       \
    X(VixVM_RemoveSharedFolder, 6, NULL, 0)                                                          \
    X(VixVM_PowerOn, 0, 0, 0)                                                                        \
    X(VixVM_CreateSnapshot, 0, "a", "", 0, 0)

/* Every function that starts a job on a host, with the path of no guest. */
#define ON_HOSTS(X)                                                                                  \
    X(VixVM_Open, 4000, "[standard] no/no.vmx")                                                      \
    X(VixHost_OpenVM, 4000, "[standard] no/no.vmx", 0, 0)                                            \
    X(VixHost_RegisterVM, 2000, "[standard] no/no.vmx")                                              \
    X(VixHost_UnregisterVM, 0, "[standard] no/no.vmx")                                               \
    X(VixHost_FindItems, 0, 4, 0, -1)

#define START(name, code, ...)                                                                       \
    static VixHandle start_##name(VixHandle handle, struct seen *seen) {                             \
        return name(handle, ##__VA_ARGS__, on_event, seen);                                          \
    }
ON_GUESTS(START)
ON_HOSTS(START)

struct call {
    const char *name;
    VixHandle (*start)(VixHandle, struct seen *);
    int code;
};
#define ROW(name, code, ...) {#name, start_##name, code},
static const struct call GUEST_CALLS[] = {ON_GUESTS(ROW){NULL, NULL, 0}};
static const struct call HOST_CALLS[] = {ON_HOSTS(ROW){NULL, NULL, 0}};

/* One call: its job ends with the code, and its callback has seen the same. */
static void drive(const struct call *call, VixHandle handle, int code) {
    struct seen seen = {0};
    VixHandle job = call->start(handle, &seen);
    CHECK(job != 0 && Vix_GetHandleType(job) == 6);
    VixError error = VixJob_Wait(job, 0);
    if (VIX_ERROR_CODE(error) != code) {
        printf("%s(%d): %d instead of %d\n", call->name, handle, VIX_ERROR_CODE(error), code);
        exit(1);
    }
    CHECK(seen.completed == 1 && seen.job == job && seen.complete == 1);
    CHECK(seen.error == error && seen.result == error && seen.waited == error);
    CHECK(VixJob_GetError(job) == error);
    CHECK(VixJob_GetNumProperties(job, 3010) == 0);
    CHECK_CODE(VixJob_GetNthProperties(job, 0, 3010, &error, 0), 8000);
    free(seen.first_item);
    Vix_ReleaseHandle(job);
    CHECK(Vix_GetHandleType(job) == 0);
}

static void drive_all(const struct call *calls, VixHandle right, VixHandle wrong_kind) {
    for (const struct call *call = calls; call->name; call++) {
        drive(call, 0, 1000);
        drive(call, -1, 1000);
        drive(call, 0x00F00DED, 1000);
        /* The number of a live handle with a prefix that was never given. */
        drive(call, 0x7F000000 | right, 1000);
        drive(call, wrong_kind, 1001);
    }
    for (const struct call *call = calls; call->name; call++)
        drive(call, right, call->code);
}

static void answers_at_once(VixHandle host, VixHandle vm) {
    int number = 77;
    VixHandle handle = 77;
    Bool flag = 77;
    static const VixHandle dead[] = {0, -1, 0x00F00DED};
    for (size_t i = 0; i < 3; i++) {
        CHECK_CODE(VixVM_GetNumRootSnapshots(dead[i], &number), 1000);
        CHECK_CODE(VixVM_GetRootSnapshot(dead[i], 0, &handle), 1000);
        CHECK_CODE(VixVM_GetCurrentSnapshot(dead[i], &handle), 1000);
        CHECK_CODE(VixVM_GetNamedSnapshot(dead[i], "a", &handle), 1000);
        CHECK_CODE(VixSnapshot_GetNumChildren(dead[i], &number), 1000);
        CHECK_CODE(VixSnapshot_GetChild(dead[i], 0, &handle), 1000);
        CHECK_CODE(VixSnapshot_GetParent(dead[i], &handle), 1000);
        CHECK_CODE(VixJob_Wait(dead[i], 3010, &handle, 0), 1000);
        CHECK_CODE(VixJob_CheckCompletion(dead[i], &flag), 1000);
        CHECK_CODE(VixJob_GetError(dead[i]), 1000);
        CHECK_CODE(VixJob_GetNthProperties(dead[i], 0, 3010, &handle, 0), 1000);
        CHECK(VixJob_GetNumProperties(dead[i], 3010) == 0);
        CHECK_CODE(Vix_GetProperties(dead[i], 101, &number, 0), 1000);
        CHECK_CODE(Vix_GetPropertyType(dead[i], 101, &number), 1000);
        CHECK_CODE(VixPropertyList_AllocPropertyList(dead[i], &handle, 0), 1000);
        CHECK(Vix_GetHandleType(dead[i]) == 0);
        Vix_AddRefHandle(dead[i]);
        Vix_ReleaseHandle(dead[i]);
        Vix_PumpEvents(dead[i], 0);
        VixHost_Disconnect(dead[i]);
    }
    CHECK_CODE(VixVM_GetNumRootSnapshots(host, &number), 1001);
    CHECK_CODE(VixSnapshot_GetParent(vm, &handle), 1001);
    CHECK_CODE(VixJob_Wait(vm, 0), 1001);
    CHECK_CODE(VixJob_GetError(host), 1001);
    CHECK(number == 77 && handle == 77 && flag == 77);

    CHECK_CODE(VixVM_GetNumRootSnapshots(vm, NULL), 3);
    CHECK_CODE(VixVM_GetRootSnapshot(vm, 0, NULL), 3);
    CHECK_CODE(VixVM_GetCurrentSnapshot(vm, NULL), 3);
    CHECK_CODE(VixVM_GetNamedSnapshot(vm, NULL, &handle), 3);
    CHECK_CODE(VixVM_GetNamedSnapshot(vm, "a", NULL), 3);
    CHECK_CODE(Vix_GetProperties(vm, 101, NULL, 0), 3);
    CHECK_CODE(Vix_GetProperties(vm, 101, &number, 106, NULL, 0), 3);
    CHECK(number == 77);
    CHECK_CODE(Vix_GetPropertyType(vm, 101, NULL), 3);
    CHECK_CODE(VixPropertyList_AllocPropertyList(host, NULL, 0), 3);
    CHECK_CODE(VixPropertyList_AllocPropertyList(host, &handle, 7001, NULL, 0), 3);
    CHECK_CODE(done(VixVM_Open(host, NULL, NULL, NULL)), 3);
    CHECK_CODE(done(VixHost_OpenVM(host, NULL, 0, 0, NULL, NULL)), 3);
    CHECK_CODE(done(VixHost_RegisterVM(host, NULL, NULL, NULL)), 3);
    CHECK_CODE(done(VixHost_UnregisterVM(host, NULL, NULL, NULL)), 3);
    CHECK_CODE(done(VixVM_Open(host, "\xE4", NULL, NULL)), 27);
    CHECK_CODE(done(VixVM_CreateSnapshot(vm, "\xE4", "", 0, 0, NULL, NULL)), 27);
    Vix_FreeBuffer(NULL);
    Vix_PumpEvents(host, 0);
}

static void the_snapshot(VixHandle vm) {
    int number = -1;
    VixHandle root, current, named, other;
    CHECK_CODE(VixVM_GetNumRootSnapshots(vm, &number), 0);
    CHECK(number == 1);
    CHECK_CODE(VixVM_GetRootSnapshot(vm, 0, &root), 0);
    CHECK_CODE(VixVM_GetRootSnapshot(vm, 1, &other), 13003);
    CHECK_CODE(VixVM_GetRootSnapshot(vm, -1, &other), 13003);
    CHECK_CODE(VixVM_GetCurrentSnapshot(vm, &current), 0);
    CHECK_CODE(VixVM_GetNamedSnapshot(vm, "a", &named), 0);
    CHECK_CODE(VixVM_GetNamedSnapshot(vm, "b", &other), 13003);
    CHECK_CODE(VixSnapshot_GetNumChildren(root, &number), 0);
    CHECK(number == 0);
    CHECK_CODE(VixSnapshot_GetChild(root, 0, &other), 13003);
    CHECK_CODE(VixSnapshot_GetParent(root, &other), 0);
    CHECK(other == 0);
    CHECK(Vix_GetHandleType(root) == 7 && Vix_GetHandleType(current) == 7);
    CHECK_CODE(VixSnapshot_GetNumChildren(root, NULL), 3);
    CHECK_CODE(VixSnapshot_GetChild(root, 0, NULL), 3);
    CHECK_CODE(VixSnapshot_GetParent(root, NULL), 3);

    /* The guest ran, and its memory was not taken: in the snapshot it is off. With memory it is on. */
    int state = 0;
    char *name = NULL, *description = NULL;
    CHECK_CODE(Vix_GetProperties(named, 4200, &name, 4201, &description, 4205, &state, 0), 0);
    CHECK(!strcmp(name, "a") && !strcmp(description, "") && state == 2);
    Vix_FreeBuffer(name);
    Vix_FreeBuffer(description);
    other = made(VixVM_CreateSnapshot(vm, "b", "with memory", 2, 0, NULL, NULL));
    CHECK_CODE(Vix_GetProperties(other, 4205, &state, 0), 0);
    CHECK(state & 8 && !(state & 2));
    CHECK_CODE(done(VixVM_RemoveSnapshot(vm, other, 0, NULL, NULL)), 0);
    CHECK_CODE(done(VixVM_RemoveSnapshot(vm, other, 0, NULL, NULL)), 13003);
    CHECK_CODE(Vix_GetProperties(other, 4205, &state, 0), 13003);
    CHECK_CODE(done(VixVM_Suspend(vm, 0, NULL, NULL)), 0);
    Vix_ReleaseHandle(other);
    other = made(VixVM_CreateSnapshot(vm, "suspended", "", 0, 0, NULL, NULL));
    CHECK_CODE(Vix_GetProperties(other, 4205, &state, 0), 0);
    CHECK(state == 0x20);
    CHECK_CODE(done(VixVM_RemoveSnapshot(vm, root, 1, NULL, NULL)), 0);
    VixHandle handles[] = {root, current, named, other};
    for (size_t i = 0; i < 4; i++)
        Vix_ReleaseHandle(handles[i]);
    CHECK(Vix_GetHandleType(root) == 0);
}

#define FOUR(...) __VA_ARGS__, __VA_ARGS__, __VA_ARGS__, __VA_ARGS__
#define TEN(...)                                                                                     \
    __VA_ARGS__, __VA_ARGS__, __VA_ARGS__, __VA_ARGS__, __VA_ARGS__, __VA_ARGS__, __VA_ARGS__,        \
        __VA_ARGS__, __VA_ARGS__, __VA_ARGS__
#define FORTY(...) FOUR(TEN(__VA_ARGS__))

static void properties(VixHandle host, VixHandle vm) {
    int type = 0, number = 0, memory = 0;
    char *text = NULL;
    uint64_t wide = 0;
    struct {
        Bool flag;
        char next;
    } byte = {7, 7};

    CHECK_CODE(Vix_GetProperties(host, 50, &number, 51, &memory, 52, &text, 0), 0);
    CHECK(number == 10 && memory == 13 && strstr(text, "ESXi"));
    Vix_FreeBuffer(text);
    CHECK_CODE(Vix_GetPropertyType(host, 52, &type), 0);
    CHECK(type == 2);
    CHECK_CODE(Vix_GetProperties(vm, 196, &byte.flag, 0), 0);
    CHECK(byte.flag == 0 && byte.next == 7);
    CHECK_CODE(Vix_GetProperties(vm, 293, &byte.flag, 4525, &text, 0), 0);
    CHECK(byte.flag == 0 && byte.next == 7 && !strcmp(text, ""));
    Vix_FreeBuffer(text);

    /* Unknown, of another handle, of no handle at all. */
    CHECK_CODE(Vix_GetProperties(vm, 4711, &number, 0), 6000);
    CHECK_CODE(Vix_GetProperties(vm, 50, &number, 0), 6000);
    CHECK_CODE(Vix_GetProperties(host, 108, &text, 0), 6000);
    CHECK_CODE(Vix_GetProperties(vm, -5, &number, 0), 6000);
    CHECK_CODE(Vix_GetPropertyType(vm, 50, &type), 6000);
    CHECK_CODE(Vix_GetPropertyType(vm, 4711, &type), 6000);
    /* An error writes nothing, and there is nothing to free. */
    text = (char *)&text;
    CHECK_CODE(Vix_GetProperties(vm, 108, &text, 4711, &number, 0), 6000);
    CHECK(text == (char *)&text);

    /* None, and forty. */
    CHECK_CODE(Vix_GetProperties(vm, 0), 0);
    CHECK_CODE(Vix_GetProperties(vm, FORTY(106, &memory), 0), 0);
    CHECK(memory == 256);
    VixHandle job = VixVM_Open(host, WEB, NULL, NULL), handle = 0;
    number = 0;
    CHECK_CODE(VixJob_Wait(job, FORTY(3000, &wide), 3010, &handle, 0), 0);
    CHECK(wide == 0 && handle == vm);
    Vix_ReleaseHandle(handle);
    Vix_ReleaseHandle(job);
    CHECK_CODE(VixJob_GetNthProperties(job, 0, FORTY(106, &memory), 0), 1000);

    /* Lists of each type. */
    static const unsigned char image[] = {1, 0, 255};
    VixHandle list = 0;
    unsigned char *data = NULL;
    int size = -1;
    CHECK_CODE(VixPropertyList_AllocPropertyList(host, &list, 0), 0);
    CHECK(Vix_GetHandleType(list) == 9);
    CHECK_CODE(Vix_GetProperties(list, 7001, &text, 0), 6000);
    Vix_ReleaseHandle(list);
    CHECK_CODE(VixPropertyList_AllocPropertyList(vm, &list, FORTY(106, 5), 7001, "secret", 3061,
                                                 (int64_t)-1, 196, 1, 3059, 3, image, 0),
               0);
    CHECK_CODE(Vix_GetProperties(list, 7001, &text, 3061, &wide, 196, &byte.flag, 3059, &size, &data, 106, &number, 0), 0);
    CHECK(!strcmp(text, "secret") && wide == UINT64_MAX && byte.flag == 1 && byte.next == 7 && number == 5);
    CHECK(size == 3 && !memcmp(data, image, 3));
    CHECK_CODE(Vix_GetPropertyType(list, 3059, &type), 0);
    CHECK(type == 6);
    CHECK_CODE(Vix_GetProperties(list, 3059, &size, NULL, 0), 3);
    Vix_FreeBuffer(text);
    Vix_FreeBuffer(data);
    Vix_ReleaseHandle(list);
    CHECK_CODE(VixPropertyList_AllocPropertyList(host, &list, 4711, 1, 0), 6000);
    CHECK_CODE(VixPropertyList_AllocPropertyList(host, &list, 3010, vm, 0), 6005);
    CHECK_CODE(VixPropertyList_AllocPropertyList(host, &list, 3059, -1, image, 0), 3);
    CHECK_CODE(done(VixHost_OpenVM(host, WEB, 0, vm, NULL, NULL)), 1001);
}

static void error_texts(void) {
    for (VixError code = 0; code < 0x10000; code++) {
        const char *text = Vix_GetErrorText(code, NULL);
        CHECK(text && strlen(text) >= 10);
    }
    CHECK(Vix_GetErrorText(6, NULL) == Vix_GetErrorText(0x500000006, NULL));
    CHECK(strcmp(Vix_GetErrorText(3006, NULL), Vix_GetErrorText(64999, NULL)));
}

/* The host "" is this machine, as NULL is; provider 4 is Player, which has no snapshots; 2 is Server 1. */
static void providers(const char *local, const char *old) {
    int number = -1;
    VixHandle host, vm, handle = 0;
    static const char *const names[] = {NULL, ""};
    for (size_t i = 0; i < 2; i++) {
        for (int provider = 1; provider <= 4; provider++) {
            if (provider == 2)
                continue;
            host = made(VixHost_Connect(-1, provider, names[i], 0, "", "", 0, 0, NULL, NULL));
            CHECK_CODE(Vix_GetProperties(host, 50, &number, 0), 0);
            CHECK(number == (provider == 1 ? 3 : provider));
            vm = made(VixVM_Open(host, local, NULL, NULL));
            int lacks = provider == 4 ? 6 : 0;
            CHECK_CODE(VixVM_GetNumRootSnapshots(vm, &number), lacks);
            CHECK_CODE(VixVM_GetRootSnapshot(vm, 0, &handle), lacks ? 6 : 13003);
            CHECK_CODE(VixVM_GetCurrentSnapshot(vm, &handle), lacks ? 6 : 13003);
            CHECK_CODE(VixVM_GetNamedSnapshot(vm, "a", &handle), lacks ? 6 : 13003);
            CHECK_CODE(done(VixVM_RemoveSnapshot(vm, 0, 0, NULL, NULL)), lacks ? 6 : 1000);
            if (lacks)
                CHECK_CODE(done(VixVM_CreateSnapshot(vm, "a", "", 0, 0, NULL, NULL)), 6);
            CHECK_CODE(done(VixHost_FindItems(host, 4, 0, -1, NULL, NULL)), 6);
            CHECK_CODE(done(VixHost_RegisterVM(host, local, NULL, NULL)), 0);
            VixHost_Disconnect(host);
        }
    }
    CHECK_CODE(done(VixHost_Connect(-1, 3, "old", 0, NULL, NULL, 0, 0, NULL, NULL)), 18000);
    host = made(VixHost_Connect(-1, 2, "old", 902, NULL, NULL, 0, 0, NULL, NULL));
    struct seen seen = {0};
    CHECK_CODE(done(VixHost_FindItems(host, 4, 0, -1, on_event, &seen)), 0);
    CHECK(seen.found == 1 && !strcmp(seen.first_item, old));
    Vix_FreeBuffer(seen.first_item);
    CHECK_CODE(done(VixVM_Open(host, "[standard] web/web.vmx", NULL, NULL)), 4000);
    vm = made(VixVM_Open(host, old, NULL, NULL));
    CHECK_CODE(VixPropertyList_AllocPropertyList(host, &handle, 0), 6);
    CHECK_CODE(done(VixHost_OpenVM(host, old, 1, 0, NULL, NULL)), 6);
    CHECK_CODE(done(VixVM_CreateSnapshot(vm, "a", "", 0, 0, NULL, NULL)), 6);
    CHECK_CODE(VixVM_GetNumRootSnapshots(vm, &number), 6);
    CHECK_CODE(VixVM_GetCurrentSnapshot(vm, &handle), 6);
    CHECK_CODE(VixVM_GetNamedSnapshot(vm, "a", &handle), 6);
    CHECK_CODE(VixVM_GetRootSnapshot(vm, 0, &handle), 13003);
    VixHandle job = VixVM_PowerOff(vm, 0, NULL, NULL);
    CHECK_CODE(VixJob_Wait(job, 0), 3006);
    CHECK_CODE(VixJob_GetNthProperties(job, 0, 3010, &handle, 0), 6);
    VixHost_Disconnect(host);
    CHECK_CODE(done(VixHost_Connect(-1, 2, "old", 902, "backup", "wrong", 0, 0, NULL, NULL)), 3014);
    CHECK_CODE(done(VixHost_Connect(-1, 10, "alpha", 0, NULL, NULL, 0, 0, NULL, NULL)), 3014);
    CHECK_CODE(done(VixHost_Connect(-1, 10, "a b", 0, NULL, NULL, 0, 0, NULL, NULL)), 18002);
}

int main(int count, char **arguments) {
    CHECK(count == 3);
    CHECK(live_handles() == 0);
    VixHandle host = connect_to(10, "https://alpha/sdk");
    VixHandle vm = made(VixHost_OpenVM(host, WEB, 0, 0, NULL, NULL));
    answers_at_once(host, vm);
    properties(host, vm);
    drive_all(HOST_CALLS, host, vm);
    drive_all(GUEST_CALLS, vm, host);
    the_snapshot(vm);
    CHECK(live_handles() == 2);
    VixHost_Disconnect(host);
    CHECK(live_handles() == 0);
    error_texts();
    providers(arguments[1], arguments[2]);
    CHECK(live_handles() == 0);
    printf("all well\n");
    return 0;
}
