/* Does to a provider library what VMware's wrapper library does: gives it a prefix for its handles and
 * calls the ...Vargs functions with a va_list. Arguments: library, URL, path of a guest. */

#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int32_t Handle;
typedef uint64_t Error;
typedef void Event(Handle, int, Handle, void *);

static void *library;

static void *find(const char *name) {
    void *symbol = dlsym(library, name);
    if (!symbol) {
        printf("the library lacks %s\n", name);
        exit(1);
    }
    return symbol;
}

#define CHECK(condition)                                                                             \
    do {                                                                                             \
        if (!(condition)) {                                                                          \
            printf("line %d: not so: %s\n", __LINE__, #condition);                                   \
            exit(1);                                                                                 \
        }                                                                                            \
    } while (0)

/* The wrapper's own variadic functions. */
static Error wait_for(Handle job, int first, ...) {
    Error (*call)(Handle, int, va_list) = find("VixJob_WaitVargs");
    va_list more;
    va_start(more, first);
    Error error = call(job, first, more);
    va_end(more);
    return error;
}

static Error get(Handle handle, int first, ...) {
    Error (*call)(Handle, int, va_list) = find("Vix_GetPropertiesVargs");
    va_list more;
    va_start(more, first);
    Error error = call(handle, first, more);
    va_end(more);
    return error;
}

static Error get_nth(Handle job, int index, int first, ...) {
    Error (*call)(Handle, int, int, va_list) = find("VixJob_GetNthPropertiesVargs");
    va_list more;
    va_start(more, first);
    Error error = call(job, index, first, more);
    va_end(more);
    return error;
}

static Error make_list(Handle any, Handle *list, int first, ...) {
    Error (*call)(Handle, Handle *, int, va_list) = find("VixPropertyList_AllocPropertyListVargs");
    va_list more;
    va_start(more, first);
    Error error = call(any, list, first, more);
    va_end(more);
    return error;
}

static int completed;

static void on_event(Handle job, int event, Handle more, void *data) {
    (void)job;
    (void)more;
    if (event == 2 && data == (void *)&completed)
        completed++;
}

int main(int count, char **arguments) {
    CHECK(count == 4);
    library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    CHECK(library);
    Error (*init)(int32_t) = find("FoundryInitializeHandleDllID");
    Handle (*connect_to)(int, int, const char *, int, const char *, const char *, int, Handle, Event *,
                         void *) = find("VixHost_Connect");
    void (*disconnect)(Handle) = find("VixHost_Disconnect");
    Handle (*open_vm)(Handle, const char *, int, Handle, Event *, void *) = find("VixHost_OpenVM");
    Handle (*take)(Handle, const char *, const char *, int, Handle, Event *, void *) =
        find("VixVM_CreateSnapshot");
    void (*release)(Handle) = find("Vix_ReleaseHandle");
    void (*free_buffer)(void *) = find("Vix_FreeBuffer");
    int (*kind)(Handle) = find("Vix_GetHandleType");
    Handle (*make_job)(Event *, void *) = find("VixJob_CreateJobWithCallback");
    void (*finish)(Handle, int, Error, int, Handle) = find("VixJob_OnFinishAsynchOpWithHandle");

    CHECK(init(2 << 24) == 0);
    Handle host = 0, vm = 0, snapshot = 0, list = 0;
    Handle job =
        connect_to(-1, 10, arguments[2], 0, "backup", "lab password", 0, 0, on_event, &completed);
    CHECK(job >> 24 == 2);
    CHECK(wait_for(job, 3010, &host, 0) == 0);
    CHECK(host >> 24 == 2 && kind(host) == 2);
    CHECK(completed == 1);
    release(job);

    /* A second line of the table: a new prefix, the old handles live on. */
    CHECK(init(3 << 24) == 0);
    job = open_vm(host, arguments[3], 0, 0, NULL, NULL);
    CHECK(job >> 24 == 3);
    CHECK(wait_for(job, 3010, &vm, 0) == 0 && vm >> 24 == 3);
    release(job);

    /* A third: the same guest has the same handle. */
    Handle again = 0;
    CHECK(init(4 << 24) == 0);
    job = open_vm(host, arguments[3], 0, 0, NULL, NULL);
    CHECK(wait_for(job, 3010, &again, 0) == 0 && again == vm);
    release(job);
    release(again);
    CHECK(kind(vm) == 3);

    /* More arguments than the registers hold. */
    int cpus = -1, memory = -1, power = -1, features = -1;
    char *name = NULL, *path = NULL;
    unsigned char running[2] = {7, 7};
    CHECK(get(vm, 101, &cpus, 106, &memory, 108, &name, 103, &path, 129, &power, 196, running, 197,
              &features, 0) == 0);
    CHECK(cpus == 1 && memory == 256 && power == 2 && features == 4);
    CHECK(!strcmp(name, "c guest") && !strcmp(path, arguments[3]));
    CHECK(running[0] == 0 && running[1] == 7);
    free_buffer(name);
    free_buffer(path);
    CHECK((get(vm, 4711, &cpus, 0) & 0xFFFF) == 6000);
    CHECK(get(vm, 0) == 0);

    CHECK(make_list(host, &list, 7001, "secret", 0) == 0 && kind(list) == 9);
    char *secret = NULL;
    CHECK(get(list, 7001, &secret, 0) == 0 && !strcmp(secret, "secret"));
    free_buffer(secret);
    release(list);
    CHECK(kind(list) == 0);

    job = take(vm, "from C", "", 0, 0, NULL, NULL);
    CHECK(wait_for(job, 3010, &snapshot, 0) == 0 && kind(snapshot) == 7);
    CHECK((get_nth(job, 0, 4010, &name, 0) & 0xFFFF) == 8000);
    release(job);

    /* A job that the wrapper makes for a call it cannot route. */
    completed = 0;
    job = make_job(on_event, &completed);
    CHECK((get(job, 3000, &features, 0) & 0xFFFF) == 29);
    finish(job, 0, 6, 3010, 0);
    CHECK(completed == 1);
    CHECK(wait_for(job, 0) == 6);
    release(job);

    disconnect(host);
    CHECK(kind(vm) == 0 && kind(snapshot) == 0);
    printf("all well\n");
    return 0;
}
