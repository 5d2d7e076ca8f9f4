/* Calls functions with a variable number of arguments from the very end of a stack of its own: behind the caller's
 * arguments comes memory that nobody may read. */

#include "check.h"

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static ucontext_t home, away;
static VixHandle host;
static VixError errors[4];
static int type_of_host;
static VixHandle list, nothing;

static void few_arguments(void) {
    errors[0] = Vix_GetProperties(host, 50, &type_of_host, 0);
    errors[1] = VixJob_Wait(nothing, 0);
    errors[2] = VixJob_GetNthProperties(nothing, 0, 0);
    errors[3] = VixPropertyList_AllocPropertyList(host, &list, 0);
}

int main(void) {
    host = connect_to(10, "https://alpha/sdk");
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = 64 * page;
    char *stack = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(stack != MAP_FAILED);
    CHECK(mprotect(stack + size, page, PROT_NONE) == 0);
    CHECK(getcontext(&away) == 0);
    away.uc_stack.ss_sp = stack;
    away.uc_stack.ss_size = size;
    away.uc_link = &home;
    makecontext(&away, few_arguments, 0);
    CHECK(swapcontext(&home, &away) == 0);
    CHECK(errors[0] == 0 && type_of_host == 10);
    CHECK_CODE(errors[1], 1000);
    CHECK_CODE(errors[2], 1000);
    CHECK(errors[3] == 0 && Vix_GetHandleType(list) == 9);
    VixHost_Disconnect(host);
    printf("all well\n");
    return 0;
}
