/* What the programs of these tests share: a check that ends the program, and waiting for jobs. */

#ifndef CHECK_H
#define CHECK_H

#include "vix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                             \
    do {                                                                                             \
        if (!(condition)) {                                                                          \
            printf("%s, line %d: not so: %s\n", __FILE__, __LINE__, #condition);                     \
            exit(1);                                                                                 \
        }                                                                                            \
    } while (0)

/* The value of a call that must be another, for the message. */
#define CHECK_CODE(call, expected)                                                                   \
    do {                                                                                             \
        int code_ = VIX_ERROR_CODE(call);                                                            \
        if (code_ != (expected)) {                                                                   \
            printf("%s, line %d: %s is %d, not %d\n", __FILE__, __LINE__, #call, code_, (expected)); \
            exit(1);                                                                                 \
        }                                                                                            \
    } while (0)

/* Waits for a job that makes nothing, and releases it. */
static inline VixError done(VixHandle job) {
    CHECK(job != VIX_INVALID_HANDLE);
    VixError error = VixJob_Wait(job, VIX_PROPERTY_NONE);
    Vix_ReleaseHandle(job);
    return error;
}

/* Waits for a job, releases it, and gives what it has made. */
static inline VixHandle made(VixHandle job) {
    VixHandle handle = VIX_INVALID_HANDLE;
    CHECK(job != VIX_INVALID_HANDLE);
    CHECK_CODE(VixJob_Wait(job, 3010, &handle, VIX_PROPERTY_NONE), 0);
    Vix_ReleaseHandle(job);
    CHECK(handle != VIX_INVALID_HANDLE);
    return handle;
}

static inline VixHandle connect_to(int provider, const char *name) {
    return made(VixHost_Connect(VIX_API_VERSION, provider, name, 0, "backup", "lab password", 0, 0, NULL, NULL));
}

/* The handles of the library that are live. It counts them up from 1. */
static inline int live_handles(void) {
    int live = 0;
    for (VixHandle handle = 1; handle < 20000; handle++)
        live += Vix_GetHandleType(handle) != 0;
    return live;
}

#endif
