/* Everything by callbacks, as in the samples of the reference: each step begins where the one before it ends, on a
 * thread of the library, and each job is released by its own callback. `server` (Server 2.0) has two guests. */

#include "check.h"

#include <semaphore.h>

enum { GUESTS = 2 };

static sem_t over;
static VixHandle host, kept[GUESTS];
static int found, stopped;

static void on_power_off(VixHandle job, VixEventType event, VixHandle more, void *data) {
    VixHandle vm = (VixHandle)(intptr_t)data;
    if (event != VIX_EVENTTYPE_JOB_COMPLETED)
        return;
    CHECK(more == 0 && Vix_GetHandleType(vm) == 3);
    CHECK_CODE(VixJob_GetError(job), 3006);
    Vix_ReleaseHandle(vm);
    Vix_ReleaseHandle(job);
    if (__atomic_add_fetch(&stopped, 1, __ATOMIC_SEQ_CST) == GUESTS)
        sem_post(&over);
}

static void on_open(VixHandle job, VixEventType event, VixHandle more, void *data) {
    VixHandle vm = 0;
    VixError error = 5;
    char *path = NULL;
    if (event != VIX_EVENTTYPE_JOB_COMPLETED)
        return;
    CHECK(more == 0);
    CHECK_CODE(Vix_GetProperties(job, 3000, &error, 3010, &vm, 0), 0);
    CHECK(error == 0 && vm != 0);
    CHECK_CODE(Vix_GetProperties(vm, 103, &path, 0), 0);
    CHECK(!strcmp(path, data));
    Vix_FreeBuffer(path);
    free(data);
    CHECK(VixVM_PowerOff(vm, 0, on_power_off, (void *)(intptr_t)vm) != 0);
    Vix_ReleaseHandle(job);
}

static void on_item(VixHandle job, VixEventType event, VixHandle more, void *data) {
    char *location = NULL;
    VixHandle result = 0;
    Bool complete = 7;
    (void)data;
    if (event == VIX_EVENTTYPE_JOB_COMPLETED) {
        /* Its own job has ended for it. */
        CHECK_CODE(VixJob_Wait(job, 0), 0);
        Vix_ReleaseHandle(job);
    }
    if (event != VIX_EVENTTYPE_FIND_ITEM)
        return;
    CHECK_CODE(VixJob_GetError(job), 29);
    CHECK_CODE(VixJob_CheckCompletion(job, &complete), 0);
    CHECK(complete == 0);
    CHECK_CODE(Vix_GetProperties(job, 3010, &result, 0), 29);
    CHECK_CODE(Vix_GetProperties(more, 4010, &location, 0), 0);
    /* The datacenter comes before the path. */
    char *path = strdup(strchr(location, '['));
    CHECK(found < GUESTS);
    Vix_AddRefHandle(more);
    kept[found++] = more;
    Vix_FreeBuffer(location);
    CHECK(VixVM_Open(host, path, on_open, path) != 0);
}

static void on_connect(VixHandle job, VixEventType event, VixHandle more, void *data) {
    (void)more;
    if (event != VIX_EVENTTYPE_JOB_COMPLETED)
        return;
    CHECK_CODE(Vix_GetProperties(job, 3010, &host, 0), 0);
    CHECK(VixHost_FindItems(host, 4, 0, -1, on_item, data) != 0);
    Vix_ReleaseHandle(job);
}

static void on_last(VixHandle job, VixEventType event, VixHandle more, void *data) {
    (void)more;
    (void)data;
    if (event != VIX_EVENTTYPE_JOB_COMPLETED)
        return;
    VixHost_Disconnect(host);
    CHECK_CODE(VixJob_GetError(job), 1000);
    sem_post(&over);
}

int main(void) {
    CHECK(sem_init(&over, 0, 0) == 0);
    VixHost_Connect(VIX_API_VERSION, 10, "https://server:8333/sdk", 0, "backup", "lab password", 0, 0, on_connect, NULL);
    sem_wait(&over);
    CHECK(found == GUESTS);
    /* A list that was kept stays as it was, until the connection ends. */
    for (int i = 0; i < GUESTS; i++) {
        char *location = NULL;
        CHECK_CODE(Vix_GetProperties(kept[i], 4010, &location, 0), 0);
        CHECK(!strncmp(location, "ha-datacenter/[standard] ", 25));
        Vix_FreeBuffer(location);
    }
    Vix_ReleaseHandle(kept[0]);
    CHECK(Vix_GetHandleType(kept[0]) == 0);
    VixHost_FindItems(host, 1, 0, -1, on_last, NULL);
    sem_wait(&over);
    CHECK(live_handles() == 0);
    printf("all well\n");
    return 0;
}
