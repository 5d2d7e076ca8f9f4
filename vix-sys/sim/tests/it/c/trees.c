/* Trees of snapshots with names that nobody would give them. `alpha` (ESXi) has the guests `web` and `mail`. */

#include "check.h"

static VixHandle host, vm;

static VixHandle take(const char *name, const char *description) {
    return made(VixVM_CreateSnapshot(vm, name, description, 0, 0, NULL, NULL));
}

/* The number of snapshots from one on downwards, each with its parent. */
static int count_from(VixHandle snapshot) {
    int children = -1, count = 1;
    VixHandle child = 0, parent = 0;
    CHECK_CODE(VixSnapshot_GetNumChildren(snapshot, &children), 0);
    for (int i = 0; i < children; i++) {
        CHECK_CODE(VixSnapshot_GetChild(snapshot, i, &child), 0);
        CHECK_CODE(VixSnapshot_GetParent(child, &parent), 0);
        CHECK(Vix_GetHandleType(parent) == 7);
        count += count_from(child);
        Vix_ReleaseHandle(parent);
        Vix_ReleaseHandle(child);
    }
    CHECK_CODE(VixSnapshot_GetChild(snapshot, children, &child), 13003);
    return count;
}

static int count_all(void) {
    int roots = -1, count = 0;
    VixHandle root = 0;
    CHECK_CODE(VixVM_GetNumRootSnapshots(vm, &roots), 0);
    for (int i = 0; i < roots; i++) {
        CHECK_CODE(VixVM_GetRootSnapshot(vm, i, &root), 0);
        count += count_from(root);
        Vix_ReleaseHandle(root);
    }
    return count;
}

static int named(const char *name) {
    VixHandle snapshot = 0;
    VixError error = VixVM_GetNamedSnapshot(vm, name, &snapshot);
    CHECK((error == 0) == (snapshot != 0));
    Vix_ReleaseHandle(snapshot);
    return VIX_ERROR_CODE(error);
}

int main(void) {
    static const char *const NAMES[] = {"", "a\nb = \"c\"", "quote\"d", "back\\slash", "sla/sh", "|22",
                                        "snow \xE2\x98\x83", "\x1b[31mred", "%s%n%s"};
    enum { NUMBER = sizeof NAMES / sizeof *NAMES };
    VixHandle snapshots[NUMBER], parent = 0;
    int number = 77;
    host = connect_to(10, "alpha");
    vm = made(VixVM_Open(host, "[standard] web/web.vmx", NULL, NULL));
    for (int i = 0; i < NUMBER; i++) {
        char *name = NULL, *description = NULL;
        snapshots[i] = take(NAMES[i], NAMES[NUMBER - 1 - i]);
        CHECK_CODE(Vix_GetProperties(snapshots[i], 4200, &name, 4201, &description, 0), 0);
        CHECK(!strcmp(name, NAMES[i]) && !strcmp(description, NAMES[NUMBER - 1 - i]));
        Vix_FreeBuffer(name);
        Vix_FreeBuffer(description);
    }
    CHECK(count_all() == NUMBER);
    CHECK(named("%s%n%s") == 0 && named("sla/sh") == 13003 && named("//") == 13003 && named("a/b\\c") == 3);

    /* Handles of snapshots that are gone. */
    CHECK_CODE(done(VixVM_RemoveSnapshot(vm, snapshots[0], 1, NULL, NULL)), 0);
    CHECK(count_all() == 0);
    for (int i = 0; i < NUMBER; i++) {
        CHECK_CODE(done(VixVM_RemoveSnapshot(vm, snapshots[i], 0, NULL, NULL)), 13003);
        CHECK_CODE(VixSnapshot_GetNumChildren(snapshots[i], &number), 13003);
        CHECK_CODE(VixSnapshot_GetParent(snapshots[i], &parent), 13003);
        Vix_ReleaseHandle(snapshots[i]);
    }
    CHECK(number == 77 && parent == 0);

    /* Paths, a name that is there twice, and a child that moves up. */
    VixHandle a = take("a", ""), b = take("b", ""), c = take("c", "");
    take("a", "");
    CHECK(named("a") == 13017 && named("a/b/c") == 0 && named("a\\b\\c\\a") == 0 && named("b/c") == 13003);
    CHECK_CODE(done(VixVM_RemoveSnapshot(vm, b, 0, NULL, NULL)), 0);
    CHECK(named("a/c/a") == 0 && count_all() == 3);
    CHECK_CODE(VixSnapshot_GetNumChildren(a, &number), 0);
    CHECK(number == 1);
    VixHandle mail = made(VixVM_Open(host, "[standard] mail/mail.vmx", NULL, NULL));
    CHECK_CODE(done(VixVM_RemoveSnapshot(mail, c, 0, NULL, NULL)), 13003);

    /* Paths of guests. */
    static const char *const PATHS[] = {"", "/", "[standard]", "[standard] ../../../etc/passwd", "[] x", "x",
                                        "[standard] \n.vmx", "[standard] <a>&.vmx"};
    for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++) {
        CHECK_CODE(done(VixVM_Open(host, PATHS[i], NULL, NULL)), 4000);
        CHECK(done(VixHost_RegisterVM(host, PATHS[i], NULL, NULL)) != 0);
    }
    CHECK_CODE(done(VixHost_UnregisterVM(host, "/", NULL, NULL)), 0);
    VixHost_Disconnect(host);
    CHECK(live_handles() == 0);
    printf("all well\n");
    return 0;
}
