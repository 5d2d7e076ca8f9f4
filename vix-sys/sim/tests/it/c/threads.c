/* Several threads on one connection: they wait for one job, open one guest, and see the connection end. The guest
 * `slow` of `alpha` takes a moment to open, and `deaf` never shuts down. */

#include "check.h"

#include <pthread.h>
#include <semaphore.h>

enum { THREADS = 8 };

static VixHandle host, job;

static void *wait_for_job(void *result) {
    CHECK_CODE(VixJob_Wait(job, 3010, (VixHandle *)result, 0), 0);
    return NULL;
}

static void *open_and_ask(void *result) {
    for (int turn = 0; turn < 20; turn++) {
        VixHandle vm = made(VixVM_Open(host, "[standard] web/web.vmx", NULL, NULL));
        int power = 0;
        char *name = NULL;
        CHECK_CODE(Vix_GetProperties(vm, 129, &power, 108, &name, 0), 0);
        CHECK(power == 2 && !strcmp(name, "web"));
        Vix_FreeBuffer(name);
        Vix_ReleaseHandle(vm);
    }
    (void)result;
    return NULL;
}

static void on_threads(void *(*work)(void *), VixHandle *results) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, &results[i]) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static sem_t ended;
static VixError last_error;

static void on_end(VixHandle own, VixEventType event, VixHandle more, void *data) {
    (void)own;
    (void)more;
    (void)data;
    if (event == VIX_EVENTTYPE_JOB_COMPLETED)
        sem_post(&ended);
}

static void *wait_for_end(void *data) {
    (void)data;
    last_error = VixJob_Wait(job, 0);
    return NULL;
}

int main(void) {
    VixHandle results[THREADS] = {0};
    CHECK(sem_init(&ended, 0, 0) == 0);
    host = connect_to(10, "https://alpha/sdk");

    /* Each waiter has a reference of its own to what the job made. */
    job = VixVM_Open(host, "[standard] slow/slow.vmx", NULL, NULL);
    on_threads(wait_for_job, results);
    Vix_ReleaseHandle(job);
    for (int i = 0; i < THREADS; i++) {
        CHECK(results[i] == results[0] && Vix_GetHandleType(results[0]) == 3);
        Vix_ReleaseHandle(results[i]);
    }
    CHECK(Vix_GetHandleType(results[0]) == 0);
    on_threads(open_and_ask, results);
    CHECK(live_handles() == 1);

    /* A job that is released more often than it may be leaves nothing either. */
    job = VixVM_Open(host, "[standard] slow/slow.vmx", on_end, NULL);
    Vix_ReleaseHandle(job);
    Vix_ReleaseHandle(job);
    Vix_ReleaseHandle(job);
    sem_wait(&ended);
    while (live_handles() != 1)
        ;

    /* Jobs that end after Disconnect: what they make belongs to nobody. */
    for (int i = 0; i < THREADS; i++)
        CHECK(VixVM_Open(host, "[standard] slow/slow.vmx", on_end, NULL) != 0);
    VixHandle vm = made(VixVM_Open(host, "[standard] deaf/deaf.vmx", NULL, NULL));
    CHECK_CODE(done(VixVM_PowerOn(vm, 0, 0, NULL, NULL)), 0);
    job = VixVM_PowerOff(vm, 4, on_end, NULL);
    pthread_t waiter;
    CHECK(pthread_create(&waiter, NULL, wait_for_end, NULL) == 0);
    VixHost_Disconnect(host);
    CHECK(live_handles() == 0);
    for (int i = 0; i < THREADS + 1; i++)
        sem_wait(&ended);
    CHECK(pthread_join(waiter, NULL) == 0);
    /* It was waiting, or came too late. */
    CHECK(VIX_ERROR_CODE(last_error) == 26 || VIX_ERROR_CODE(last_error) == 1000);
    CHECK(live_handles() == 0);
    printf("all well\n");
    return 0;
}
